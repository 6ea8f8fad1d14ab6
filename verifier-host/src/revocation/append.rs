//! How entries get into logs.
//!
//! One entry of an anchor is made at a time: its number and its chain are computed from the last one, it is signed, and the
//! database takes it only as the next one, in one transaction with the failure of its node. Then memory says so, and couriers go.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::task::JoinError;
use tracing::error;
use x509_parser::num_bigint::BigUint;
use zeroize::Zeroizing;

use super::anchor::cert_serial;
use super::list::{Delegate, List, Revoked};
use super::log::{Anchor, Log};
use super::message::{self, Carried, NotifierKey, NotifierKeyError, Subject, Words};
use super::registry::Revocations;
use super::told::MadeEntry;
use crate::rounds::node::{Node, unix_now};
use crate::rounds::progress::{Failure, OperationalState};
use crate::store::StoreError;
use crate::store::revocations::{Append, StoredEntry};

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
    /// Records that a node's evidence doesn't hold, and revokes it. In the end it has failed in memory, whatever went wrong; an
    /// entry that couldn't be written is tried again until the node is deleted or reactivated. Whether the database has the
    /// node's failure too.
    pub async fn node_failed(&self, node: &Arc<Node>, failure: Failure) -> bool {
        let Some(peer) = &node.peer else {
            let msg = message::text(subject(node, &failure), SystemTime::now());
            fail(node, failure);
            if let Some(hook) = &self.notifications().webhook {
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
        let making = Arc::clone(self.making()).read_owned().await;
        let this = self.clone();
        let made = tokio::spawn(async move {
            let _making = making;
            let _one = anchor.one.lock().await;
            this.append_now(&anchor, news).await
        });
        made.await?
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
            no_webhook: self.notifications().webhook.is_none(),
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
            log.publish(&entry, self.notifications().webhook.is_none());
        }
        if let Some(hook) = &self.notifications().webhook {
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
                let ceased = operator && has_ceased(&failure.reason);
                let list = self.delegates_list(anchor, &node, ceased, newest).await;
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
        ceased: bool,
        newest: Option<&List>,
    ) -> Option<List> {
        let serial = cert_serial(&node.terms.text.metadata)?;
        let made = async {
            let Some(delegate) = self.store().delegate(&anchor.name).await? else {
                return Ok(None);
            };
            let mut revoked: Vec<Revoked> = Vec::new();
            for one in self.store().revoked_under(&anchor.name).await? {
                let ceased = one.operator && has_ceased(&one.reason);
                revoked.extend(revoked_of(&one.serial, one.at, ceased));
            }
            revoked.extend(revoked_of(&serial, unix_now(), ceased));
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

/// Whether an operator's reason says that the node was only taken out of use: whatever else it says, its key may be in other hands.
///
/// Source: RFC 5280, section 5.3.1.
fn has_ceased(reason: &str) -> bool {
    reason.trim() == "cessationOfOperation"
}

fn revoked_of(serial: &str, at: u64, ceased: bool) -> Option<Revoked> {
    let at = i64::try_from(at).ok()?;
    Some(Revoked {
        serial: BigUint::parse_bytes(serial.as_bytes(), 10)?,
        at: OffsetDateTime::from_unix_timestamp(at).ok()?,
        ceased,
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

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
