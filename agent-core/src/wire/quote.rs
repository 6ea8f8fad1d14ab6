//! TPM quotes as Keylime 2.x writes them, and the small values that they are made of.
//!
//! What parses here is well-formed to the last byte; what it is worth (key, nonce, policy) is checked elsewhere.

mod attest;
mod dump;
mod signature;
mod text;

pub use attest::{Attest, AttestError, ClockInfo, MAX_ATTEST_BYTES};
pub use dump::{DumpError, MAX_DUMP_BYTES, PcrDump};
pub use signature::{MAX_SIGNATURE_BYTES, Signature, SignatureError};
pub use text::{Part, QuoteBuffer, QuoteError, QuoteText, QuoteWriter};

pub use crate::wire::bytes::Truncated;

/// The longest text of a quote: `r`, the largest parts in base64, and two colons.
pub const MAX_QUOTE_TEXT_BYTES: usize = 1
    + base64_bytes(MAX_ATTEST_BYTES)
    + 1
    + base64_bytes(MAX_SIGNATURE_BYTES)
    + 1
    + base64_bytes(MAX_DUMP_BYTES);

const fn base64_bytes(raw: usize) -> usize {
    raw.div_ceil(3).saturating_mul(4)
}

/// Number of PCRs in a bank of a PC Client TPM.
///
/// Source: TCG PC Client Platform TPM Profile, section 4.6.
pub const PCR_COUNT: u8 = 24;

/// [`PCR_COUNT`] as the length of an array.
pub const PCR_SLOTS: usize = 24;

/// The largest digest of a supported bank, in bytes (SHA-512).
pub const MAX_DIGEST_BYTES: usize = 64;

/// A hash that names a PCR bank, and the hash of the quote's signature with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlg {
    /// SHA-256, `TPM_ALG_ID` 0x000B.
    Sha256,
    /// SHA-384, `TPM_ALG_ID` 0x000C.
    Sha384,
    /// SHA-512, `TPM_ALG_ID` 0x000D.
    Sha512,
}

impl HashAlg {
    /// The `TPM_ALG_ID`.
    ///
    /// Source: TPM 2.0 Library part 2, table 9.
    #[must_use]
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        }
    }

    /// The algorithm of a `TPM_ALG_ID`, if it is a supported one.
    #[must_use]
    pub const fn from_tpm_id(id: u16) -> Option<Self> {
        match id {
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The name on the wire: `sha256`, `sha384` or `sha512`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of a wire name, if it is a supported one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Size of a digest in bytes.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of the pieces, one after the other.
    #[must_use]
    pub fn digest<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        match self {
            Self::Sha256 => digest_by::<sha2::Sha256>(pieces),
            Self::Sha384 => digest_by::<sha2::Sha384>(pieces),
            Self::Sha512 => digest_by::<sha2::Sha512>(pieces),
        }
    }
}

fn digest_by<'a, H: sha2::Digest>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = H::new();
    for piece in pieces {
        hash.update(piece);
    }
    let mut digest = Digest::new();
    // MAX_DIGEST_BYTES is the longest of these hashes.
    let _ = digest.extend_from_slice(&hash.finalize());
    digest
}

/// The scheme that the attestation key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignAlg {
    /// RSASSA-PKCS1-v1_5, `TPM_ALG_ID` 0x0014.
    Rsassa,
    /// ECDSA over P-256, `TPM_ALG_ID` 0x0018.
    Ecdsa,
}

impl SignAlg {
    /// The name on the wire: `rsassa` or `ecdsa`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsassa => "rsassa",
            Self::Ecdsa => "ecdsa",
        }
    }

    /// The scheme of a wire name, if it is a supported one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "rsassa" => Some(Self::Rsassa),
            "ecdsa" => Some(Self::Ecdsa),
            _ => None,
        }
    }
}

/// A set of PCRs: bit n stands for PCR n, and no bit above [`PCR_COUNT`] is ever set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PcrMask(u32);

