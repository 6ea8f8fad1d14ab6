//! All nodes at once: one task for each, and the changes that tenants ask for.
//!
//! What is known about a node is held in memory; the database has what must not be lost. Changes come one at a time, and
//! each stops the node's task first, so nobody writes behind its back.

use agent_core::wire::text::Uuid;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info};

use super::attend::attend;
use super::node::Node;
use super::progress::Progress;
use super::terms::Terms;
use crate::pki::{Authority, PkiError, ServerTrust};
use crate::policies::{Given, Policies};
use crate::policy::{PolicyKind, PolicyName};
use crate::revocation::{AppendError, Notifications, Peer, Revocations};
use crate::store::nodes::{Inserted, Secrets};
use crate::store::{Store, StoreError};

/// The rounds of all nodes. Cheap to clone.
#[derive(Clone)]
pub struct Rounds {
    pub(super) shared: Arc<Shared>,
    authority: Arc<Authority>,
    changing: Arc<Mutex<()>>,
    /// What brings the webhook its entries.
    webhook: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the tasks share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) policies: Policies,
    pub(super) revocations: Revocations,
    pub(super) interval: Duration,
    /// Permits to open connections: a thousand handshakes at once would starve each other.
    pub(super) connecting: Semaphore,
    running: RwLock<BTreeMap<Uuid, Running>>,
}

struct Running {
    node: Arc<Node>,
    /// `None` while a change is made, and for a node that calls by itself.
    task: Option<JoinHandle<()>>,
}

