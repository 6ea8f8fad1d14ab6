//! The deposit: whose it is, whom it is for, whether it is the newest, before anything of it is fetched.

use core::fmt;

use sha2::{Digest as _, Sha256};

use super::attesting::Round;
use super::end::{End, Why};
use super::report::Report;
use super::{Moment, Outbound, OutboundConfig, Refusal, Stage};
use crate::payload::release::{Terms, V_BYTES, WRAPPED_V_BYTES};
use crate::payload::segment::{Binding, Segments};
use crate::secret::Secret;
use crate::tpm::{OutboundTpm, name_of};
use crate::wire::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError, PayloadId};
use crate::wire::push::{Code, Deposit, DepositBuffer, Failure, MAX_U_BLOB_BYTES};
use crate::wire::receipt::{Reached, Receipt};
use crate::wire::text::Uuid;

/// How far one manifest may raise the counter.
pub const MAX_FLOOR_STEPS: u64 = 16;

/// Checks the signatures of manifests.
///
/// Implemented by the shell: such algorithms allocate. Whether the certificate is one that this node trusts is the machine's
/// to check.
pub trait Verify {
    /// Whether the signature over the message is by the key of this certificate (DER): ECDSA P-256 with SHA-256, DER.
    ///
    /// # Errors
    /// [`VerifyError`].
    fn verify(&self, signer: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyError>;
}

/// Why a signature doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// The certificate can't be read, or its key is of another kind.
    Certificate,
    /// It isn't that key's.
    Mismatch,
}

/// What is wrong with a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The signing certificate isn't one that this node trusts.
    Signer,
    /// The signature.
    Signature(VerifyError),
    /// The manifest's form.
    Manifest(ManifestError),
    /// The manifest is of another deposit than the verifier says.
    PayloadId,
    /// It is for another node.
    Agent,
    /// It is for another endorsement key.
    EkName,
    /// It is for another attestation key.
    AkName,
    /// It is older than what this node had.
    Floor {
        /// The manifest's; none for one that was made without.
        floor: Option<u64>,
        /// The node's counter.
        counter: u64,
    },
    /// It is further ahead of the node's counter than one deposit may be.
    FloorTooHigh {
        /// The manifest's.
        floor: u64,
        /// The node's counter.
        counter: u64,
    },
    /// The counter that this node is told to have is gone.
    NoCounter,
    /// The blob that holds U isn't the manifest's.
    UBlob,
    /// No payload is sealed to so many bytes.
    Size {
        /// How many the manifest says.
        sealed_bytes: u64,
    },
    /// More sealed bytes than this node takes.
    TooLarge {
        /// How many the manifest says.
        sealed_bytes: u64,
        /// How many are taken.
        limit: u64,
    },
    /// The sealed bytes aren't the manifest's.
    Digest,
    /// V doesn't verify, or is of another deposit.
    V,
    /// U doesn't come out of its blob.
    U,
    /// U and V make another key than the manifest's.
    AuthTag,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signer => out.write_str("it is signed by somebody whom this node doesn't trust"),
            Self::Signature(VerifyError::Certificate) => {
                out.write_str("its signing certificate can't be read")
            }
            Self::Signature(VerifyError::Mismatch) => {
                out.write_str("its manifest's signature is forged")
            }
            Self::Manifest(error) => error.fmt(out),
            Self::PayloadId => out.write_str("its manifest is another deposit's"),
            Self::Agent => out.write_str("it is another node's"),
            Self::EkName => out.write_str("it is for another endorsement key"),
            Self::AkName => out.write_str("it is for another attestation key"),
            Self::Floor {
                floor: Some(floor),
                counter,
            } => write!(
                out,
                "it is an old one: its floor is {floor}, the node's counter is at {counter}"
            ),
            Self::Floor {
                floor: None,
                counter,
            } => write!(
                out,
                "it has no floor, and the node's counter is at {counter}: seal it with --floor"
            ),
            Self::FloorTooHigh { floor, counter } => write!(
                out,
                "its floor {floor} is more than {MAX_FLOOR_STEPS} above the node's counter, which is at {counter}"
            ),
            Self::NoCounter => out.write_str("the node's counter is gone"),
            Self::UBlob => out.write_str("its half from the tenant isn't the one that was signed"),
            Self::Size { sealed_bytes } => {
                write!(out, "no payload is sealed to {sealed_bytes} bytes")
            }
            Self::TooLarge {
                sealed_bytes,
                limit,
            } => write!(
                out,
                "it has {sealed_bytes} sealed bytes, this node takes {limit}"
            ),
            Self::Digest => out.write_str("its sealed bytes aren't the ones that were signed"),
            Self::V => out.write_str("the verifier's half doesn't verify"),
            Self::U => out.write_str("the tenant's half isn't for this TPM"),
            Self::AuthTag => {
                out.write_str("its halves make another key than the one that was signed")
            }
        }
    }
}

