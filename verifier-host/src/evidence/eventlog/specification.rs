//! The first event of a log: which banks the others have digests of.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.06, section 10.2.2 and `TCG_EfiSpecIDEvent`.

use agent_core::wire::bytes::Reader;
use agent_core::wire::quote::PCR_COUNT;

use super::event::{DIGESTS, Event, EventType, LogHash};
use super::{EventLogError, cut};

/// The most banks of a log; TPMs have up to five.
const MAX_BANKS: usize = 16;

/// The longest digest that is believed: twice SHA-512's.
const MAX_DIGEST_BYTES: u16 = 128;

const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";

/// The header of an event as TPM 1.2 had it: a SHA-1 digest and no more.
const OLD_DIGEST_BYTES: usize = 20;

/// The banks that a log announces, each with the size of its digests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Banks {
    table: [(u16, u16); MAX_BANKS],
    count: usize,
}

impl Banks {
    /// Where the algorithm is in the table, and how long its digests are.
    pub(super) fn find(&self, algorithm: u16) -> Option<(usize, usize)> {
        let place = self.entries().position(|(id, _)| id == algorithm)?;
        let (_, bytes) = self.table.get(place)?;
        Some((place, usize::from(*bytes)))
    }

    pub(super) fn announces(&self, algorithm: u16) -> bool {
        self.find(algorithm).is_some()
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.count).unwrap_or(u32::MAX)
    }

    fn entries(&self) -> impl Iterator<Item = (u16, u16)> {
        self.table.iter().take(self.count).copied()
    }
}

/// Reads the first event and its table.
pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<(Event<'a>, Banks), EventLogError> {
    let at = cut(0);
    let pcr = reader.u32_le().map_err(&at)?;
    let kind = EventType(reader.u32_le().map_err(&at)?);
    let digest = reader.take(OLD_DIGEST_BYTES).map_err(&at)?;
    let size = reader.u32_le().map_err(&at)?;
    let data = reader
        .take(usize::try_from(size).unwrap_or(usize::MAX))
        .map_err(&at)?;
    if pcr >= u32::from(PCR_COUNT) || kind != EventType::NO_ACTION {
        return Err(EventLogError::NotCryptoAgile);
    }
    let Some(table) = data.strip_prefix(SIGNATURE) else {
        return Err(EventLogError::NotCryptoAgile);
    };
    let mut digests = [None; DIGESTS];
    digests[LogHash::Sha1.place()] = Some(digest);
    let event = Event::new(0, pcr, kind, digests, data);
    Ok((event, banks(table)?))
}

/// What follows the signature: platform class (4), versions (3), size of a native integer (1), then the table and what the
/// vendor adds, which is nobody's concern here.
fn banks(table: &[u8]) -> Result<Banks, EventLogError> {
    let at = cut(0);
    let refused = |what, found| EventLogError::Specification { what, found };
    let mut reader = Reader::new(table);
    let [_, _, _, _, minor, major, _, _] = reader.array().map_err(&at)?;
    if major != 2 {
        let found = u32::from(major) << 8 | u32::from(minor);
        return Err(refused("a version of the log other than 2", found));
    }
    let announced = reader.u32_le().map_err(&at)?;
    let mut banks = Banks::default();
    let count = usize::try_from(announced).unwrap_or(usize::MAX);
    if !(1..=MAX_BANKS).contains(&count) {
        return Err(refused("a number of banks from 1 to 16", announced));
    }
    for place in 0..count {
        let algorithm = reader.u16_le().map_err(&at)?;
        let bytes = reader.u16_le().map_err(&at)?;
        let known = LogHash::from_tpm_id(algorithm).map(LogHash::digest_bytes);
        let fits = known.is_none_or(|known| known == usize::from(bytes));
        if !fits || !(1..=MAX_DIGEST_BYTES).contains(&bytes) {
            return Err(refused("a size of digests that its hash has", bytes.into()));
        }
        if banks.announces(algorithm) {
            return Err(refused("a bank once", algorithm.into()));
        }
        if let Some(entry) = banks.table.get_mut(place) {
            *entry = (algorithm, bytes);
        }
        banks.count = place + 1;
    }
    let _vendors = reader.u8().map_err(&at)?;
    Ok(banks)
}
