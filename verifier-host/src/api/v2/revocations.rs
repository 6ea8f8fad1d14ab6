//! Logs of revocations, for administrators: what is in them, who has acted on it, and entries that operators make.
//!
//! Source: agent-core's `docs/revocation.md`, "Tenant and verifier".

use std::sync::Arc;

use agent_core::wire::text::Uuid;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post, put};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use time::OffsetDateTime;

use super::view::attestation_status;
use super::{Answer, Api, policies};
use crate::envelope::Nothing;
use crate::http::{ApiError, read_json, success};
use crate::revocation::anchor::{AnchorName, Group};
use crate::revocation::list::{self, Delegate, List};
use crate::revocation::log::{Anchor, Log};
use crate::revocation::told::{
    EntryOutcomes, Head, Logs, MAX_REASON_CHARS, Made, NewList, NoSigner, Peers, Revoke, Signer,
    WhichLog,
};
use crate::revocation::{AppendError, News, status};
use crate::store::StoreError;

/// The routes, which administrators alone may use.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{version}/revocations", get(logs).put(begin).post(revoke))
        .route("/{version}/revocations/crl", post(new_list))
        .route(
            "/{version}/revocations/crl-signer",
            put(delegate).delete(take_back),
        )
        .route("/{version}/revocations/{log_id}", get(entries))
        .route("/{version}/revocations/{log_id}/peers", get(peers))
        .route("/{version}/revocations/{log_id}/{number}", get(entry))
}

async fn begin(State(api): State<Api>, body: Body) -> Answer {
    let wanted: WhichLog = read_json(body, MAX_BODY_BYTES).await?;
    let anchor = anchor_name(&wanted.anchor)?;
    let group = Group::parse(wanted.group.as_deref());
    let group = group.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let log = api.rounds.revocations().begin(&anchor, &group).await;
    let log = log.map_err(internal)?;
    let head = log.head();
    Ok(success(Head {
        log_id: log.id.clone(),
        number: head.number,
        previous: head.previous,
        crl_number: log.anchor.crl_number(),
    }))
}

async fn logs(State(api): State<Api>) -> Response {
    let logs = api.rounds.revocations().logs();
    success(Logs {
        logs: logs.iter().map(status::log).collect(),
    })
}

