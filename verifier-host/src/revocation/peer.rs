//! How far one node is with its log, as the running program knows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::log::Log;
use super::told::State;
use crate::store::revocations::{PeerRow, Speaks};

/// A node as its log sees it.
pub struct Peer {
    /// Its log.
    pub log: Arc<Log>,
    standing: Mutex<Standing>,
    /// Wakes its courier.
    pub(super) wake: Notify,
    again: AtomicBool,
    gone: AtomicBool,
    courier: Mutex<Option<JoinHandle<()>>>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last entry that it has acted on, or acknowledged.
    pub position: u64,
    /// What is known of its agent.
    pub speaks: Option<Speaks>,
    /// Since when it stands there, in seconds since 1970; none before it first answered.
    pub since: Option<u64>,
    /// Why it doesn't go on.
    pub trouble: Option<Trouble>,
}

/// Why a peer doesn't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// [`State::Unreachable`], [`State::Refuses`], or [`State::Waiting`] where it asked for time.
    pub state: State,
    /// What went wrong the last time.
    pub error: String,
}

impl Peer {
    /// A node that begins after this entry.
    #[must_use]
    pub fn new(log: Arc<Log>, position: u64) -> Self {
        Self::with(
            log,
            Standing {
                position,
                ..Standing::default()
            },
        )
    }

    /// A node as the database has it.
    #[must_use]
    pub fn stored(log: Arc<Log>, row: &PeerRow) -> Self {
        let standing = Standing {
            position: row.position,
            speaks: row.speaks,
            since: row.since,
            trouble: None,
        };
        Self::with(log, standing)
    }

    fn with(log: Arc<Log>, standing: Standing) -> Self {
        Self {
            log,
            standing: Mutex::new(standing),
            wake: Notify::new(),
            again: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            courier: Mutex::default(),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.lock().clone()
    }

    /// Records how far it is, after the database has it.
    pub fn update(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock());
    }

    /// Where it stands with an entry of its log.
    #[must_use]
    pub fn state(&self, number: u64) -> State {
        let standing = self.lock();
        match (standing.speaks, &standing.trouble) {
            (Some(Speaks::Log), _) if standing.position >= number => State::Acted,
            (Some(Speaks::Keylime), _) if standing.position >= number => State::Acknowledged,
            (_, Some(trouble)) => trouble.state,
            (_, None) => State::Waiting,
        }
    }

    /// The node booted, got its key or answers again: what it said before may not hold any more.
    pub fn ask_again(&self) {
        self.again.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// The node answers: a courier that couldn't reach it needn't wait any longer.
    pub fn is_reachable(&self) {
        let trouble = self.lock().trouble.as_ref().map(|trouble| trouble.state);
        if trouble == Some(State::Unreachable) {
            self.wake.notify_one();
        }
    }

    /// Whether it is to be asked anew, once.
    pub(super) fn take_again(&self) -> bool {
        self.again.swap(false, Ordering::AcqRel)
    }

    /// Gives it a courier, unless it has one.
    pub(super) fn employ(&self, courier: impl FnOnce() -> JoinHandle<()>) {
        let mut employed = self.courier();
        if employed.is_none() {
            self.gone.store(false, Ordering::Release);
            *employed = Some(courier());
        }
    }

    /// Nothing is brought to it any more. What to wait for.
    pub fn dismiss(&self) -> Option<JoinHandle<()>> {
        self.gone.store(true, Ordering::Release);
        self.courier().take()
    }

    /// Whether its node was deleted.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn courier(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.courier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // A panic between two assignments leaves a value that is still valid.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
