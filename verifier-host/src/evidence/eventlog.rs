//! The firmware's event log: what a machine says it measured before its kernel ran.
//!
//! A value of [`EventLog`] was read to its last byte: each event is whole, has digests of announced banks only, and names a
//! PCR. What it says is worth nothing until [`EventLog::check`] has compared it with a quote; and then only the digests are
//! what was measured. An event's type and data are words beside them: see [`Event::explained`].
//!
//! Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (the crypto-agile log). Logs of TPM 1.2 have SHA-1 alone
//! and begin otherwise: they are refused.

use agent_core::wire::bytes::{Reader, Truncated};
use agent_core::wire::quote::{Digest, HashAlg, PCR_COUNT, PcrMask};
use agent_core::wire::text::Hex;
use thiserror::Error;

mod data;
mod describe;
mod event;
mod guid;
mod replay;
mod specification;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;

pub use data::{Explained, NoSignatures, Signature, Signatures, Tagged, Text, Variable};
pub use describe::describe;
pub use event::{Event, EventType, LogHash};
pub use guid::Guid;
pub use replay::Replayed;

use specification::Banks;

/// The largest log. Firmware reserves 64 KiB to 256 KiB for it; GRUB with a long configuration comes near that.
pub const MAX_LOG_BYTES: usize = 1 << 20;

/// What a log can be refused for, or not be believed for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// Larger than logs are.
    #[error("the event log has {have} bytes, and logs of up to {limit} are taken")]
    TooLarge {
        /// Its size.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// The first event isn't a `Spec ID Event03`.
    #[error(
        "the event log begins without a \"Spec ID Event03\": it is none of a TPM 2.0, or was cut at its start"
    )]
    NotCryptoAgile,
    /// The first event's table of banks.
    #[error("event 0 announces {what}, which is {found}")]
    Specification {
        /// What it announces.
        what: &'static str,
        /// What that is.
        found: u32,
    },
    /// The log ends inside an event.
    #[error("event {event} is cut: its next field has {need} bytes, and the log has {have} more")]
    Truncated {
        /// Its number, from 0.
        event: u32,
        /// Bytes that the next field takes.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// A PCR that TPMs don't have.
    #[error("event {event} is in PCR {pcr}; PCRs are 0 to 23")]
    Pcr {
        /// Its number, from 0.
        event: u32,
        /// The PCR.
        pcr: u32,
    },
    /// A digest of a bank that the first event doesn't announce.
    #[error(
        "event {event} has a digest of the algorithm {algorithm:#06x}, which event 0 doesn't announce"
    )]
    UnknownAlgorithm {
        /// Its number, from 0.
        event: u32,
        /// The `TPM_ALG_ID`.
        algorithm: u16,
    },
    /// Two digests of one bank.
    #[error("event {event} has two digests of the algorithm {algorithm:#06x}")]
    Twice {
        /// Its number, from 0.
        event: u32,
        /// The `TPM_ALG_ID`.
        algorithm: u16,
    },
    /// More digests than banks.
    #[error("event {event} has {have} digests, and event 0 announces {limit} banks")]
    Digests {
        /// Its number, from 0.
        event: u32,
        /// How many it has.
        have: u32,
        /// How many banks there are.
        limit: u32,
    },
    /// The locality that the TPM was started from is said too late, twice, or is none.
    #[error("event {event} says that the TPM was started from locality {locality}, {why}")]
    Locality {
        /// Its number, from 0.
        event: u32,
        /// The locality.
        locality: u8,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The log has no digests of the quoted bank.
    #[error("the event log has no {} digests: it can't explain a quote of that bank", bank.name())]
    NoBank {
        /// The quoted bank.
        bank: HashAlg,
    },
    /// A PCR that the policy is about and the quote isn't.
    #[error("PCR {pcr} ({}) is not in the quote, so the event log can't be believed about it", bank.name())]
    NotQuoted {
        /// The PCR.
        pcr: u8,
        /// The quoted bank.
        bank: HashAlg,
    },
    /// The quoted value isn't what the events make.
    #[error(
        "PCR {pcr} ({}) held {}, and its {events} events in the log make {}: the log was changed, is of another boot, or something extended the PCR after the log's end",
        bank.name(), Hex(quoted), Hex(replayed)
    )]
    Unexplained {
        /// The PCR.
        pcr: u8,
        /// The quoted bank.
        bank: HashAlg,
        /// What was quoted.
        quoted: Box<Digest>,
        /// What the log makes.
        replayed: Box<Digest>,
        /// How many events the log has for it.
        events: u32,
    },
}

