//! The PCR dump: the quoted values, as a C structure that Keylime writes down byte for byte.

use super::{Digest, HashAlg, MAX_DIGEST_BYTES, PCR_SLOTS, PcrMask, PcrValues};
use crate::wire::bytes::{Reader, Truncated};

/// Values of the quoted PCRs of one bank: exactly one for each selected PCR, each as long as the bank's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrDump {
    bank: HashAlg,
    values: PcrValues,
}

/// The largest dump: all PCRs, eight values to a list.
pub const MAX_DUMP_BYTES: usize = SELECTION_BYTES + 4 + PCR_SLOTS / VALUES_IN_LIST * LIST_BYTES;

/// Why bytes are no PCR dump, or values make none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpError {
    /// It ends too early.
    Truncated(Truncated),
    /// Bytes follow the structure.
    Trailing {
        /// How many.
        extra: usize,
    },
    /// Not exactly one bank.
    Banks {
        /// How many it announces.
        count: u32,
    },
    /// The bank is none that is supported.
    Bank {
        /// Its `TPM_ALG_ID`.
        id: u16,
    },
    /// The PCR bitmap isn't 3 bytes long.
    SelectBytes {
        /// Its length.
        got: u8,
    },
    /// Something other than zeros where nothing is in use.
    Residue,
    /// A list of no value, or of more than eight.
    ListLength {
        /// What it announces.
        count: u32,
    },
    /// Not as many values as PCRs.
    Count {
        /// PCRs selected.
        selected: usize,
        /// Values there.
        values: usize,
    },
    /// A value isn't as long as the bank's digest.
    DigestBytes {
        /// The bank's length.
        want: usize,
        /// The value's length.
        got: usize,
    },
    /// PCR numbers aren't ascending, or one is no PCR.
    Order,
}

impl From<Truncated> for DumpError {
    fn from(error: Truncated) -> Self {
        Self::Truncated(error)
    }
}

impl PcrDump {
    /// A dump of no values.
    #[must_use]
    pub const fn empty(bank: HashAlg) -> Self {
        Self {
            bank,
            values: PcrValues::new(),
        }
    }

    /// A dump of these values, which the TPM gave for this bank.
    ///
    /// # Errors
    /// [`DumpError::Order`], [`DumpError::DigestBytes`].
    pub fn new(bank: HashAlg, values: PcrValues) -> Result<Self, DumpError> {
        let mut mask = PcrMask::EMPTY;
        for (pcr, value) in &values {
            // A set grows upward only if the new bit is above all others.
            let grown = mask.with(*pcr);
            if grown.bits() <= mask.bits() || grown.bits() >> *pcr != 1 {
                return Err(DumpError::Order);
            }
            check_length(bank, value.len())?;
            mask = grown;
        }
        Ok(Self { bank, values })
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.bank
    }

    /// The PCRs that have a value here.
    #[must_use]
    pub fn pcrs(&self) -> PcrMask {
        self.values
            .iter()
            .fold(PcrMask::EMPTY, |mask, (pcr, _)| mask.with(*pcr))
    }

    /// The values with their PCRs, ascending.
    #[must_use]
    pub fn values(&self) -> &[(u8, Digest)] {
        &self.values
    }

