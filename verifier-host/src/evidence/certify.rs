//! Proof of possession: the attestation key certifies itself, over a challenge.
//!
//! Source: TPM 2.0 Library part 3, section 18.2 (TPM2_Certify); part 2, section 10.12.12 (`TPMS_ATTEST`).

use agent_core::wire::bytes::{Reader, Truncated};
use agent_core::wire::quote::Signature;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::public::AkPublic;
use super::signature;

/// Why a proof of possession doesn't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not a `TPMS_ATTEST` of a certification, or no signature that can be checked.
    #[error("the proof of possession is malformed")]
    Malformed,
    /// It attests something else than a certification: a quote, for one.
    #[error("the proof of possession has type 0x{got:04x}, a certification has 0x8017")]
    Type {
        /// The `TPMI_ST_ATTEST` that is there.
        got: u16,
    },
    /// It answers another challenge.
    #[error("the proof of possession answers another challenge")]
    Challenge,
    /// It certifies another key than the registered one.
    #[error("the proof of possession certifies another key than the registered one")]
    Name,
    /// The registered key didn't sign it.
    #[error("the proof of possession isn't signed by the registered attestation key")]
    Signature,
}

/// Checks a marshalled `TPMS_ATTEST` and `TPMT_SIGNATURE`: this key says of itself that it is in its TPM, now.
///
/// # Errors
/// [`ProofError`].
pub fn check(
    ak: &AkPublic,
    message: &[u8],
    signature: &[u8],
    challenge: &[u8],
) -> Result<(), ProofError> {
    let signature = Signature::parse(signature).map_err(|_| ProofError::Malformed)?;
    if !signature::holds(ak, message, &signature) {
        return Err(ProofError::Signature);
    }
    let mut fields = Reader::new(message);
    if fields.u32_be()? != TPM_GENERATED {
        return Err(ProofError::Malformed);
    }
    let got = fields.u16_be()?;
    if got != ATTEST_CERTIFY {
        return Err(ProofError::Type { got });
    }
    let _qualified_signer = fields.sized()?;
    let extra_data = fields.sized()?;
    let _clock_and_firmware = fields.take(17 + 8)?;
    let name = fields.sized()?;
    let _qualified_name = fields.sized()?;
    if !fields.rest().is_empty() {
        return Err(ProofError::Malformed);
    }
    if !bool::from(extra_data.ct_eq(challenge)) {
        return Err(ProofError::Challenge);
    }
    if name != ak.name().as_bytes() {
        return Err(ProofError::Name);
    }
    Ok(())
}

impl From<Truncated> for ProofError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// `TPM_GENERATED_VALUE`.
const TPM_GENERATED: u32 = 0xFF54_4347;

/// `TPM_ST_ATTEST_CERTIFY`.
const ATTEST_CERTIFY: u16 = 0x8017;
