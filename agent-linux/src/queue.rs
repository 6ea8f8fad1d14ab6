//! The payload that waits for the worker: one at most.

use std::sync::Arc;

use agent_core::agent::OpenedPayload;
use agent_core::revocation::Full;

use crate::mailbox::Mailbox;
use crate::memory::Vault;

/// The end that takes payloads in; it never blocks.
pub struct Inlet(Arc<Mailbox<OpenedPayload<Vault>>>);

/// The end that they come out of.
pub struct Outlet(Arc<Mailbox<OpenedPayload<Vault>>>);

/// An empty queue.
#[must_use]
pub fn queue() -> (Inlet, Outlet) {
    let inlet = Arc::<Mailbox<_>>::default();
    let outlet = Arc::clone(&inlet);
    (Inlet(inlet), Outlet(outlet))
}

impl Inlet {
    /// Takes in an opened payload.
    ///
    /// # Errors
    /// [`Full`]: nobody works any more, or an earlier payload still waits.
    pub fn payload(&self, payload: OpenedPayload<Vault>) -> Result<(), Full> {
        self.0.put(payload).then_some(()).ok_or(Full)
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Outlet {
    /// Waits for the next payload; `None` when nobody can bring any more.
    #[must_use]
    pub fn next(&self) -> Option<OpenedPayload<Vault>> {
        self.0.take(None)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.close();
    }
}
