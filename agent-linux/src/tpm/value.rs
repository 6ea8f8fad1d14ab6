//! Values on their way to the agent and from it, each with its bounds.

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_CREDENTIAL_BYTES, Opened};

use super::error::TpmError;

/// The contents of a TPM2B: two bytes of size, then exactly so many bytes.
///
/// # Errors
/// [`TpmError::Malformed`], [`TpmError::Size`].
///
/// Source: TPM 2.0 Library part 2, section 10.4.1.
pub(super) fn sized<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], TpmError> {
    let (size, contents) = bytes
        .split_first_chunk()
        .ok_or(TpmError::Malformed { what })?;
    let need = usize::from(u16::from_be_bytes(*size));
    if need != contents.len() {
        return Err(TpmError::Size {
            what,
            need,
            have: contents.len(),
        });
    }
    Ok(contents)
}

/// A copy of what mustn't be longer than `N` bytes.
///
/// # Errors
/// [`TpmError::Size`].
pub(super) fn bounded<const N: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<heapless::Vec<u8, N>, TpmError> {
    heapless::Vec::from_slice(bytes).map_err(|_| TpmError::Size {
        what,
        need: N,
        have: bytes.len(),
    })
}

/// A copy of decrypted bytes that is wiped when it goes.
///
/// # Errors
/// [`TpmError::Size`].
pub(super) fn opened(what: &'static str, plain: &[u8]) -> Result<Opened, TpmError> {
    let mut bytes = Secret::zeroed();
    match bytes.as_mut().get_mut(..plain.len()) {
        Some(place) => place.copy_from_slice(plain),
        None => {
            return Err(TpmError::Size {
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

/// A copy of a secret of exactly `N` bytes.
///
/// # Errors
/// [`TpmError::Size`].
pub(super) fn secret<const N: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<Secret<N>, TpmError> {
    <&[u8; N]>::try_from(bytes)
        .map(Secret::copy_of)
        .map_err(|_| TpmError::Size {
            what,
            need: N,
            have: bytes.len(),
        })
}