    /// The value of one PCR.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Option<&[u8]> {
        self.values
            .iter()
            .find(|(number, _)| *number == pcr)
            .map(|(_, value)| value.as_slice())
    }

    /// The digest that a quote of exactly these values carries: `hash` over the values one after the other.
    #[must_use]
    pub fn digest(&self, hash: HashAlg) -> Digest {
        hash.digest(self.values.iter().map(|(_, value)| value.as_slice()))
    }

    /// Writes the dump into `out` and returns what was written.
    #[must_use]
    pub fn encode<'b>(&self, out: &'b mut [u8; MAX_DUMP_BYTES]) -> &'b [u8] {
        out.fill(0);
        let mut lists = 0u32;
        let mut used = SELECTION_BYTES.saturating_add(4);
        let (selection, rest) = out.split_at_mut(SELECTION_BYTES);
        let (list_count, list_bytes) = rest.split_at_mut(4);
        put(
            selection,
            &1u32.to_le_bytes(),
            &[
                &self.bank.tpm_id().to_le_bytes(),
                &[3],
                &self.pcrs().to_select(),
            ],
        );
        let chunks = self.values.chunks(VALUES_IN_LIST);
        for (list, values) in list_bytes.chunks_exact_mut(LIST_BYTES).zip(chunks) {
            encode_list(list, values);
            lists = lists.saturating_add(1);
            used = used.saturating_add(LIST_BYTES);
        }
        put(list_count, &lists.to_le_bytes(), &[]);
        out.get(..used).unwrap_or_default()
    }

    /// Reads a whole dump.
    ///
    /// # Errors
    /// [`DumpError`]: anything that [`PcrDump::encode`] would not have written, save that lists may hold fewer than eight
    /// values (a TPM may answer a read with less).
    pub fn parse(bytes: &[u8]) -> Result<Self, DumpError> {
        let mut reader = Reader::new(bytes);
        let (bank, pcrs) = parse_selection(&mut reader)?;
        let lists = reader.u32_le()?;
        let mut numbers = pcrs.iter();
        let mut values = PcrValues::new();
        let selected = pcrs.iter().count();
        for _ in 0..lists {
            let mut list = Reader::new(reader.take(LIST_BYTES)?);
            let count = list.u32_le()?;
            if !(1..=8).contains(&count) {
                return Err(DumpError::ListLength { count });
            }
            for _ in 0..count {
                let too_many = DumpError::Count {
                    selected,
                    values: selected.saturating_add(1),
                };
                let pcr = numbers.next().ok_or(too_many)?;
                let value = parse_value(&mut list, bank)?;
                values.push((pcr, value)).map_err(|_| too_many)?;
            }
            zeros(list.rest())?;
        }
        if values.len() != selected {
            return Err(DumpError::Count {
                selected,
                values: values.len(),
            });
        }
        match reader.rest().len() {
            0 => Ok(Self { bank, values }),
            extra => Err(DumpError::Trailing { extra }),
        }
    }
}

/// Writes pieces one after the other; what has no room is left out (the callers' buffers are sized by the constants below).
fn put(out: &mut [u8], first: &[u8], more: &[&[u8]]) {
    let pieces = core::iter::once(first).chain(more.iter().copied());
    for (to, from) in out.iter_mut().zip(pieces.flatten()) {
        *to = *from;
    }
}

fn encode_list(list: &mut [u8], values: &[(u8, Digest)]) {
    let (count, slots) = list.split_at_mut(4);
    // At most eight, by the chunk size.
    put(
        count,
        &u32::try_from(values.len()).unwrap_or(0).to_le_bytes(),
        &[],
    );
    for (slot, (_, value)) in slots.chunks_exact_mut(SLOT_BYTES).zip(values) {
        let len = u16::try_from(value.len()).unwrap_or(0);
        put(slot, &len.to_le_bytes(), &[value]);
    }
}

fn parse_selection(reader: &mut Reader<'_>) -> Result<(HashAlg, PcrMask), DumpError> {
    let mut selection = Reader::new(reader.take(SELECTION_BYTES)?);
    let count = selection.u32_le()?;
    if count != 1 {
        return Err(DumpError::Banks { count });
    }
    let id = selection.u16_le()?;
    let bank = HashAlg::from_tpm_id(id).ok_or(DumpError::Bank { id })?;
    let pcrs = match selection.u8()? {
        3 => PcrMask::from_select(selection.array()?),
        got => return Err(DumpError::SelectBytes { got }),
    };
    zeros(selection.rest())?;
    Ok((bank, pcrs))
}

