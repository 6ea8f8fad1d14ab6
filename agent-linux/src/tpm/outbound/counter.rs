//! The floor: an NV counter that only goes up, and that survives whoever removes it, because a new counter starts above the
//! highest that the TPM ever had.
//!
//! Source: TPM 2.0 Library part 1, section 37.2.4 (NV counters).

use super::commands::OutboundCommands;
use crate::tpm::commands::NvPublic;
use crate::tpm::error::TpmError;
use crate::tpm::room::has_handle;

/// The counter's value, or `None` if nothing is at that index.
///
/// # Errors
/// The TPM's, among them that it was made and never raised; [`TpmError::NoCounter`].
pub(super) fn read<C: OutboundCommands>(tpm: &mut C, index: u32) -> Result<Option<u64>, TpmError> {
    if found(tpm, index)?.is_none() {
        return Ok(None);
    }
    let mut value = [0; COUNTER_BYTES];
    tpm.nv_read(index, 0, &mut value)?;
    Ok(Some(u64::from_be_bytes(value)))
}

/// Makes the counter if it isn't there, and returns its value.
///
/// # Errors
/// The TPM's; [`TpmError::OwnerPassword`]; [`TpmError::NoCounter`].
pub(super) fn create<C: OutboundCommands>(tpm: &mut C, index: u32) -> Result<u64, TpmError> {
    let has_value = match found(tpm, index)? {
        Some(public) => public.attributes & WRITTEN != 0,
        None => {
            tpm.nv_define_counter(index, ATTRIBUTES)?;
            false
        }
    };
    if !has_value {
        // Without it the counter has no value, and can't be read.
        tpm.nv_increment(index)?;
    }
    read(tpm, index)?.ok_or(TpmError::NoCounter { index })
}

fn found<C: OutboundCommands>(tpm: &mut C, index: u32) -> Result<Option<NvPublic>, TpmError> {
    if index >> 24 != NV_INDEX {
        return Err(TpmError::NoCounter { index });
    }
    if !has_handle(tpm, index)? {
        return Ok(None);
    }
    let public = tpm.nv_public(index)?;
    let is_counter = public.attributes & TYPE == COUNTER && public.size == COUNTER_BYTES;
    if is_counter && public.attributes & ATTRIBUTES == ATTRIBUTES {
        Ok(Some(public))
    } else {
        Err(TpmError::NoCounter { index })
    }
}

/// The first byte of an NV index.
///
/// Source: TPM 2.0 Library part 2, table 29.
const NV_INDEX: u32 = 0x01;
const COUNTER_BYTES: usize = 8;

// TPMA_NV. Source: TPM 2.0 Library part 2, section 13.4.
const TYPE: u32 = 0xF0;
const COUNTER: u32 = 0x10;
const WRITTEN: u32 = 1 << 29;
/// AUTHWRITE, a counter, OWNERREAD, AUTHREAD, NO_DA. Raising it takes no password: who could raise it too far could as well
/// keep the agent from starting.
const ATTRIBUTES: u32 = 1 << 2 | COUNTER | 1 << 17 | 1 << 18 | 1 << 25;
