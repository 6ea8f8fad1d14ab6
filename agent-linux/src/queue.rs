//! The payload that waits for the worker: one at most.

use std::sync::mpsc::{self, Receiver, SyncSender};

use agent_core::agent::OpenedPayload;
use agent_core::revocation::Full;

use crate::memory::Vault;

/// The end that takes payloads in; it never blocks.
pub struct Inlet(SyncSender<OpenedPayload<Vault>>);

/// The end that they come out of.
pub struct Outlet(Receiver<OpenedPayload<Vault>>);

/// An empty queue.
#[must_use]
pub fn queue() -> (Inlet, Outlet) {
    let (inlet, outlet) = mpsc::sync_channel(1);
    (Inlet(inlet), Outlet(outlet))
}

impl Inlet {
    /// Takes in an opened payload.
    ///
    /// # Errors
    /// [`Full`]: nobody works any more, or an earlier payload still waits.
    pub fn payload(&self, payload: OpenedPayload<Vault>) -> Result<(), Full> {
        self.0.try_send(payload).map_err(|_| Full)
    }
}

impl Outlet {
    /// Waits for the next payload; `None` when nobody can bring any more.
    #[must_use]
    pub fn next(&self) -> Option<OpenedPayload<Vault>> {
        self.0.recv().ok()
    }
}
