//! The steps of a request: what comes in, what is planned, what it leads to.

use core::ops::Range;

use super::answer::Refusal;
use super::delivery::DeliveryNumber;
use super::note::Note;
use crate::http::Status;
use crate::revocation::Notice;
use crate::wire::form::{UKey, VKey};
use crate::wire::log::Attached;
use crate::wire::route::Route;

/// Whom a connection belongs to, by its client certificate. The first may deliver U halves and payloads; all may ask, and
/// bring V halves and notices, which prove themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One who may deliver.
    Tenant,
    /// One with a certificate that is not the tenant's.
    Other,
    /// One without a certificate, where the agent was told to do without.
    Unknown,
}

/// What to do with a request's body.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Plan {
    /// There is none: finish with [`Request::Ask`].
    Answer(Route),
    /// Collect a V half.
    VKey,
    /// Collect a revocation notice.
    Notice,
    /// Collect a U half and a payload, in a vault of the lease's size.
    UKey(Lease),
    /// Answer with [`refuse`](super::refuse); the body, if any, isn't read.
    Refuse(Refusal),
}

/// The right to upload, of which there is one: it goes back by [`Agent::finish`](super::Agent::finish) or [`Agent::give_up`](super::Agent::give_up).
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Lease {
    pub(super) vault_bytes: usize,
}

impl Lease {
    /// The size that the vault needs.
    #[must_use]
    pub const fn vault_bytes(&self) -> usize {
        self.vault_bytes
    }
}

/// A request that has come whole.
pub enum Request<'b, V> {
    /// One without a body.
    Ask(Route),
    /// `keys/ukey`.
    UKey(Lease, UKey<V>),
    /// `keys/vkey`.
    VKey(VKey),
    /// `notifications/revocation`.
    Notice(Notice<'b>),
}

impl<V> Request<'_, V> {
    /// The logs that belong to the answer.
    pub(super) fn logs(&self) -> Option<Attached> {
        match self {
            Self::Ask(Route::Integrity { mask, entry, .. }) => Some(Attached::Results {
                entry: *entry,
                boot: mask.contains(0),
            }),
            _ => None,
        }
    }
}

/// What a request has led to; the answer's body is in the buffer that the caller lent.
#[must_use]
pub struct Outcome<V> {
    /// The answer's status.
    pub status: Status,
    /// What of the logs goes into the answer, where the node has them.
    pub logs: Option<Attached>,
    /// Work for the shell.
    pub duty: Option<Duty<V>>,
    /// For the log.
    pub notes: Notes,
}

/// What one step leaves for the log.
pub type Notes = heapless::Vec<Note, 4>;

/// Work that the shell does after the answer is on its way, and reports to the agent.
pub enum Duty<V> {
    /// Unpack an opened payload, run its script.
    Unpack(OpenedPayload<V>),
}

/// A payload that was decrypted in its vault; the vault goes with it.
pub struct OpenedPayload<V> {
    pub(super) number: DeliveryNumber,
    pub(super) vault: V,
    pub(super) plaintext: Range<usize>,
}

impl<V: AsRef<[u8]>> OpenedPayload<V> {
    /// Names it in reports to the agent.
    #[must_use]
    pub const fn number(&self) -> DeliveryNumber {
        self.number
    }

    /// The plaintext: authentic to the last byte.
    #[must_use]
    pub fn plaintext(&self) -> &[u8] {
        let vault = self.vault.as_ref();
        vault.get(self.plaintext.clone()).unwrap_or_default()
    }
}
