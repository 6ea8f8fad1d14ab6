//! Between the TPM's marshalled structures and the library's, each with its bounds.

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_CREDENTIAL_BYTES, Opened};
use tss_esapi::structures::Public;
use tss_esapi::traits::Marshall;

use super::error::TssError;

/// The contents of a TPM2B: two bytes of size, then exactly so many bytes.
pub(super) fn sized<'a>(
    what: &'static str,
    bytes: &'a [u8],
    most: usize,
) -> Result<&'a [u8], TssError> {
    let (size, contents) = bytes
        .split_first_chunk()
        .ok_or(TssError::Malformed { what })?;
    let need = usize::from(u16::from_be_bytes(*size));
    if need != contents.len() {
        return Err(TssError::Size {
            what,
            need,
            have: contents.len(),
        });
    }
    if need > most {
        return Err(TssError::Size {
            what,
            need: most,
            have: need,
        });
    }
    Ok(contents)
}

/// A TPM2B_PUBLIC.
pub(super) fn marshal<const N: usize>(public: &Public) -> Result<heapless::Vec<u8, N>, TssError> {
    const WHAT: &str = "TPM2B_PUBLIC";
    let area = public
        .marshall()
        .map_err(|_| TssError::Malformed { what: WHAT })?;
    let size = u16::try_from(area.len()).map_err(|_| TssError::Malformed { what: WHAT })?;
    heapless::Vec::from_slice(&[&size.to_be_bytes(), area.as_slice()].concat()).map_err(|_| {
        TssError::Size {
            what: WHAT,
            need: N,
            have: area.len(),
        }
    })
}

pub(super) fn bounded<const N: usize>(
    what: &'static str,
    value: &impl Marshall,
) -> Result<heapless::Vec<u8, N>, TssError> {
    let bytes = value.marshall().map_err(|_| TssError::Malformed { what })?;
    heapless::Vec::from_slice(&bytes).map_err(|_| TssError::Size {
        what,
        need: N,
        have: bytes.len(),
    })
}

pub(super) fn opened(what: &'static str, plain: &[u8]) -> Result<Opened, TssError> {
    let mut bytes = Secret::zeroed();
    match bytes.as_mut().get_mut(..plain.len()) {
        Some(place) => place.copy_from_slice(plain),
        None => {
            return Err(TssError::Size {
                what,
                need: MAX_CREDENTIAL_BYTES,
                have: plain.len(),
            });
        }
    }
    Ok(Opened {
        bytes,
        len: plain.len(),
    })
}
