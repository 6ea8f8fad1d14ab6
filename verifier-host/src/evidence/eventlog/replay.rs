//! What the events of a log make of the PCRs.

use agent_core::wire::quote::{Digest, HashAlg, PCR_COUNT, PCR_SLOTS};

use super::event::{Event, EventType};
use super::{EventLog, EventLogError};

/// The text with which firmware says from which locality the TPM was started.
///
/// Source: TCG PC Client Platform Firmware Profile 1.06, `TCG_EfiStartupLocalityEvent`.
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// The locality of the hardware's root of trust.
const HCRTM_LOCALITY: u8 = 4;

/// PCRs that a reset fills with ones: a dynamic launch extends them.
const DYNAMIC: std::ops::RangeInclusive<u8> = 17..=22;

/// PCR values of one bank as a log makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    bank: HashAlg,
    start: Digest,
    values: [Option<Digest>; PCR_SLOTS],
    counts: [u32; PCR_SLOTS],
}

impl Replayed {
    /// The values by number; `None` where no event extended this bank of the PCR.
    #[must_use]
    pub const fn values(&self) -> &[Option<Digest>; PCR_SLOTS] {
        &self.values
    }

    /// How many events extended the PCR.
    #[must_use]
    pub fn events(&self, pcr: u8) -> u32 {
        self.counts.get(usize::from(pcr)).copied().unwrap_or(0)
    }

    /// The value of a PCR, extended or not.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Digest {
        match self.values.get(usize::from(pcr)) {
            Some(Some(value)) => value.clone(),
            _ => self.reset_value(pcr),
        }
    }

    /// What a PCR holds before the first event. PCR 0 keeps the locality of the TPM's start.
    fn reset_value(&self, pcr: u8) -> Digest {
        if pcr == 0 {
            return self.start.clone();
        }
        let byte = if DYNAMIC.contains(&pcr) { 0xFF } else { 0 };
        filled(self.bank, byte)
    }

    fn extend(&mut self, pcr: u8, digest: &[u8]) {
        let before = self.value(pcr);
        let after = self.bank.digest([before.as_slice(), digest]);
        let place = usize::from(pcr);
        if let Some(value) = self.values.get_mut(place) {
            *value = Some(after);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }
}

impl EventLog<'_> {
    /// What the log makes of the PCRs of a bank; `None` if it has no digests of that bank at all. An event without a digest of
    /// it leaves the bank as it was, as its TPM did.
    #[must_use]
    pub fn replay(&self, bank: HashAlg) -> Option<Replayed> {
        if !self.has_bank(bank) {
            return None;
        }
        let mut locality = Locality::default();
        let mut replayed = Replayed {
            bank,
            start: filled(bank, 0),
            values: [const { None }; PCR_SLOTS],
            counts: [0; PCR_SLOTS],
        };
        for event in self.events() {
            // Nothing of it was wrong when the log was read.
            if let Ok(Some(started)) = locality.see(&event)
                && let Some(last) = replayed.start.last_mut()
            {
                *last = started;
            }
            let pcr = u8::try_from(event.pcr).ok().filter(|pcr| *pcr < PCR_COUNT);
            let extends = pcr.zip(event.digest(bank)).filter(|_| event.is_extended());
            if let Some((pcr, digest)) = extends {
                replayed.extend(pcr, digest);
            }
        }
        Some(replayed)
    }
}

fn filled(bank: HashAlg, byte: u8) -> Digest {
    std::iter::repeat_n(byte, bank.digest_bytes()).collect()
}

/// Follows what a log says about the TPM's start.
#[derive(Debug, Default)]
pub(super) struct Locality {
    said: bool,
    extended: bool,
}

impl Locality {
    /// The locality that this event says, which must come before PCR 0 is extended: by the text, or by being the hardware's own
    /// measurement.
    pub(super) fn see(&mut self, event: &Event<'_>) -> Result<Option<u8>, EventLogError> {
        let locality = match event.kind {
            EventType::NO_ACTION if event.pcr == 0 => event.data.strip_prefix(STARTUP_LOCALITY),
            // Unless the text came before: it says the same.
            EventType::HCRTM if event.pcr == 0 && !self.said && !self.extended => {
                (self.said, self.extended) = (true, true);
                return Ok(Some(HCRTM_LOCALITY));
            }
            _ => None,
        };
        self.extended |= event.pcr == 0 && event.is_extended();
        let Some(locality) = locality else {
            return Ok(None);
        };
        let refused = |locality, why| EventLogError::Locality {
            event: event.number,
            locality,
            why,
        };
        let &[locality] = locality else {
            return Err(refused(0, "in more or less than a byte"));
        };
        match locality {
            0 | 3 | HCRTM_LOCALITY if self.extended => {
                Err(refused(locality, "after PCR 0 was extended"))
            }
            0 | 3 | HCRTM_LOCALITY if self.said => Err(refused(locality, "which was said before")),
            0 | 3 | HCRTM_LOCALITY => {
                self.said = true;
                Ok(Some(locality))
            }
            other => Err(refused(other, "from which no TPM starts")),
        }
    }
}