/// A deposit that passed every check that can be made before it is opened.
pub(super) struct Wanted {
    pub(super) manifest: Manifest,
    pub(super) segments: Segments,
    /// Its exact bytes.
    bytes: heapless::Vec<u8, MAX_MANIFEST_BYTES>,
    /// U's blob, until it was opened.
    pub(super) u_blob: Option<heapless::Vec<u8, MAX_U_BLOB_BYTES>>,
}

impl Wanted {
    pub(super) const fn binding(&self) -> Binding<'_> {
        Binding {
            agent: &self.manifest.agent,
            payload_id: self.manifest.payload_id,
            count: self.segments.count(),
        }
    }

    /// SHA-256 of the manifest's bytes.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    pub(super) fn script(&self) -> Option<&str> {
        self.manifest.script.as_deref()
    }

    /// V, by the release key of this round, which has served then.
    pub(super) fn unwrap_v(
        &self,
        agent: &Uuid,
        round: &mut Round,
        (payload_id, wrapped): (PayloadId, [u8; WRAPPED_V_BYTES]),
    ) -> Result<Secret<V_BYTES>, Fault> {
        let key = round.key.take().ok_or(Fault::V)?;
        if payload_id != self.manifest.payload_id {
            return Err(Fault::V);
        }
        let terms = Terms {
            agent,
            challenge: &round.chosen.challenge,
            manifest: &self.bytes,
        };
        key.unwrap(&terms, &wrapped).map_err(|_| Fault::V)
    }
}

impl Outbound {
    /// A deposit has come: takes or refuses it.
    // Never inlined: its buffer is off the stack when the next request is made.
    #[inline(never)]
    pub(super) fn take_deposit<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        body: &[u8],
        verify: &impl Verify,
        tpm: &mut T,
    ) {
        let mut buffer = DepositBuffer::default();
        let deposit = match Deposit::from_answer(body, &mut buffer) {
            Ok(deposit) => deposit,
            Err(error) => return self.bad_answer(moment, error.into()),
        };
        self.pauses.accepted();
        if self.refused == Some(deposit.payload_id) {
            self.stage = Stage::Offer;
            return;
        }
        self.report = Some(Report::new(deposit.payload_id, self.config.hash));
        match check(&self.config, &deposit, verify, tpm) {
            Ok(wanted) => {
                self.heed_manifest(&wanted.manifest);
                self.report = Some(Report::of(&wanted.manifest));
                self.wanted = Some(wanted);
                self.tries.attestations = 0;
                self.stage = Stage::Fetch;
            }
            Err(end) => {
                self.refused = Some(deposit.payload_id);
                self.leave(end);
            }
        }
    }

    /// There is no deposit, or the verifier knows nothing of deposits.
    pub(super) fn no_deposit(&mut self, moment: &Moment<'_>, failure: &Failure) {
        match self.config.mode {
            // Attesting goes on, and the next round asks again.
            super::Mode::Push => self.stage = Stage::Offer,
            super::Mode::Provision => match failure.code {
                Code::NoPayload => self.pauses.back_off(moment, Why::NoPayload),
                Code::NotEnrolled => self.pauses.back_off(moment, Why::NotEnrolled),
                _ => self.leave(End::Refused(Refusal::of(failure))),
            },
        }
    }
}

