//! Sets and values of PCRs.

use agent_core::wire::quote::{Digest, HashAlg, PcrMask, PcrValues};
use tss_esapi::handles::PcrHandle;
use tss_esapi::structures::{PcrSelectionList, PcrSlot};

use super::channel::Channel;
use super::error::TssError;
use super::template::hashing;

/// Values that were in the PCRs at one and the same time.
pub(super) fn read(
    channel: &mut Channel,
    bank: HashAlg,
    pcrs: PcrMask,
) -> Result<PcrValues, TssError> {
    for _ in 0..PCR_READ_TRIES {
        if let Some(values) = read_once(channel, bank, pcrs)? {
            return Ok(values);
        }
    }
    Err(TssError::Unsteady {
        tries: PCR_READ_TRIES,
    })
}

/// Reads the PCRs in as few commands as the TPM allows; `None` if one changed in between.
fn read_once(
    channel: &mut Channel,
    bank: HashAlg,
    pcrs: PcrMask,
) -> Result<Option<PcrValues>, TssError> {
    let mut values = PcrValues::new();
    let mut counter = None;
    let mut wanted = pcrs.iter().peekable();
    while wanted.peek().is_some() {
        let some: heapless::Vec<u8, PCRS_A_READ> = wanted.by_ref().take(PCRS_A_READ).collect();
        let selection = selection(bank, some.iter().copied())?;
        let (updates, _, digests) =
            channel.ask("TPM2_PCR_Read", |tpm| tpm.pcr_read(selection.clone()))?;
        if digests.len() != some.len() {
            return Err(TssError::NoBank { bank: bank.name() });
        }
        if *counter.get_or_insert(updates) != updates {
            return Ok(None);
        }
        for (pcr, digest) in some.iter().zip(digests.value()) {
            let value = Digest::from_slice(digest.value()).map_err(|_| TssError::Malformed {
                what: "the value of a PCR",
            })?;
            values
                .push((*pcr, value))
                .map_err(|_| TssError::Malformed {
                    what: "the set of PCRs",
                })?;
        }
    }
    Ok(Some(values))
}

pub(super) fn selection(
    bank: HashAlg,
    pcrs: impl Iterator<Item = u8>,
) -> Result<PcrSelectionList, TssError> {
    let slots = pcrs
        .map(|pcr| PcrSlot::try_from(1u32 << (pcr & 31)))
        .collect::<Result<Vec<_>, _>>();
    slots
        .and_then(|slots| {
            PcrSelectionList::builder()
                .with_selection(hashing(bank), &slots)
                .build()
        })
        .map_err(|_| TssError::Malformed {
            what: "the set of PCRs",
        })
}

pub(super) fn handle(pcr: u8) -> Result<PcrHandle, TssError> {
    PcrHandle::try_from(u32::from(pcr)).map_err(|_| TssError::Malformed {
        what: "the number of a PCR",
    })
}

/// Source: TPM 2.0 Library part 2, TPML_DIGEST.
const PCRS_A_READ: usize = 8;
const PCR_READ_TRIES: usize = 8;
