//! Sends a revocation to all nodes of this verifier, each a few times at most.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent_core::wire::text::Uuid;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::message::{self, Notification, NotifierKey};
use crate::link::{Limits, LinkError, Method};
use crate::rounds::node::Node;
use crate::rounds::progress::Failure;
use crate::store::Store;

/// The signed revocation of a node, ready to be sent; `None`, which the log explains, if it can't be signed.
///
/// Its key goes when the node is deleted, so this is done before anybody can know of the failure.
pub async fn sign(store: &Store, node: &Node, failure: &Failure) -> Option<Bytes> {
    let msg = message::text(&node.id, &node.terms.text, failure, SystemTime::now());
    let signature = match signature(store, &node.id, &msg).await {
        Ok(signature) => signature,
        Err(error) => {
            error!(agent = %node.id, "its revocation can't be signed and isn't sent: {error}");
            return None;
        }
    };
    if signature.is_empty() {
        warn!(agent = %node.id, "it was added without a revocation key, so its revocation is sent unsigned and receivers will refuse it");
    }
    match serde_json::to_vec(&Notification { msg, signature }) {
        Ok(body) => Some(Bytes::from(body)),
        Err(error) => {
            error!(agent = %node.id, "its revocation can't be written: {error}");
            None
        }
    }
}

/// Tells every peer, the node itself included. Ends when each has answered or was asked a few times.
///
/// Receivers that can't be reached in that time don't learn of it; the log says which.
pub async fn send(node: Arc<Node>, body: Bytes, peers: Vec<Arc<Node>>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut sending = JoinSet::new();
    // A node that calls by itself has no address to be told at.
    for peer in peers.into_iter().filter(|peer| !peer.terms.is_push()) {
        let (body, permits) = (body.clone(), Arc::clone(&permits));
        sending.spawn(async move {
            let _permit = permits.acquire_owned().await;
            tell(&peer, body).await
        });
    }
    let results = sending.join_all().await;
    let told = results.iter().filter(|told| **told).count();
    info!(agent = %node.id, "its revocation reached {told} of {} nodes", results.len());
}

/// Base64 of the signature; empty if the node has no key.
async fn signature(
    store: &Store,
    id: &Uuid,
    msg: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let Some(pem) = store.revocation_key(id).await? else {
        return Ok(String::new());
    };
    let msg = msg.to_owned();
    let signing = tokio::task::spawn_blocking(move || {
        let pem = std::str::from_utf8(&pem).map_err(|_| message::NotifierKeyError::NotRsa)?;
        NotifierKey::from_pem(pem)?.sign(&msg)
    });
    Ok(signing.await??)
}

async fn tell(peer: &Node, body: Bytes) -> bool {
    let version = peer.update(|progress| progress.standing.version);
    let path = format!("/v{version}/notifications/revocation");
    let Some(mut link) = peer.link(LIMITS) else {
        return false;
    };
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        let error: LinkError = match link.send(Method::POST, &path, Some(body.clone())).await {
            Ok(answer) if answer.status == 200 => return true,
            Ok(answer) => {
                let (status, reason) = (answer.status, answer.reason());
                warn!(agent = %peer.id, "it refuses a revocation: HTTP {status}, \"{reason}\"");
                return false;
            }
            Err(error) => error,
        };
        if attempt == ATTEMPTS {
            warn!(agent = %peer.id, "a revocation doesn't reach it: {error}");
            break;
        }
        sleep(pause).await;
        pause *= 2;
    }
    false
}

/// Tries for each peer.
const ATTEMPTS: u32 = 4;

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Peers that are told at the same time.
const AT_ONCE: usize = 64;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(3),
    answer: Duration::from_secs(10),
    answer_bytes: 64 << 10,
};
