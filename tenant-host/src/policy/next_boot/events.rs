//! Measurements that are yet to be made, and the PCR values that they give.

use agent_core::wire::quote::{Digest, HashAlg};

/// One measurement: a digest that a PCR is extended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What is measured, as a sentence without its end.
    pub what: String,
    /// Its digest in the bank.
    pub digest: Digest,
}

/// Measurements into one PCR, in their order, from its reset on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course(Vec<Event>);

/// What a PCR will hold: by one of several courses, where files alone don't tell which of them it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The PCR.
    pub pcr: u8,
    /// Its courses, at least one.
    pub courses: Vec<Course>,
}

impl Event {
    /// The measurement of these bytes.
    pub(super) fn of(bank: HashAlg, what: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            what: what.into(),
            digest: bank.digest([bytes]),
        }
    }
}

impl Course {
    /// These measurements.
    pub(super) fn new(events: impl IntoIterator<Item = Event>) -> Self {
        Self(events.into_iter().collect())
    }

    /// The same, and then one more.
    pub(super) fn then(&self, event: Event) -> Self {
        let mut events = self.0.clone();
        events.push(event);
        Self(events)
    }

    /// The measurements.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// What the PCR holds after them.
    #[must_use]
    pub fn value(&self, bank: HashAlg) -> Digest {
        let mut value = Digest::new();
        while value.len() < bank.digest_bytes() && value.push(0).is_ok() {}
        for event in &self.0 {
            value = bank.digest([&value[..], &event.digest]);
        }
        value
    }
}