impl EventLogError {
    /// What Keylime calls it in revocation messages.
    #[must_use]
    pub fn event(&self) -> String {
        match self {
            Self::Unexplained { pcr, .. } => format!("measured_boot.invalid_pcr_{pcr}"),
            Self::NotQuoted { .. } => "measured_boot.missing_pcrs".to_owned(),
            Self::NoBank { .. } => "measured_boot.parser.invalid_pcrs_hashes".to_owned(),
            _ => "measured_boot.parser.tpm2_eventlog.error".to_owned(),
        }
    }
}

/// A log that was read to its end; its events are borrowed from the bytes.
#[derive(Clone, Copy, Debug)]
pub struct EventLog<'a> {
    specification: Event<'a>,
    banks: Banks,
    events: &'a [u8],
    count: u32,
}

impl<'a> EventLog<'a> {
    /// Reads `binary_bios_measurements`.
    ///
    /// # Errors
    /// [`EventLogError`] with the number of the event that can't be.
    ///
    /// # Cost
    /// Linear in the size, which is bounded by [`MAX_LOG_BYTES`]; nothing is copied.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        if bytes.len() > MAX_LOG_BYTES {
            return Err(EventLogError::TooLarge {
                have: bytes.len(),
                limit: MAX_LOG_BYTES,
            });
        }
        let mut reader = Reader::new(bytes);
        let (specification, banks) = specification::read(&mut reader)?;
        let mut log = Self {
            specification,
            banks,
            events: reader.rest(),
            count: 1,
        };
        let mut locality = replay::Locality::default();
        while !reader.rest().is_empty() {
            let event = Event::read(&mut reader, &log.banks, log.count)?;
            locality.see(&event)?;
            // A log of MAX_LOG_BYTES has far fewer events.
            log.count = log.count.saturating_add(1);
        }
        Ok(log)
    }

    /// The events in their order, the first one (the log's own header) too.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> {
        let (banks, mut reader) = (self.banks, Reader::new(self.events));
        let rest = (1..self.count).map_while(move |number| {
            // They were read before.
            Event::read(&mut reader, &banks, number).ok()
        });
        std::iter::once(self.specification).chain(rest)
    }

    /// How many events there are, with the first one.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether the log has digests of this bank.
    #[must_use]
    pub fn has_bank(&self, bank: HashAlg) -> bool {
        self.banks.announces(bank.tpm_id())
    }

    /// Compares the quoted values of these PCRs with what the log makes of them. A PCR without events must hold what it holds
    /// after a reset.
    ///
    /// # Errors
    /// [`EventLogError::NoBank`]; for the lowest PCR that isn't explained [`EventLogError::NotQuoted`] or
    /// [`EventLogError::Unexplained`].
    pub fn check<'q>(
        &self,
        bank: HashAlg,
        quoted: impl IntoIterator<Item = (u8, &'q [u8])>,
        pcrs: PcrMask,
    ) -> Result<(), EventLogError> {
        let replayed = self.replay(bank).ok_or(EventLogError::NoBank { bank })?;
        let mut values = [None; PCR_COUNT as usize];
        for (pcr, value) in quoted {
            if let Some(place) = values.get_mut(usize::from(pcr)) {
                *place = Some(value);
            }
        }
        for pcr in pcrs.iter() {
            let quoted = values.get(usize::from(pcr)).copied().flatten();
            let quoted = quoted.ok_or(EventLogError::NotQuoted { pcr, bank })?;
            let made = replayed.value(pcr);
            // Both are public: the log and the quote came over the wire.
            if made.as_slice() != quoted {
                return Err(EventLogError::Unexplained {
                    pcr,
                    bank,
                    quoted: Box::new(quoted.iter().copied().take(made.capacity()).collect()),
                    replayed: Box::new(made),
                    events: replayed.events(pcr),
                });
            }
        }
        Ok(())
    }
}

/// What couldn't be read, with the event in which it was.
const fn cut(event: u32) -> impl Fn(Truncated) -> EventLogError {
    move |Truncated { need, have }| EventLogError::Truncated { event, need, have }
}
