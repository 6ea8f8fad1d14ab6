//! Nodes that call by themselves (API 3.0): their sessions, and the attestations that they brought.
//!
//! All of it is in memory, bounded, and gone with the program: a session proves that the caller holds its key now, an
//! attestation what it booted now. What must outlive the program is in the database, through [`rounds`](crate::rounds) and
//! [`payloads`](crate::payloads). Time is an argument everywhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::payloads::{Boot, Deposit};

pub mod attestations;
pub mod bucket;
pub mod sessions;

pub use attestations::Attestations;

/// What is known of one node that calls by itself.
#[derive(Default)]
pub struct Push {
    attestations: Mutex<Attestations>,
    held: Mutex<Held>,
    /// One decision about this node's payload at a time, each to its end.
    pub deciding: tokio::sync::Mutex<()>,
    /// Held while long evidence of this node is read and judged, so that a node holds one such body in memory, not one for each
    /// of its sessions.
    pub showing: Arc<tokio::sync::Mutex<()>>,
}

/// What the database has of a node's payload, as far as each request needs it.
#[derive(Clone, Default)]
pub struct Held {
    /// What is deposited.
    pub deposit: Option<Arc<Deposit>>,
    /// The boot that it was seen in last.
    pub boot: Option<Boot>,
}

impl Push {
    /// The last attestations.
    pub fn attestations(&self) -> MutexGuard<'_, Attestations> {
        // A panic between two assignments leaves a value that is still valid.
        self.attestations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held for it.
    #[must_use]
    pub fn held(&self) -> Held {
        self.lock().clone()
    }

    /// Changes what is held, after the database has it.
    pub fn hold(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
