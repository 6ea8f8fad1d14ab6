//! The head of a copy: what the TPM sealed, to what, and when, bound together by K.

use super::super::deposit::Wanted;
use crate::payload::halves::{AUTH_TAG_BYTES, Key};
use crate::tpm::MAX_KEPT_BYTES;
use crate::wire::bytes::Reader;
use crate::wire::manifest::PayloadId;
use crate::wire::quote::{HashAlg, PcrMask};

/// The longest head of a copy. The deposit's answer, as the verifier sent it, follows.
pub const MAX_COPY_HEAD_BYTES: usize = FACTS_BYTES + AUTH_TAG_BYTES + 2 + MAX_KEPT_BYTES;

/// A head's bytes.
pub(in super::super) type HeadBytes = heapless::Vec<u8, MAX_COPY_HEAD_BYTES>;

/// What is said of a copy. Whoever writes to the disk can change it, and K tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// When it was kept, in seconds since 1970.
    pub(super) kept_at: u64,
    /// The TPM's clock in the quote that passed.
    pub(super) clock_ms: u64,
    /// The bank of the PCRs that it is sealed to.
    pub(super) bank: HashAlg,
    /// These PCRs.
    pub(super) pcrs: PcrMask,
    /// The deposit.
    pub(super) payload_id: PayloadId,
    /// SHA-256 of its manifest.
    pub(super) manifest: [u8; 32],
}

/// A head, taken apart.
pub(super) struct Head<'b> {
    pub(super) facts: Facts,
    tag: [u8; AUTH_TAG_BYTES],
    /// What the TPM gives K for.
    pub(super) blob: &'b [u8],
}

impl Facts {
    fn message(&self) -> heapless::Vec<u8, FACTS_BYTES> {
        let mut message = heapless::Vec::new();
        for part in [
            KIND,
            &self.kept_at.to_be_bytes(),
            &self.clock_ms.to_be_bytes(),
            &self.bank.tpm_id().to_be_bytes(),
            &self.pcrs.to_select(),
            &self.payload_id.0,
            &self.manifest,
        ] {
            // Sized by these.
            let _ = message.extend_from_slice(part);
        }
        message
    }

    /// The head's bytes, with what the TPM sealed.
    pub(super) fn seal(&self, key: &Key, blob: &[u8]) -> Option<HeadBytes> {
        let message = self.message();
        let length = u16::try_from(blob.len()).ok()?.to_be_bytes();
        let mut head = HeadBytes::new();
        for part in [&*message, &key.auth_tag(&message), &length, blob] {
            head.extend_from_slice(part).ok()?;
        }
        Some(head)
    }

    /// Whether it is about this deposit.
    pub(super) fn is_of(&self, wanted: &Wanted) -> bool {
        let manifest = &wanted.manifest;
        self.payload_id == manifest.payload_id
            && self.manifest == wanted.digest()
            && self.bank == manifest.cap.bank
            && self.pcrs.contains(manifest.cap.pcr)
    }
}

impl<'b> Head<'b> {
    /// Reads a copy's head, and returns what follows it.
    pub(super) fn parse(copy: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let mut reader = Reader::new(copy.strip_prefix(KIND)?);
        let kept_at = u64::from_be_bytes(reader.array().ok()?);
        let clock_ms = u64::from_be_bytes(reader.array().ok()?);
        let bank = HashAlg::from_tpm_id(u16::from_be_bytes(reader.array().ok()?))?;
        let pcrs = PcrMask::from_select(reader.array().ok()?);
        let facts = Facts {
            kept_at,
            clock_ms,
            bank,
            pcrs,
            payload_id: PayloadId(reader.array().ok()?),
            manifest: reader.array().ok()?,
        };
        let tag = reader.array().ok()?;
        let blob = reader.sized().ok()?;
        let head = Self { facts, tag, blob };
        (blob.len() <= MAX_KEPT_BYTES).then_some((head, reader.rest()))
    }

    /// Whether this key's owner wrote these facts.
    pub(super) fn is_by(&self, key: &Key) -> bool {
        key.matches(&self.facts.message(), &self.tag)
    }
}

/// No identifier has a zero byte: what K says of one is never this.
const KIND: &[u8] = b"keyhalf/1 last good\0";
const FACTS_BYTES: usize = KIND.len() + 8 + 8 + 2 + 3 + 8 + 32;
