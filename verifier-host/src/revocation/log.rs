//! The logs, and how entries get into them.
//!
//! One entry of an anchor is made at a time: its number and its chain are computed from the last one, it is signed, and the
//! database takes it only as the next one, in one transaction with the failure of its node. Then memory says so, and couriers go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinError;
use tracing::{error, info};
use x509_parser::num_bigint::BigUint;
use zeroize::Zeroizing;

use super::anchor::{AnchorName, Group, cert_serial};
use super::courier::Lanes;
use super::list::{Delegate, List, Revoked};
use super::message::{self, Carried, Notification, NotifierKey, NotifierKeyError, Subject, Words};
use super::peer::Peer;
use super::told::{Kind, MadeEntry};
use super::webhook::Hook;
use crate::rounds::node::{Node, unix_now};
use crate::rounds::progress::{Failure, OperationalState};
use crate::store::revocations::{Append, PeerRow, StoredEntry, StoredLog};
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

/// An anchor: what its logs have in common.
pub struct Anchor {
    /// Its name.
    pub name: AnchorName,
    /// One entry at a time.
    one: tokio::sync::Mutex<()>,
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

/// What an entry is to be made of.
pub enum News {
    /// A node is revoked.
    Node {
        /// The node, which has a log.
        node: Arc<Node>,
        /// Why.
        failure: Failure,
        /// Whether an operator revoked it.
        operator: bool,
        /// A list to give with it.
        list: Option<List>,
    },
    /// There is a new list, for all logs of an anchor.
    List(List),
}

/// Why no entry is made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The node was added without a key.
    #[error(
        "agent {0} was added without a revocation key, so nobody could believe its revocation; add it with one"
    )]
    NoLog(String),
    /// No node has the key any more.
    #[error("no node of that anchor is here any more, and its key went with the last one")]
    NoKey,
    /// The list isn't newer than the newest.
    #[error(
        "the revocation list has number {have}, and number {newest} is there already; make one with a higher number"
    )]
    OldList {
        /// Its number.
        have: BigUint,
        /// The newest one's.
        newest: BigUint,
    },
    /// The key doesn't sign.
    #[error(transparent)]
    Key(#[from] NotifierKeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database's log isn't the one in memory.
    #[error(
        "the log has another end in the database than in memory: somebody else changed it; restart the verifier"
    )]
    Moved,
    /// The making broke off in the middle.
    #[error("the entry broke off by an error of this program: {0}")]
    BrokeOff(#[from] JoinError),
}