async fn entries(
    State(api): State<Api>,
    Path((_, log_id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let log = log_of(&api, &log_id)?;
    let after = after(query.as_deref())?;
    let entries = status::entries(api.rounds.store(), &log, after).await;
    Ok(success(entries.map_err(internal)?))
}

async fn peers(State(api): State<Api>, Path((_, log_id)): Path<(String, String)>) -> Answer {
    let log = log_of(&api, &log_id)?;
    let nodes = api.rounds.list();
    let peer = |node: &Arc<_>| status::peer(node, &log, attestation_status(node, &api.rounds));
    Ok(success(Peers {
        number: log.last(),
        peers: nodes.iter().filter_map(peer).collect(),
    }))
}

async fn entry(
    State(api): State<Api>,
    Path((_, log_id, number)): Path<(String, String, String)>,
) -> Answer {
    let log = log_of(&api, &log_id)?;
    let store = api.rounds.store();
    let missing = || ApiError::not_found("there is no entry of that number in the log");
    let number = number.parse().map_err(|_| missing())?;
    let entry = store.entry(&log.id, number).await.map_err(internal)?;
    let entry = entry.ok_or_else(missing)?;
    let nodes = api.rounds.list();
    let peer = |node: &Arc<crate::rounds::node::Node>| {
        let attests = attestation_status(node, &api.rounds);
        status::outcome(node, (&log, number), attests)
    };
    let mut peers: Vec<_> = nodes.iter().filter_map(peer).collect();
    // Read after that: whoever is seen to have acted has said how, and that is in the database first.
    let outcomes = store.outcomes(&log.id, number).await.map_err(internal)?;
    for peer in &mut peers {
        status::tell(peer, outcomes.get(&peer.agent_id));
    }
    Ok(success(EntryOutcomes {
        entry: status::entry(entry),
        peers,
    }))
}

async fn revoke(State(api): State<Api>, body: Body) -> Answer {
    let wish: Revoke = read_json(body, MAX_LIST_BODY_BYTES).await?;
    let id = Uuid::parse(&wish.agent_id);
    let id = id.ok_or_else(|| ApiError::bad_request("agent_id is not an agent id"))?;
    let sane = |character: char| !character.is_control();
    let chars = wish.reason.chars().count();
    if !(1..=MAX_REASON_CHARS).contains(&chars) || !wish.reason.chars().all(sane) {
        let reason =
            format!("reason is not one sentence of 1 to {MAX_REASON_CHARS} printable characters");
        return Err(ApiError::bad_request(reason));
    }
    let list = wish.crl.as_deref().map(list_of).transpose()?;
    let made = api.rounds.revoke(id, wish.reason, list).await;
    Ok(success(made.map_err(policies::refused)?))
}

async fn new_list(State(api): State<Api>, body: Body) -> Answer {
    let new: NewList = read_json(body, MAX_LIST_BODY_BYTES).await?;
    let anchor = known_anchor(&api, &new.anchor)?;
    let list = list_of(&new.crl)?;
    let made = api
        .rounds
        .revocations()
        .append(anchor, News::List(list))
        .await;
    Ok(success(Made {
        entries: made.map_err(|error| unmade(&error))?,
    }))
}

async fn delegate(State(api): State<Api>, body: Body) -> Answer {
    let signer: Signer = read_json(body, MAX_LIST_BODY_BYTES).await?;
    let anchor = known_anchor(&api, &signer.anchor)?;
    let now = OffsetDateTime::now_utc();
    let delegate = Delegate::parse(&signer.certificate, &signer.key, now)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let list = signer.crl.as_deref().map(list_of).transpose()?;
    let parts = (delegate.certificate(), signer.key.as_str());
    let store = api.rounds.store();
    let set = store.set_delegate(&anchor.name, parts, list.as_ref()).await;
    set.map_err(internal)?;
    tracing::info!(
        anchor = anchor.name.as_str(),
        "revocation lists are signed here from now on"
    );
    Ok(success(Nothing {}))
}

async fn take_back(State(api): State<Api>, body: Body) -> Answer {
    let signer: NoSigner = read_json(body, MAX_BODY_BYTES).await?;
    let anchor = known_anchor(&api, &signer.anchor)?;
    let taken = api.rounds.store().drop_delegate(&anchor.name).await;
    if taken.map_err(internal)? {
        tracing::info!(
            anchor = anchor.name.as_str(),
            "revocation lists are signed here no more"
        );
        Ok(success(Nothing {}))
    } else {
        Err(ApiError::not_found(
            "nobody signs revocation lists of that anchor here",
        ))
    }
}

/// The answer where no entry is made.
pub(super) fn unmade(error: &AppendError) -> ApiError {
    use AppendError::{NoKey, NoLog, OldList};
    match error {
        NoLog(_) | NoKey | OldList { .. } => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        error => ApiError::internal(error),
    }
}

fn log_of(api: &Api, log_id: &str) -> Result<Arc<Log>, ApiError> {
    let log = api.rounds.revocations().find(log_id);
    log.ok_or_else(|| ApiError::not_found("there is no log of that name"))
}

fn anchor_name(text: &str) -> Result<AnchorName, ApiError> {
    let reason = "anchor is not 64 lowercase hex digits: the SHA-256 of the notifier key's SubjectPublicKeyInfo";
    AnchorName::parse(text).ok_or_else(|| ApiError::bad_request(reason))
}

fn known_anchor(api: &Api, text: &str) -> Result<Arc<Anchor>, ApiError> {
    let anchor = api.rounds.revocations().anchor(&anchor_name(text)?);
    let reason = "there is no log of that anchor; begin one first (PUT /v2.6/revocations), or add a node with its key";
    anchor.ok_or_else(|| ApiError::not_found(reason))
}

fn list_of(text: &str) -> Result<List, ApiError> {
    let der = BASE64_STANDARD.decode(text).ok();
    let list = der.ok_or(list::ListError::NotAList).and_then(List::parse);
    list.map_err(|error| ApiError::bad_request(error.to_string()))
}

/// The number of `?after=`, 0 without one.
fn after(query: Option<&str>) -> Result<u64, ApiError> {
    let mut pairs = query.unwrap_or_default().split('&');
    let after = pairs.find_map(|pair| pair.strip_prefix("after="));
    let number = after.map_or(Ok(0), str::parse);
    number.map_err(|_| ApiError::bad_request("after is not the number of an entry"))
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn internal(error: StoreError) -> ApiError {
    ApiError::internal(&error)
}

/// A certificate, a key, and names.
const MAX_BODY_BYTES: usize = 64 << 10;

/// A list in base64, with names.
const MAX_LIST_BODY_BYTES: usize = list::MAX_BYTES / 2 * 3;
