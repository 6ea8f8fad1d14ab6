//! One log: its end, and its entries as they travel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use tokio::sync::watch;

use super::anchor::{AnchorName, Group};
use super::message::{self, Notification, Words};
use super::told::Kind;
use crate::store::revocations::{StoredEntry, StoredLog};
use crate::store::{Store, StoreError};

/// An anchor: what its logs have in common.
pub struct Anchor {
    /// Its name.
    pub name: AnchorName,
    /// One entry at a time.
    pub(super) one: tokio::sync::Mutex<()>,
    crl_number: Mutex<Option<String>>,
}

/// One log.
pub struct Log {
    /// Its name.
    pub id: String,
    /// Its anchor.
    pub anchor: Arc<Anchor>,
    /// Its group.
    pub group: Group,
    /// The last entry that the webhook took.
    pub(super) webhook: AtomicU64,
    head: watch::Sender<Head>,
    recent: Mutex<VecDeque<Body>>,
}

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last entry's number; 0 before the first.
    pub number: u64,
    /// Hex of the SHA-256 of its `msg`.
    pub previous: String,
}

/// An entry as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its number.
    pub number: u64,
    /// What it is about.
    pub kind: Kind,
    /// JSON of message and signature.
    pub json: Bytes,
}

impl Anchor {
    pub(super) fn new(name: AnchorName, crl_number: Option<String>) -> Self {
        Self {
            name,
            one: tokio::sync::Mutex::default(),
            crl_number: Mutex::new(crl_number),
        }
    }

    /// Decimal text of the number of its newest revocation list.
    #[must_use]
    pub fn crl_number(&self) -> Option<String> {
        self.crl_lock().clone()
    }

    pub(super) fn crl_lock(&self) -> MutexGuard<'_, Option<String>> {
        self.crl_number
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// A log as the database has it.
    pub(super) fn stored(anchor: Arc<Anchor>, stored: StoredLog) -> Self {
        Self {
            anchor,
            group: stored.group,
            webhook: AtomicU64::new(stored.webhook),
            head: watch::Sender::new(Head {
                number: stored.number,
                previous: stored.previous,
            }),
            recent: Mutex::default(),
            id: stored.log_id,
        }
    }

    /// Its end.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head.borrow().clone()
    }

    /// The last entry's number; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.head.borrow().number
    }

    /// Tells of each new end.
    pub(super) fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// An entry as it travels; `None` if there is none of that number.
    ///
    /// # Errors
    /// The database.
    pub async fn body(&self, store: &Store, number: u64) -> Result<Option<Body>, StoreError> {
        let recent = self
            .recent()
            .iter()
            .find(|body| body.number == number)
            .cloned();
        if recent.is_some() {
            return Ok(recent);
        }
        Ok(store
            .entry(&self.id, number)
            .await?
            .map(|entry| body_of(&entry)))
    }

    /// The next entry, not signed yet.
    pub(super) fn draft(&self, words: Words<'_>) -> StoredEntry {
        let head = self.head();
        let place = message::Place {
            log_id: &self.id,
            number: head.number + 1,
            previous: &head.previous,
        };
        StoredEntry {
            number: place.number,
            uuid: words.subject.map(|subject| subject.id.to_string()),
            kind: match words.subject {
                Some(_) => Kind::Revocation,
                None => Kind::Crl,
            },
            at: words
                .now
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            operator: false,
            reason: words.reason.to_owned(),
            cert_serial: words.cert_serial.map(str::to_owned),
            msg: message::entry(place, words),
            signature: String::new(),
        }
    }

    /// Says that an entry is in the database.
    pub(super) fn publish(&self, entry: &StoredEntry, no_webhook: bool) {
        {
            let mut recent = self.recent();
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(body_of(entry));
        }
        if no_webhook {
            self.webhook.store(entry.number, Ordering::Release);
        }
        self.head.send_replace(Head {
            number: entry.number,
            previous: message::digest(&entry.msg),
        });
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Body>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn body_of(entry: &StoredEntry) -> Body {
    let notification = Notification {
        msg: entry.msg.clone(),
        signature: entry.signature.clone(),
    };
    Body {
        number: entry.number,
        kind: entry.kind,
        // Two texts are always JSON.
        json: serde_json::to_vec(&notification).unwrap_or_default().into(),
    }
}

/// Entries of a log that are kept ready in memory, about 64 KiB each at most: what most couriers bring at the same time.
const RECENT: usize = 16;