impl News {
    /// A node's evidence doesn't hold.
    fn failed(node: &Arc<Node>, failure: Failure) -> Self {
        Self::Node {
            node: Arc::clone(node),
            failure,
            operator: false,
            list: None,
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
        let log = Arc::new(Log {
            anchor: anchor
                .unwrap_or_else(|| Arc::new(Anchor::new(stored.anchor, stored.crl_number))),
            group: stored.group,
            webhook: AtomicU64::new(stored.webhook),
            head: watch::Sender::new(Head {
                number: stored.number,
                previous: stored.previous,
            }),
            recent: Mutex::default(),
            id: stored.log_id,
        });
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

    /// Records that a node's evidence doesn't hold, and revokes it. In the end it has failed in memory, whatever went wrong; an
    /// entry that couldn't be written is tried again until the node is deleted or reactivated. Whether the database has the
    /// node's failure too.
    pub async fn node_failed(&self, node: &Arc<Node>, failure: Failure) -> bool {
        let Some(peer) = &node.peer else {
            let msg = message::text(subject(node, &failure), SystemTime::now());
            fail(node, failure);
            if let Some(hook) = &self.0.notifications.webhook {
                hook.tell_once(&node.id, msg);
            }
            return false;
        };
        let anchor = Arc::clone(&peer.log.anchor);
        let news = News::failed(node, failure.clone());
        let Err(error) = self.append(anchor, news).await else {
            return true;
        };
        error!(agent = %node.id, "its revocation can't be recorded, tried again: {error}");
        fail(node, failure.clone());
        tokio::spawn(self.clone().append_later(Arc::clone(node), failure));
        false
    }

    async fn append_later(self, node: Arc<Node>, failure: Failure) {
        let Some(peer) = &node.peer else { return };
        let mut pause = FIRST_RETRY;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
            let state = node.update(|progress| progress.standing.state);
            if peer.is_gone() || state != OperationalState::InvalidQuote {
                return;
            }
            let news = News::failed(&node, failure.clone());
            match self.append(Arc::clone(&peer.log.anchor), news).await {
                Ok(_) => return,
                Err(error) => {
                    error!(agent = %node.id, "its revocation can't be recorded, tried again: {error}");
                }
            }
        }
    }

    /// Makes entries of news, to the end though the caller may go away. A node that is revoked has failed when this returns.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing has changed.
    pub async fn append(
        &self,
        anchor: Arc<Anchor>,
        news: News,
    ) -> Result<Vec<MadeEntry>, AppendError> {
        let making = Arc::clone(&self.0.making).read_owned().await;
        let this = self.clone();
        let made = tokio::spawn(async move {
            let _making = making;
            let _one = anchor.one.lock().await;
            this.append_now(&anchor, news).await
        });
        made.await?
    }

    /// Waits until no entry is being made.
    pub async fn settle(&self) {
        drop(self.0.making.write().await);
    }

    async fn append_now(
        &self,
        anchor: &Arc<Anchor>,
        news: News,
    ) -> Result<Vec<MadeEntry>, AppendError> {
        let key = self.store().notifier_key(&anchor.name).await?;
        let newest = self.store().list(&anchor.name).await?;
        let news = self.with_list(anchor, news, newest.as_ref()).await?;
        let list = match &news {
            News::Node { list, .. } => list.clone(),
            News::List(list) => Some(list.clone()),
        };
        let drafts = self.drafts(anchor, &news, list.as_ref())?;
        let drafts = match key {
            Some(key) => signed(key, drafts).await?,
            // A list is kept for those who fetch it, though there is nobody to be told.
            None if matches!(news, News::List(_)) => Vec::new(),
            None => return Err(AppendError::NoKey),
        };
        let failed = match &news {
            News::Node { node, failure, .. } => {
                let mut progress = node.progress();
                let state = OperationalState::InvalidQuote;
                progress.failed(state, failure.clone(), unix_now());
                Some((node, progress))
            }
            News::List(_) => None,
        };
        let append = Append {
            entries: drafts
                .iter()
                .map(|(log, entry)| (log.id.as_str(), entry.clone()))
                .collect(),
            node: failed.as_ref().map(|(node, progress)| (&node.id, progress)),
            list: list.as_ref().map(|list| (&anchor.name, list)),
            no_webhook: self.0.notifications.webhook.is_none(),
        };
        if !self.store().append(append).await? {
            return Err(AppendError::Moved);
        }
        if let News::Node { node, failure, .. } = news {
            fail(&node, failure);
        }
        if let Some(list) = list {
            *anchor.crl_lock() = Some(list.number.to_string());
        }
        let made = drafts.iter().map(|(log, entry)| MadeEntry {
            log_id: log.id.clone(),
            number: entry.number,
        });
        let made = made.collect();
        for (log, entry) in drafts {
            log.publish(&entry, self.0.notifications.webhook.is_none());
        }
        if let Some(hook) = &self.0.notifications.webhook {
            hook.wake();
        }
        Ok(made)
    }

    /// The news with the list that goes with them: the one that came, which must be newer, or the delegate's next one.
    async fn with_list(
        &self,
        anchor: &Anchor,
        news: News,
        newest: Option<&List>,
    ) -> Result<News, AppendError> {
        let newer = |list: &List| match newest {
            Some(newest) if list.number <= newest.number => Err(AppendError::OldList {
                have: list.number.clone(),
                newest: newest.number.clone(),
            }),
            _ => Ok(()),
        };
        match news {
            News::List(list) => newer(&list).map(|()| News::List(list)),
            News::Node {
                node,
                failure,
                operator,
                list: None,
            } => {
                let list = self.delegates_list(anchor, &node, operator, newest).await;
                Ok(News::Node {
                    node,
                    failure,
                    operator,
                    list,
                })
            }
            News::Node {
                list: Some(list),
                node,
                failure,
                operator,
            } => newer(&list).map(|()| News::Node {
                node,
                failure,
                operator,
                list: Some(list),
            }),
        }
    }

    /// The next list with a node's certificate, signed by the delegate. Without one, or if it can't be made, which the log
    /// explains, the node is revoked all the same.
    async fn delegates_list(
        &self,
        anchor: &Anchor,
        node: &Node,
        operator: bool,
        newest: Option<&List>,
    ) -> Option<List> {
        let serial = cert_serial(&node.terms.text.metadata)?;
        let made = async {
            let Some(delegate) = self.store().delegate(&anchor.name).await? else {
                return Ok(None);
            };
            let mut revoked: Vec<Revoked> = Vec::new();
            for one in self.store().revoked_under(&anchor.name).await? {
                revoked.extend(revoked_of(&one.serial, one.at, one.operator));
            }
            revoked.extend(revoked_of(&serial, unix_now(), operator));
            let key = String::from_utf8(delegate.key.to_vec())?;
            let key = Zeroizing::new(key);
            let now = OffsetDateTime::now_utc();
            let delegate = Delegate::new(CertificateDer::from(delegate.certificate), &key, now)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some(
                delegate.next(newest, &revoked, now)?,
            ))
        };
        made.await.unwrap_or_else(|error| {
            error!(agent = %node.id, "no revocation list can be made for it; delegate again, or sign one yourself: {error}");
            None
        })
    }

