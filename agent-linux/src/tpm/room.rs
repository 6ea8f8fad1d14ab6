//! Places for objects and sessions: which are taken, and what to do when none is free.

use super::commands::Commands;
use super::error::TpmError;

/// Does work that loads objects or sessions; if the TPM has no place for them, makes room and does it once more.
///
/// # Errors
/// Those of `work`, or of making room.
pub(super) fn with_room<C: Commands, T>(
    tpm: &mut C,
    mut work: impl FnMut(&mut C) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    match work(tpm) {
        Err(error) if error.is_out_of_room() && !tpm.is_shared() => {
            make_room(tpm)?;
            work(tpm)
        }
        result => result,
    }
}

/// Whether exactly this handle is in use.
///
/// # Errors
/// [`TpmError::Command`].
pub(super) fn has_handle<C: Commands>(tpm: &mut C, handle: u32) -> Result<bool, TpmError> {
    Ok(tpm.handles(handle, 1)?.first() == Some(&handle))
}

/// Frees the places that a killed agent left taken.
///
/// Behind a resource manager each user has places of its own, and a killed one's are freed by it: nothing to do there. A bare
/// TPM has three in all and no one else who could free them.
///
/// # Errors
/// [`TpmError::Command`].
fn make_room<C: Commands>(tpm: &mut C) -> Result<(), TpmError> {
    let mut stale = tpm.handles(TRANSIENT_FIRST, MAX_STALE)?;
    stale.extend(tpm.handles(LOADED_SESSION_FIRST, MAX_STALE)?);
    for handle in &stale {
        tpm.flush_foreign(*handle)?;
    }
    log::warn!(
        "freed {} places that a killed process had left taken in the TPM",
        stale.len()
    );
    Ok(())
}

/// Source: TPM 2.0 Library part 2, table 29.
pub(super) const TRANSIENT_FIRST: u32 = 0x8000_0000;
/// Source: TPM 2.0 Library part 2, table 29.
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
/// More places than a TPM without resource manager has.
const MAX_STALE: u32 = 64;
