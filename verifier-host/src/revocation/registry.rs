//! All logs of this verifier, and who is told of entries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::info;

use super::anchor::{AnchorName, Group};
use super::log::{Anchor, Log};
use super::pace::Lanes;
use super::peer::Peer;
use super::webhook::Hook;
use crate::store::revocations::{PeerRow, StoredLog};
use crate::store::{Store, StoreError};

/// All logs of this verifier, and those who bring entries to peers. Cheap to clone.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

struct Inner {
    store: Store,
    notifications: Notifications,
    logs: Mutex<Vec<Arc<Log>>>,
    lanes: Lanes,
    /// Held for reading while an entry is made: who takes it for writing waits for all of them.
    making: Arc<tokio::sync::RwLock<()>>,
}

/// Who is told of entries.
pub struct Notifications {
    /// Whether they are brought to agents that are polled.
    pub agents: bool,
    /// Where else they are brought.
    pub webhook: Option<Hook>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self {
            agents: true,
            webhook: None,
        }
    }
}

impl Revocations {
    /// No logs yet.
    #[must_use]
    pub fn new(store: Store, notifications: Notifications) -> Self {
        Self(Arc::new(Inner {
            store,
            notifications,
            logs: Mutex::default(),
            lanes: Lanes::default(),
            making: Arc::default(),
        }))
    }

    /// Takes the logs of the database, and gives nodes of older databases theirs.
    ///
    /// # Errors
    /// The database.
    pub async fn load(&self) -> Result<(), StoreError> {
        let adopted = self.store().adopt_revocation_keys().await?;
        if adopted > 0 {
            info!("{adopted} nodes that were added before have a revocation log now");
        }
        for stored in self.store().revocation_logs().await? {
            self.log_of(stored);
        }
        Ok(())
    }

    /// Begins a log, or finds it.
    ///
    /// # Errors
    /// The database.
    pub async fn begin(&self, anchor: &AnchorName, group: &Group) -> Result<Arc<Log>, StoreError> {
        Ok(self.log_of(self.store().begin_log(anchor, group).await?))
    }

    /// The log in memory of one in the database.
    pub fn log_of(&self, stored: StoredLog) -> Arc<Log> {
        let mut logs = self.lock();
        if let Some(log) = logs.iter().find(|log| log.id == stored.log_id) {
            return Arc::clone(log);
        }
        let anchor = logs.iter().find(|log| log.anchor.name == stored.anchor);
        let anchor = anchor.map(|log| Arc::clone(&log.anchor));
        let anchor = anchor.unwrap_or_else(|| {
            let name = stored.anchor.clone();
            Arc::new(Anchor::new(name, stored.crl_number.clone()))
        });
        let log = Arc::new(Log::stored(anchor, stored));
        logs.push(Arc::clone(&log));
        log
    }

    /// What a node of the database is to its log.
    #[must_use]
    pub fn peer(&self, row: &PeerRow) -> Option<Peer> {
        let log = self.find(&row.log_id)?;
        Some(Peer::stored(log, row))
    }

    /// All logs, in the order in which they were begun.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.lock().clone()
    }

    /// The log of that name.
    #[must_use]
    pub fn find(&self, log_id: &str) -> Option<Arc<Log>> {
        self.lock().iter().find(|log| log.id == log_id).cloned()
    }

    /// The anchor of that name.
    #[must_use]
    pub fn anchor(&self, name: &AnchorName) -> Option<Arc<Anchor>> {
        let logs = self.lock();
        let log = logs.iter().find(|log| log.anchor.name == *name)?;
        Some(Arc::clone(&log.anchor))
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Who is told of entries.
    #[must_use]
    pub fn notifications(&self) -> &Notifications {
        &self.0.notifications
    }

    pub(super) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    /// Held for reading while an entry is made.
    pub(super) fn making(&self) -> &Arc<tokio::sync::RwLock<()>> {
        &self.0.making
    }

    /// Waits until no entry is being made.
    pub async fn settle(&self) {
        drop(self.0.making.write().await);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Log>>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