    /// The entries that news make, each the next one of its log, not signed yet.
    fn drafts(
        &self,
        anchor: &Arc<Anchor>,
        news: &News,
        list: Option<&List>,
    ) -> Result<Vec<(Arc<Log>, StoredEntry)>, AppendError> {
        let now = SystemTime::now();
        let carried = list.map(|list| Carried {
            der: &list.der,
            issuer: list.issuer.as_deref(),
        });
        let mut drafts = Vec::new();
        let own = match news {
            News::List(_) => None,
            News::Node {
                node,
                failure,
                operator,
                ..
            } => {
                let peer = node.peer.as_ref();
                let log = peer.map(|peer| &peer.log);
                let log = log.ok_or_else(|| AppendError::NoLog(node.id.to_string()))?;
                let reason = message::sentence(&failure.reason);
                let serial = cert_serial(&node.terms.text.metadata);
                let words = Words {
                    subject: Some(subject(node, failure)),
                    reason: &reason,
                    cert_serial: serial.as_deref(),
                    list: carried,
                    now,
                };
                let mut entry = log.draft(words);
                entry.operator = *operator;
                drafts.push((Arc::clone(log), entry));
                Some(log)
            }
        };
        let Some(list) = list else {
            return Ok(drafts);
        };
        // The list is the CA's, not a group's.
        let reason = format!("a new revocation list, number {}", list.number);
        for log in self.logs() {
            if Arc::ptr_eq(&log.anchor, anchor) && own.is_none_or(|own| own.id != log.id) {
                let words = Words {
                    subject: None,
                    reason: &reason,
                    cert_serial: None,
                    list: carried,
                    now,
                };
                let entry = log.draft(words);
                drafts.push((log, entry));
            }
        }
        Ok(drafts)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Log>>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn subject<'a>(node: &'a Node, failure: &'a Failure) -> Subject<'a> {
    Subject {
        id: &node.id,
        terms: &node.terms.text,
        failure,
    }
}

fn fail(node: &Node, failure: Failure) {
    let state = OperationalState::InvalidQuote;
    node.update(|progress| progress.failed(state, failure, unix_now()));
}

fn revoked_of(serial: &str, at: u64, operator: bool) -> Option<Revoked> {
    let at = i64::try_from(at).ok()?;
    Some(Revoked {
        serial: BigUint::parse_bytes(serial.as_bytes(), 10)?,
        at: OffsetDateTime::from_unix_timestamp(at).ok()?,
        failed: !operator,
    })
}

/// Signs the entries, beside the tasks that wait for others.
async fn signed(
    key: Zeroizing<Vec<u8>>,
    mut drafts: Vec<(Arc<Log>, StoredEntry)>,
) -> Result<Vec<(Arc<Log>, StoredEntry)>, AppendError> {
    let signing = tokio::task::spawn_blocking(move || {
        let pem = std::str::from_utf8(&key).map_err(|_| NotifierKeyError::NotRsa)?;
        let key = NotifierKey::from_pem(pem)?;
        for (_, entry) in &mut drafts {
            entry.signature = key.sign(&entry.msg)?;
        }
        Ok(drafts)
    });
    signing.await?
}

impl Anchor {
    fn new(name: AnchorName, crl_number: Option<String>) -> Self {
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

    fn crl_lock(&self) -> MutexGuard<'_, Option<String>> {
        self.crl_number
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
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

    fn draft(&self, words: Words<'_>) -> StoredEntry {
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
            at: unix_now(),
            operator: false,
            reason: words.reason.to_owned(),
            cert_serial: words.cert_serial.map(str::to_owned),
            msg: message::entry(place, words),
            signature: String::new(),
        }
    }

    /// Says that an entry is in the database.
    fn publish(&self, entry: &StoredEntry, no_webhook: bool) {
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

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
