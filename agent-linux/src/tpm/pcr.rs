//! Values of PCRs.

use agent_core::wire::quote::{HashAlg, PCR_COUNT, PcrMask, PcrValues};

use super::commands::Commands;
use super::error::TpmError;

/// Values that were in the PCRs at one and the same time.
///
/// # Errors
/// The TPM's; [`TpmError::NoBank`]; [`TpmError::Unsteady`].
pub(super) fn read<C: Commands>(
    tpm: &mut C,
    bank: HashAlg,
    pcrs: PcrMask,
) -> Result<PcrValues, TpmError> {
    for _ in 0..PCR_READ_TRIES {
        if let Some(values) = read_once(tpm, bank, pcrs)? {
            return Ok(values);
        }
    }
    Err(TpmError::Unsteady {
        tries: PCR_READ_TRIES,
    })
}

/// Reads the PCRs in as few commands as the TPM allows; `None` if one changed in between.
fn read_once<C: Commands>(
    tpm: &mut C,
    bank: HashAlg,
    pcrs: PcrMask,
) -> Result<Option<PcrValues>, TpmError> {
    let mut values = PcrValues::new();
    let mut counter = None;
    let mut wanted = pcrs.iter().peekable();
    while wanted.peek().is_some() {
        let some: heapless::Vec<u8, PCRS_A_READ> = wanted.by_ref().take(PCRS_A_READ).collect();
        let selection = some
            .iter()
            .fold(PcrMask::EMPTY, |mask, pcr| mask.with(*pcr));
        let (updates, digests) = tpm.pcr_read(bank, selection)?;
        if digests.len() != some.len() {
            return Err(TpmError::NoBank { bank: bank.name() });
        }
        if *counter.get_or_insert(updates) != updates {
            return Ok(None);
        }
        for (pcr, digest) in some.iter().zip(digests) {
            if digest.len() != bank.digest_bytes() {
                return Err(TpmError::Malformed {
                    what: "the value of a PCR",
                });
            }
            values
                .push((*pcr, digest))
                .map_err(|_| TpmError::Malformed {
                    what: "the set of PCRs",
                })?;
        }
    }
    Ok(Some(values))
}

/// The number of a PCR, if there is one of that number.
///
/// # Errors
/// [`TpmError::Malformed`].
pub(super) fn number(pcr: u8) -> Result<u8, TpmError> {
    if pcr < PCR_COUNT {
        Ok(pcr)
    } else {
        Err(TpmError::Malformed {
            what: "the number of a PCR",
        })
    }
}

/// Source: TPM 2.0 Library part 2, TPML_DIGEST.
const PCRS_A_READ: usize = 8;
const PCR_READ_TRIES: usize = 8;