/// Every check before anything is fetched, in the order of the specification.
pub(super) fn check<T: OutboundTpm>(
    config: &OutboundConfig,
    deposit: &Deposit<'_>,
    verify: &impl Verify,
    tpm: &mut T,
) -> Result<Wanted, End> {
    let sha256 = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    let ensure = |is_right: bool, fault: Fault| match is_right {
        true => Ok(()),
        false => Err(End::BadPayload(fault)),
    };
    ensure(
        config.signers.contains(&sha256(deposit.signer)),
        Fault::Signer,
    )?;
    verify
        .verify(deposit.signer, deposit.manifest, deposit.signature)
        .map_err(|error| End::BadPayload(Fault::Signature(error)))?;
    let manifest = Manifest::parse(deposit.manifest)
        .map_err(|error| End::BadPayload(Fault::Manifest(error)))?;
    ensure(manifest.payload_id == deposit.payload_id, Fault::PayloadId)?;
    ensure(manifest.agent == config.agent, Fault::Agent)?;
    let identity = tpm.identity();
    ensure(
        manifest.ek_name == name_of(&identity.ek_public),
        Fault::EkName,
    )?;
    ensure(
        manifest.ak_name == name_of(&identity.ak_public),
        Fault::AkName,
    )?;
    check_floor(config, manifest.floor, tpm)?;
    ensure(
        sha256(deposit.u_blob) == manifest.u_blob_sha256,
        Fault::UBlob,
    )?;
    let (sealed_bytes, limit) = (manifest.sealed_bytes, config.max_sealed_bytes);
    ensure(
        sealed_bytes <= limit,
        Fault::TooLarge {
            sealed_bytes,
            limit,
        },
    )?;
    let segments =
        Segments::of_sealed(sealed_bytes).ok_or(End::BadPayload(Fault::Size { sealed_bytes }))?;
    Ok(Wanted {
        segments,
        // Both were bounded by their buffers.
        bytes: heapless::Vec::from_slice(deposit.manifest).unwrap_or_default(),
        u_blob: heapless::Vec::from_slice(deposit.u_blob).ok(),
        manifest,
    })
}

/// The counter must not be above the floor, nor far below it.
pub(super) fn check_floor<T: OutboundTpm>(
    config: &OutboundConfig,
    floor: Option<u64>,
    tpm: &mut T,
) -> Result<(), End> {
    let Some(index) = config.counter else {
        return Ok(());
    };
    let counter = tpm.counter(index);
    let counter = counter.map_err(|error| End::Tpm(Receipt::reason(error)))?;
    let counter = counter.ok_or(End::BadPayload(Fault::NoCounter))?;
    match floor {
        Some(floor) if floor >= counter => match floor.saturating_sub(counter) {
            0..=MAX_FLOOR_STEPS => Ok(()),
            _ => Err(End::BadPayload(Fault::FloorTooHigh { floor, counter })),
        },
        _ => Err(End::BadPayload(Fault::Floor { floor, counter })),
    }
}

impl Report {
    /// A report on a deposit whose manifest is refused.
    fn new(payload_id: PayloadId, bank: crate::wire::quote::HashAlg) -> Self {
        Self {
            payload_id,
            bank,
            cap_pcr: crate::wire::manifest::DEFAULT_CAP_PCR,
            reached: Reached::Refused,
            script: None,
            error: None,
        }
    }

    fn of(manifest: &Manifest) -> Self {
        Self {
            payload_id: manifest.payload_id,
            bank: manifest.cap.bank,
            cap_pcr: manifest.cap.pcr,
            reached: Reached::Refused,
            script: None,
            error: None,
        }
    }
}