/// Why a change can't be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A node of that name is there already.
    #[error("agent {0} is there already; delete it first, or use update")]
    Exists(Uuid),
    /// There is no such node.
    #[error("agent {0} is not known here")]
    Unknown(Uuid),
    /// A policy of that name is there already.
    #[error("the {} {name} is there already; delete or update it, or choose another name", kind.noun())]
    PolicyExists {
        /// Its kind.
        kind: PolicyKind,
        /// Its name.
        name: PolicyName,
    },
    /// There is no such policy.
    #[error("the {} {name} is not known here; add it first", kind.noun())]
    NoPolicy {
        /// Its kind.
        kind: PolicyKind,
        /// Its name.
        name: PolicyName,
    },
    /// Nodes are judged by it.
    #[error("the {} {name} is in use by agent {agent}; delete or update that agent first", kind.noun())]
    PolicyInUse {
        /// Its kind.
        kind: PolicyKind,
        /// Its name.
        name: PolicyName,
        /// One of them.
        agent: Uuid,
    },
    /// The database or the at-rest key.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates, which don't allow connecting to it.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A revocation can't be recorded.
    #[error(transparent)]
    Revocation(#[from] AppendError),
    /// The change broke off in the middle.
    #[error("the change broke off by an error of this program: {0}")]
    BrokeOff(#[from] JoinError),
}

impl Rounds {
    /// Rounds over the nodes of this database, `interval` apart; none runs before [`Rounds::resume`]. `notifications` says who
    /// is told of revocations.
    #[must_use]
    pub fn new(
        store: Store,
        authority: Arc<Authority>,
        interval: Duration,
        notifications: Notifications,
    ) -> Self {
        let shared = Shared {
            revocations: Revocations::new(store.clone(), notifications),
            store,
            policies: Policies::default(),
            interval,
            connecting: Semaphore::new(CONNECTING_AT_ONCE),
            running: RwLock::default(),
        };
        Self {
            shared: Arc::new(shared),
            authority,
            changing: Arc::default(),
            webhook: Arc::default(),
        }
    }

    /// Goes on with the nodes of the database; those that failed or were stopped stay so. How many there are.
    ///
    /// # Errors
    /// The database. A record that can't be read is logged and left where it is.
    pub async fn resume(&self) -> Result<usize, ChangeError> {
        self.load_policies().await?;
        let revocations = &self.shared.revocations;
        revocations.load().await?;
        if let Some(hook) = revocations.notifications().webhook.clone() {
            let serving = tokio::spawn(hook.serve(revocations.clone()));
            *self.webhook.lock().await = Some(serving);
        }
        let peers = self.shared.store.revocation_peers().await?;
        let mut count = 0_u32;
        let mut held = self.shared.store.held().await?;
        for stored in self.shared.store.nodes().await? {
            match stored {
                Ok(stored) => {
                    let peer = peers.get(stored.id.as_str());
                    let peer = peer.and_then(|row| revocations.peer(row));
                    let node = self.node(stored.id, stored.terms, stored.has_v, stored.progress)?;
                    let node = Arc::new(node.with_peer(peer));
                    if let (Some(push), Some(held)) = (&node.push, held.remove(node.id.as_str())) {
                        push.hold(|before| *before = held);
                    }
                    revocations.employ(&node, true);
                    self.start(node, (RESUME_APART * count).min(self.shared.interval));
                    count += 1;
                }
                Err(error) => error!("a node is left out: {error}"),
            }
        }
        if count > 0 {
            info!("goes on with {count} of the nodes that were added before");
        }
        Ok(self.shared.read().len())
    }

    /// Adds a node, with the policies that came with it, and asks it at once.
    ///
    /// # Errors
    /// It exists, or one of the policies does; a policy that it only names isn't there; the database.
    pub async fn add(
        &self,
        id: Uuid,
        terms: Terms,
        secrets: Secrets,
        given: Vec<Given>,
    ) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            let progress = Progress::new(terms.text.supported_version);
            let has_v = secrets.v.is_some();
            let node = this.node(id.clone(), terms, has_v, progress.clone())?;
            let text = &node.terms.text;
            if this.get(&id).is_some() {
                return Err(ChangeError::Exists(id));
            }
            if let Some(objection) = this.objection(text, &given) {
                return Err(objection);
            }
            let store = &this.shared.store;
            let inserted = store
                .insert_node(&id, text, &progress, &secrets, &given)
                .await?;
            let Some(Inserted { log }) = inserted else {
                return Err(ChangeError::Exists(id));
            };
            let peer = log.map(|log| {
                let last = log.number;
                Peer::new(this.shared.revocations.log_of(log), last)
            });
            let node = Arc::new(node.with_peer(peer));
            this.shared.revocations.employ(&node, false);
            for Given { name, draft, .. } in given {
                this.shared.policies.put(name, draft.ready);
            }
            info!(agent = %id, "added");
            this.start(node, Duration::ZERO);
            Ok(())
        })
        .await
    }

    /// Forgets a node and what was entrusted for it. Nothing is sent to it any more.
    ///
    /// # Errors
    /// Unknown; the database.
    pub async fn remove(&self, id: Uuid) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            let node = this.halt(&id).await;
            if let Some(peer) = node.as_ref().and_then(|node| node.peer.as_ref()) {
                end(peer.dismiss()).await;
            }
            match this.shared.store.delete_node(&id).await {
                Ok(true) => {}
                Ok(false) => return Err(ChangeError::Unknown(id)),
                Err(error) => {
                    if let Some(node) = node {
                        this.shared.revocations.employ(&node, true);
                        this.start(node, Duration::ZERO);
                    }
                    return Err(error.into());
                }
            }
            this.shared.write().remove(&id);
            this.forget_its_own_policies(&id).await?;
            info!(agent = %id, "deleted");
            Ok(())
        })
        .await
    }

    /// Attests a node anew, whatever its state; it counts as unproved until it passes.
    ///
    /// # Errors
    /// Unknown; the database.
    pub async fn reactivate(&self, id: Uuid) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            let node = this.change(&id, Progress::reactivate).await?;
            node.remember(None);
            info!(agent = %id, "reactivated");
            this.start(node, Duration::ZERO);
            Ok(())
        })
        .await
    }

    /// Ends a node's rounds until it is reactivated.
    ///
    /// # Errors
    /// Unknown; the database.
    pub async fn stop(&self, id: Uuid) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            this.change(&id, Progress::stopped).await?;
            info!(agent = %id, "stopped");
            Ok(())
        })
        .await
    }

    /// The logs of revocations.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.shared.revocations
    }

    /// The node of that name.
    #[must_use]
    pub fn get(&self, id: &Uuid) -> Option<Arc<Node>> {
        self.shared
            .read()
            .get(id)
            .map(|running| Arc::clone(&running.node))
    }

    /// All nodes, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Node>> {
        self.shared.nodes()
    }

    /// The files of all payloads that are deposited.
    #[must_use]
    pub fn sealed_files(&self) -> HashSet<String> {
        let file = |node: Arc<Node>| Some(node.push.as_ref()?.held().deposit?.file.clone());
        self.list().into_iter().filter_map(file).collect()
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.shared.policies
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The time between two rounds of a node.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.shared.interval
    }

    /// Ends all rounds and writes the counts that were only in memory.
    pub async fn shut_down(&self) {
        let _one = self.changing.lock().await;
        let running = std::mem::take(&mut *self.shared.write());
        let mut nodes = Vec::with_capacity(running.len());
        for Running { node, task } in running.into_values() {
            end(task).await;
            if let Some(peer) = &node.peer {
                end(peer.dismiss()).await;
            }
            nodes.push(node);
        }
        end(self.webhook.lock().await.take()).await;
        // An entry and the failure of its node are written together; what is written here must not be older.
        self.shared.revocations.settle().await;
        if let Err(error) = self.shared.store.save_all(&nodes).await {
            error!("counts since the last change are lost: {error}");
        }
    }

    /// Makes a change while no other is made, and to its end, even if its caller goes away: a node that is half added or half
    /// deleted would be attested by nobody.
    pub(super) async fn to_its_end<C, F, T>(&self, change: C) -> Result<T, ChangeError>
    where
        C: FnOnce(Self) -> F,
        F: Future<Output = Result<T, ChangeError>> + Send + 'static,
        T: Send + 'static,
    {
        let changing = Arc::clone(&self.changing);
        let change = change(self.clone());
        tokio::spawn(async move {
            let _one = changing.lock().await;
            change.await
        })
        .await?
    }

    fn node(
        &self,
        id: Uuid,
        terms: Terms,
        has_v: bool,
        progress: Progress,
    ) -> Result<Node, PkiError> {
        let config = |certificate: &CertificateDer<'static>| {
            let trust = ServerTrust::Pinned(certificate.clone());
            self.authority.client_config(&trust)
        };
        let tls = terms.certificate.as_ref().map(config).transpose()?;
        Ok(Node::new(id, terms, has_v, progress, tls))
    }

    /// Begins a node's rounds; one that calls by itself is only listed.
    pub(super) fn start(&self, node: Arc<Node>, first: Duration) {
        let polled = !node.terms.is_push();
        let rounds = || attend(Arc::clone(&self.shared), Arc::clone(&node), first);
        let task = polled.then(|| tokio::spawn(rounds()));
        let running = Running { node, task };
        self.shared.write().insert(running.node.id.clone(), running);
    }

    /// Stops the node's task, changes its progress, and writes it; if that fails, all is as before.
    async fn change(
        &self,
        id: &Uuid,
        change: impl FnOnce(&mut Progress),
    ) -> Result<Arc<Node>, ChangeError> {
        let node = self
            .halt(id)
            .await
            .ok_or_else(|| ChangeError::Unknown(id.clone()))?;
        let mut progress = node.progress();
        change(&mut progress);
        if let Err(error) = self.shared.store.save_progress(id, &progress).await {
            self.start(node, Duration::ZERO);
            return Err(error.into());
        }
        node.update(|before| *before = progress);
        Ok(node)
    }

    /// Ends the node's task and waits until it has ended; the node stays listed.
    pub(super) async fn halt(&self, id: &Uuid) -> Option<Arc<Node>> {
        let (node, task) = {
            let mut running = self.shared.write();
            let running = running.get_mut(id)?;
            (Arc::clone(&running.node), running.task.take())
        };
        end(task).await;
        Some(node)
    }
}

async fn end(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        task.abort();
        // Ended by the abort; the error says only that.
        let _ = task.await;
    }
}

impl Shared {
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.read()
            .values()
            .map(|running| Arc::clone(&running.node))
            .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Uuid, Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Uuid, Running>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that are being opened at the same time.
const CONNECTING_AT_ONCE: usize = 256;

/// Nodes of the database begin this far apart after a start, all within one interval.
const RESUME_APART: Duration = Duration::from_millis(5);
