//! A node as the running program holds it.

use agent_core::wire::text::Uuid;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;

use super::logs::Known;
use super::progress::Progress;
use super::terms::Terms;
use crate::link::{Endpoint, Limits, Link};
use crate::push::Push;
use crate::revocation::Peer;

/// A node: who it is, what the tenant said, how to reach it, and what happened.
pub struct Node {
    /// Its identifier.
    pub id: Uuid,
    /// What the tenant said.
    pub terms: Terms,
    /// Whether V is to be given to it.
    pub has_v: bool,
    /// What it brought by itself, for a node that calls; none for one that is polled.
    pub push: Option<Push>,
    /// How far it is with the log of revocations that it is told of; none without a revocation key.
    pub peer: Option<Peer>,
    tls: Option<Arc<ClientConfig>>,
    progress: Mutex<Progress>,
    /// Of its IMA list. In memory alone: what a restart loses is asked for again.
    known: Mutex<Option<Arc<Known>>>,
}

impl Node {
    /// A node that is reached with this TLS configuration, which must trust its registered certificate alone; one that calls
    /// by itself has none.
    #[must_use]
    pub fn new(
        id: Uuid,
        terms: Terms,
        has_v: bool,
        progress: Progress,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        Self {
            id,
            push: terms.is_push().then(Push::default),
            terms,
            has_v,
            peer: None,
            tls,
            progress: Mutex::new(progress),
            known: Mutex::default(),
        }
    }

    /// The same node with its log of revocations.
    #[must_use]
    pub fn with_peer(self, peer: Option<Peer>) -> Self {
        Self { peer, ..self }
    }

    /// What happened until now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// Records what happened.
    pub fn update<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.lock())
    }

    /// What is known of its IMA list.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Known>> {
        self.known_list().clone()
    }

    /// Remembers, or forgets, what is known of its IMA list.
    pub fn remember(&self, known: Option<Arc<Known>>) {
        *self.known_list() = known;
    }

    fn known_list(&self) -> MutexGuard<'_, Option<Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of its own to the agent; none to a node that calls by itself.
    #[must_use]
    pub fn link(&self, limits: Limits) -> Option<Link> {
        let tls = self.tls.clone()?;
        let peer = Endpoint {
            host: self.terms.text.ip.clone(),
            port: self.terms.text.port,
        };
        Some(Link::new(peer, Some(tls), limits))
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // A panic between two assignments leaves a value that is still valid.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970; 0 on a machine whose clock is before that.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
