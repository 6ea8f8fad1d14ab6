//! How far nodes are with logs, in words for administrators.

use std::sync::Arc;

use serde::Serialize;

use super::answer::Ended;
use super::log::Log;
use super::told::{self, State};
use crate::rounds::node::Node;
use crate::rounds::progress::AttestationStatus;
use crate::store::StoreError;
use crate::store::revocations::StoredEntry;

/// How far a node is with its log, in the view of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    log_id: String,
    group: Option<String>,
    position: u64,
    last: u64,
    state: State,
    error: Option<String>,
}

impl Summary {
    /// The node at this moment; none without a log. `status` is its attestation's.
    #[must_use]
    pub fn of(node: &Node, status: AttestationStatus) -> Option<Self> {
        let log = &node.peer.as_ref()?.log;
        let last = log.last();
        let peer = peer(node, log, status)?;
        Some(Self {
            log_id: log.id.clone(),
            group: log.group.name(),
            position: peer.position,
            last,
            state: peer.state,
            error: peer.error,
        })
    }
}

/// How far a node is with a log; none if it is another node's.
#[must_use]
pub fn peer(node: &Node, log: &Log, status: AttestationStatus) -> Option<told::Peer> {
    let peer = node.peer.as_ref().filter(|peer| peer.log.id == log.id)?;
    let (state, error) = state(node, log.last(), status)?;
    let standing = peer.standing();
    Some(told::Peer {
        agent_id: node.id.to_string(),
        state,
        position: standing.position,
        since: standing.since,
        error,
    })
}

/// How far a node is with one entry; none if it has another log. How its actions went is to be [told](tell).
#[must_use]
pub fn outcome(
    node: &Node,
    (log, number): (&Log, u64),
    status: AttestationStatus,
) -> Option<told::PeerOutcome> {
    node.peer.as_ref().filter(|peer| peer.log.id == log.id)?;
    let (state, _) = state(node, number, status)?;
    let Ended { actions, more } = Ended::default();
    Some(told::PeerOutcome {
        agent_id: node.id.to_string(),
        state,
        actions,
        more,
    })
}

/// Tells how a node's actions went, by the JSON that is kept of it.
pub fn tell(outcome: &mut told::PeerOutcome, stored: Option<&String>) {
    let ended = stored.and_then(|json| serde_json::from_str::<Ended>(json).ok());
    let Ended { actions, more } = ended.unwrap_or_default();
    (outcome.actions, outcome.more) = (actions, more);
}

/// Where a node stands with an entry of its log, and why it doesn't go on. One that calls by itself is unreachable while it is
/// silent.
fn state(node: &Node, number: u64, status: AttestationStatus) -> Option<(State, Option<String>)> {
    let peer = node.peer.as_ref()?;
    let silent = node.terms.is_push() && status == AttestationStatus::Timeout;
    Some(match peer.state(number) {
        State::Waiting if silent => (State::Unreachable, Some(SILENT.to_owned())),
        state @ (State::Acted | State::Acknowledged) => (state, None),
        state => (state, peer.standing().trouble.map(|trouble| trouble.error)),
    })
}

/// A log in the list of all.
#[must_use]
pub fn log(log: &Arc<Log>) -> told::Log {
    told::Log {
        log_id: log.id.clone(),
        anchor: log.anchor.name.as_str().to_owned(),
        group: log.group.name(),
        number: log.last(),
        crl_number: log.anchor.crl_number(),
    }
}

/// An entry.
#[must_use]
pub fn entry(stored: StoredEntry) -> told::Entry {
    told::Entry {
        number: stored.number,
        agent_id: stored.uuid,
        kind: stored.kind,
        time: rfc3339(stored.at),
        reason: stored.reason,
        cert_serial: stored.cert_serial,
        msg: stored.msg,
        signature: stored.signature,
    }
}

/// Seconds since 1970 as RFC 3339 has them.
fn rfc3339(seconds: u64) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let seconds = i64::try_from(seconds).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

/// Looks all entries after a number up, as many as one answer has.
///
/// # Errors
/// The database.
pub async fn entries(
    store: &crate::store::Store,
    log: &Log,
    after: u64,
) -> Result<told::Entries, StoreError> {
    let entries = store.entries(&log.id, after, told::MAX_ENTRIES).await?;
    Ok(told::Entries {
        entries: entries.into_iter().map(entry).collect(),
    })
}

const SILENT: &str = "it calls by itself, and hasn't for a while";