impl PcrMask {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set of these bits, or `None` if one of them is no PCR.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >> PCR_COUNT == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The bits, PCR 0 lowest.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of a TPM's bitmap of three bytes, PCR 0 in the lowest bit of the first.
    #[must_use]
    pub const fn from_select(select: [u8; 3]) -> Self {
        let [low, middle, high] = select;
        Self(u32::from_le_bytes([low, middle, high, 0]))
    }

    /// The TPM's bitmap.
    #[must_use]
    pub const fn to_select(self) -> [u8; 3] {
        let [low, middle, high, _] = self.0.to_le_bytes();
        [low, middle, high]
    }

    /// This set and one PCR more; a number that is no PCR changes nothing.
    #[must_use]
    pub const fn with(self, pcr: u8) -> Self {
        if pcr < PCR_COUNT {
            Self(self.0 | 1 << pcr)
        } else {
            self
        }
    }

    /// Whether the PCR is in the set.
    #[must_use]
    pub const fn contains(self, pcr: u8) -> bool {
        pcr < PCR_COUNT && self.0 >> pcr & 1 == 1
    }

    /// The PCRs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |pcr| self.contains(*pcr))
    }
}

/// The value of a PCR, or a digest of its bank.
pub type Digest = heapless::Vec<u8, MAX_DIGEST_BYTES>;

/// Values of PCRs of one bank, each with its number, in ascending order.
pub type PcrValues = heapless::Vec<(u8, Digest), PCR_SLOTS>;

/// A recorded `TPMS_ATTEST` of PCR 16 (Keylime's Rust agent 0.2.9 on swtpm; the last bytes of its digest replaced).
#[cfg(test)]
mod samples {
    use super::{Digest, HashAlg, PcrDump};

    #[rustfmt::skip]
    pub(super) const ATTEST: [u8; 133] = [
        0xFF, 0x54, 0x43, 0x47, 0x80, 0x18, 0x00, 0x22, 0x00, 0x0B, 0xC5, 0x93, 0xF0, 0xA2, 0x93, 0x73,
        0xF6, 0x1A, 0xF5, 0xDB, 0x08, 0x2A, 0x8D, 0xE3, 0xF1, 0xCB, 0x87, 0xCF, 0x3F, 0x11, 0x3C, 0xF5,
        0x6D, 0x07, 0x89, 0x62, 0xFF, 0x41, 0xDB, 0x3C, 0x59, 0x20, 0x00, 0x14, 0x68, 0x78, 0x6C, 0x61,
        0x59, 0x6C, 0x36, 0x4E, 0x45, 0x56, 0x58, 0x48, 0x41, 0x57, 0x50, 0x6A, 0x31, 0x6A, 0x56, 0x34,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x71, 0xB7, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00,
        0x01, 0x20, 0x19, 0x10, 0x23, 0x00, 0x16, 0x36, 0x36, 0x00, 0x00, 0x00, 0x01, 0x00, 0x0B, 0x03,
        0x00, 0x00, 0x01, 0x00, 0x20, 0x98, 0xFC, 0x71, 0x89, 0x13, 0x68, 0xD6, 0x35, 0x7C, 0xD9, 0x7A,
        0x0F, 0x99, 0x62, 0x09, 0xE8, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B,
        0x0C, 0x0D, 0x0E, 0x0F, 0x10,
    ];

    /// A well-formed ECDSA signature of nothing.
    pub(super) const ECDSA: [u8; 72] = {
        let mut bytes = [0x55; 72];
        (bytes[0], bytes[1], bytes[2], bytes[3]) = (0, 0x18, 0, 0x0B);
        (bytes[4], bytes[5], bytes[38], bytes[39]) = (0, 32, 0, 32);
        bytes
    };

    /// Values of a SHA-256 bank.
    pub(super) fn dump(pcrs: &[u8]) -> PcrDump {
        let values = pcrs
            .iter()
            .map(|pcr| (*pcr, Digest::from_slice(&[pcr + 1; 32]).unwrap()));
        PcrDump::new(HashAlg::Sha256, values.collect()).unwrap()
    }
}