fn parse_value(list: &mut Reader<'_>, bank: HashAlg) -> Result<Digest, DumpError> {
    let mut slot = Reader::new(list.take(SLOT_BYTES)?);
    let len = usize::from(slot.u16_le()?);
    check_length(bank, len)?;
    let value = slot.take(len)?;
    zeros(slot.rest())?;
    let mut digest = Digest::new();
    // A bank's digest always fits.
    let _ = digest.extend_from_slice(value);
    Ok(digest)
}

fn check_length(bank: HashAlg, got: usize) -> Result<(), DumpError> {
    let want = bank.digest_bytes();
    if got == want {
        Ok(())
    } else {
        Err(DumpError::DigestBytes { want, got })
    }
}

fn zeros(bytes: &[u8]) -> Result<(), DumpError> {
    if bytes.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err(DumpError::Residue)
    }
}

/// `TPML_PCR_SELECTION` in memory: a count, then 16 selections of 2 + 1 + 4 bytes and one of padding.
const SELECTION_BYTES: usize = 4 + 16 * 8;
/// Digests that a `TPML_DIGEST` has room for.
const VALUES_IN_LIST: usize = 8;
/// `TPM2B_DIGEST` in memory.
const SLOT_BYTES: usize = 2 + MAX_DIGEST_BYTES;
/// `TPML_DIGEST` in memory.
const LIST_BYTES: usize = 4 + VALUES_IN_LIST * SLOT_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pcrs: &[u8], bank: HashAlg) -> PcrValues {
        pcrs.iter()
            .map(|pcr| {
                let mut digest = Digest::new();
                digest.resize(bank.digest_bytes(), *pcr + 1).unwrap();
                (*pcr, digest)
            })
            .collect()
    }

    #[test]
    fn round_trips() {
        let all: [u8; 24] = core::array::from_fn(|n| n as u8);
        let cases: [(&str, &[u8], HashAlg, usize); 6] = [
            ("none", &[], HashAlg::Sha256, 136),
            ("one", &[16], HashAlg::Sha256, 136 + 532),
            ("eight", &all[..8], HashAlg::Sha384, 136 + 532),
            ("nine", &all[..9], HashAlg::Sha512, 136 + 2 * 532),
            ("spread", &[0, 7, 16, 23], HashAlg::Sha256, 136 + 532),
            ("all", &all, HashAlg::Sha512, MAX_DUMP_BYTES),
        ];
        for (name, pcrs, bank, want_bytes) in cases {
            let dump = PcrDump::new(bank, values(pcrs, bank)).unwrap();
            let mut out = [0xAA; MAX_DUMP_BYTES];
            let encoded = dump.encode(&mut out);
            assert_eq!(encoded.len(), want_bytes, "{name}");
            assert_eq!(PcrDump::parse(encoded), Ok(dump), "{name}");
            for len in 0..encoded.len() {
                assert!(
                    PcrDump::parse(&encoded[..len]).is_err(),
                    "{name} cut to {len}"
                );
            }
        }
    }

    #[test]
    fn a_flip_is_refused_or_changes_a_value() {
        let dump = PcrDump::new(HashAlg::Sha256, values(&[3, 16], HashAlg::Sha256)).unwrap();
        let mut out = [0; MAX_DUMP_BYTES];
        let len = dump.encode(&mut out).len();
        for at in 0..len {
            for bit in 0..8 {
                let mut bytes = out;
                bytes[at] ^= 1 << bit;
                match PcrDump::parse(&bytes[..len]) {
                    Err(_) => {}
                    Ok(other) => assert_ne!(other, dump, "bit {bit} of byte {at}"),
                }
            }
        }
    }

    #[test]
    fn values_out_of_order_make_no_dump() {
        let bank = HashAlg::Sha256;
        for pcrs in [&[1u8, 0][..], &[2, 2], &[24], &[0, 40]] {
            assert_eq!(
                PcrDump::new(bank, values(pcrs, bank)),
                Err(DumpError::Order),
                "{pcrs:?}"
            );
        }
        assert_eq!(
            PcrDump::new(bank, values(&[1], HashAlg::Sha384)),
            Err(DumpError::DigestBytes { want: 32, got: 48 })
        );
    }
}
