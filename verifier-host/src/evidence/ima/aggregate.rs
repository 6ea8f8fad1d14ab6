//! What the first line of a list must say, given the PCRs of the same quote.

use agent_core::wire::quote::{Digest, HashAlg, PcrDump, PcrMask};

use super::entry::FileDigest;

/// PCRs 0 to 7, which older kernels aggregate (before 5.8, and with SHA-1), and 0 to 9, which newer ones do.
///
/// Source: `ima_calc_boot_aggregate_tfm` in Linux's `ima_crypto.c`.
const COUNTS: [u8; 2] = [10, 8];

/// What the kernel may have measured as `boot_aggregate` if the PCRs still have the values they had then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootAggregate {
    bank: HashAlg,
    values: [Digest; COUNTS.len()],
}

impl BootAggregate {
    /// The aggregates of a quote's PCRs, or `None` if PCRs 0 to 9 aren't all in it.
    #[must_use]
    pub fn of(pcrs: &PcrDump) -> Option<Self> {
        let all = PcrMask::from_select([0xFF, 0x03, 0x00]);
        let there = all.iter().all(|pcr| pcrs.pcrs().contains(pcr));
        let bank = pcrs.bank();
        let aggregate =
            |count| bank.digest((0..count).map(|pcr| pcrs.value(pcr).unwrap_or_default()));
        there.then(|| Self {
            bank,
            values: COUNTS.map(aggregate),
        })
    }

    /// Whether a measured aggregate is the quote's; `None` if it is of another bank than the quote, which can't be compared.
    #[must_use]
    pub fn agrees(&self, measured: &FileDigest<'_>) -> Option<bool> {
        let comparable = measured.alg == self.bank.name();
        comparable.then(|| self.values.iter().any(|value| value == measured.bytes))
    }

    /// The aggregate of PCRs 0 to 9, as newer kernels make it.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        let [newer, _] = &self.values;
        newer
    }
}
