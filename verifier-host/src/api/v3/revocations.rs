//! `GET .../revocations` and `POST .../revocations/outcomes`: a node that calls by itself reads its log, and says how far it is.

use std::sync::Arc;

use agent_core::wire::text::Uuid;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Error, document};
use super::{Answer, Api, agent_id, push_of, to_its_end};
use crate::http::read;
use crate::revocation::answer::{Outcome, Said};
use crate::revocation::log::Log;
use crate::revocation::{Peer, courier};
use crate::rounds::node::Node;
use crate::store::revocations::Speaks;

#[derive(Deserialize)]
struct Document {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    attributes: Said,
}

/// The entries of the node's log after the one that it names.
pub(super) async fn entries(
    State(api): State<Api>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let id = agent_id(&id)?;
    let node = asking(&api, &headers, &id)?;
    let Some(peer) = &node.peer else {
        let attributes = json!({ "log_id": null, "last": 0, "entries": [] });
        return Ok(answer(&attributes));
    };
    let query = query.unwrap_or_default();
    let after = after(&query, &peer.log)?;
    let last = peer.log.last();
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut number = after;
    // Most of these questions have no entries to be looked up for.
    while number < last {
        number += 1;
        let body = peer.log.body(api.rounds.store(), number).await?;
        let Some(body) = body else { break };
        bytes += body.json.len();
        if bytes > MAX_ENTRIES_BYTES && !entries.is_empty() {
            break;
        }
        let entry: Value =
            serde_json::from_slice(&body.json).map_err(|error| Error::internal(&error))?;
        entries.push(entry);
    }
    let attributes = json!({ "log_id": peer.log.id, "last": last, "entries": entries });
    Ok(answer(&attributes))
}

/// Keeps what the node says of itself.
pub(super) async fn outcomes(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let id = agent_id(&id)?;
    let node = asking(&api, &headers, &id)?;
    let bytes = read(body, MAX_BODY_BYTES).await?;
    let said: Document = serde_json::from_slice(&bytes)
        .map_err(|error| Error::document("/data", format!("not the document expected: {error}")))?;
    let said = said.data.attributes.bounded();
    let log_id = node.peer.as_ref().map(|peer| &peer.log.id);
    if log_id.is_none() || said.log_id.as_ref() != log_id {
        let pointer = "/data/attributes/log_id";
        return Err(Error::document(pointer, "not the log of this node"));
    }
    let revocations = api.rounds.revocations().clone();
    to_its_end(async move {
        let Some(peer) = &node.peer else {
            return Ok(());
        };
        let (position, outcomes) = in_log(said, peer);
        let report = (position, Speaks::Log);
        Ok(courier::record(&revocations, &node, peer, report, &outcomes).await?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is said of entries that there are.
fn in_log(said: Said, peer: &Peer) -> (u64, Vec<Outcome>) {
    let last = peer.log.last();
    let there = |outcome: &Outcome| (1..=last).contains(&outcome.number);
    let outcomes = said.outcomes.into_iter().filter(there).collect();
    (said.position.min(last), outcomes)
}

/// The node whose session asks, not too often.
fn asking(api: &Api, headers: &HeaderMap, id: &Uuid) -> Result<Arc<Node>, Error> {
    let session = api.session(headers, id)?;
    push_of(&session.node)?
        .attestations()
        .asking(api.clock.now())?;
    Ok(Arc::clone(&session.node))
}

/// From where on entries are wanted: the number of `after` if it is of this log, else 0.
fn after(query: &str, log: &Log) -> Result<u64, Error> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    let number = value("after").map_or(Ok(0), str::parse::<u64>);
    let number = number.map_err(|_| {
        let detail = "after is not the number of an entry";
        Error::new(StatusCode::BAD_REQUEST, "request", detail)
    })?;
    let same = value("log_id") == Some(log.id.as_str());
    Ok(if same { number } else { 0 })
}

fn answer(attributes: &Value) -> axum::response::Response {
    let body = json!({ "data": { "type": "revocations", "attributes": attributes } });
    document(StatusCode::OK, &body)
}

/// Entries in one answer; one at least.
const MAX_ENTRIES_BYTES: usize = 48 << 10;

const MAX_BODY_BYTES: usize = 64 << 10;
