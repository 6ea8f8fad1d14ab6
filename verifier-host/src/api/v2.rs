//! Keylime's 2.x routes of the verifier: nodes are added, shown, deleted, reactivated and stopped; so
//! are named policies. Ours beside them: revocations.

use std::collections::BTreeMap;

use agent_core::wire::text::Uuid;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use serde_json::json;
use zeroize::Zeroize as _;

use self::add::{AddError, Addition};
use self::view::{VERIFIER_ID, View};
use crate::envelope::{CURRENT_VERSION, Nothing, VERIFIER_VERSIONS};
use crate::http::{
    ApiError, administrators_only, fallback, read, success, supported_versions_only,
};
use crate::payloads::Vault;
use crate::rounds::schedule::{ChangeError, Rounds};

pub mod add;
mod policies;
mod revocations;
pub mod view;

/// What the routes work with.
#[derive(Clone)]
pub struct Api {
    /// The rounds of all nodes.
    pub rounds: Rounds,
    /// This verifier's address, as tenants are told it.
    pub ip: String,
    /// This verifier's port.
    pub port: u16,
    /// Sealed payloads, which go with their nodes.
    pub vault: Vault,
}

/// The verifier's routes. All but `/version` are for administrators only.
pub fn routes(api: Api) -> Router {
    let node = get(show).post(add_node).delete(remove);
    Router::new()
        .route("/{version}/agents/", get(list))
        .route("/{version}/agents", get(list))
        .route("/{version}/agents/{id}", node)
        .route("/{version}/agents/{id}/reactivate", put(reactivate))
        .route("/{version}/agents/{id}/stop", put(stop))
        .route("/{version}/agents/{id}/evidence", get(evidence))
        .merge(policies::routes())
        .merge(revocations::routes())
        .layer(from_fn(administrators_only))
        .layer(from_fn(supported_versions_only))
        .route("/version", get(version))
        .fallback(nowhere)
        .with_state(api)
}

/// Version and identifier: `/{version}/agents/{id}`.
type AgentPath = Path<(String, String)>;

type Answer = Result<Response, ApiError>;

async fn version() -> Response {
    success(json!({ "current_version": CURRENT_VERSION, "supported_versions": VERIFIER_VERSIONS }))
}

/// The answer where there is no route: API 3.0 is spoken here, though not by these routes.
async fn nowhere(uri: Uri) -> Response {
    if uri.path().starts_with("/v3.0/") {
        StatusCode::NOT_FOUND.into_response()
    } else {
        fallback(uri).await
    }
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    let here = matches!(value("verifier"), None | Some("" | VERIFIER_ID));
    let nodes = if here { api.rounds.list() } else { Vec::new() };
    if value("bulk").is_some_and(|bulk| bulk.eq_ignore_ascii_case("true")) {
        let views = nodes
            .iter()
            .map(|node| (node.id.as_str(), View::of(node, &api.rounds)));
        success(views.collect::<BTreeMap<_, _>>())
    } else {
        let uuids: Vec<_> = nodes.iter().map(|node| [node.id.as_str()]).collect();
        success(json!({ "uuids": uuids }))
    }
}

async fn show(State(api): State<Api>, path: AgentPath) -> Answer {
    let node = api.rounds.get(&id_of(path)?);
    let node = node.ok_or_else(|| ApiError::not_found("agent id not found"))?;
    Ok(success(View::of(&node, &api.rounds)))
}

async fn add_node(State(api): State<Api>, path: AgentPath, body: Body) -> Answer {
    let id = id_of(path)?;
    let body = read(body, MAX_BODY_BYTES).await?;
    let addition = Addition::parse(&id, &body, (&api.ip, api.port));
    wipe(body);
    let Addition {
        terms,
        secrets,
        given,
    } = addition.map_err(|error| match error {
        AddError::Policy(error) => policies::unusable(&error),
        error => ApiError::bad_request(error.to_string()),
    })?;
    changed(api.rounds.add(id, terms, secrets, given).await)
}

async fn remove(State(api): State<Api>, path: AgentPath) -> Answer {
    let id = id_of(path)?;
    let node = api.rounds.get(&id);
    let removed = api.rounds.remove(id).await;
    if removed.is_ok() {
        let deposit = node.and_then(|node| node.push.as_ref()?.held().deposit);
        deposit.inspect(|deposit| api.vault.forget(&deposit.file));
    }
    changed(removed)
}

async fn reactivate(State(api): State<Api>, path: AgentPath) -> Answer {
    known(changed(api.rounds.reactivate(id_of(path)?).await))
}

async fn stop(State(api): State<Api>, path: AgentPath) -> Answer {
    known(changed(api.rounds.stop(id_of(path)?).await))
}

/// Ours: what a node showed when it failed last.
async fn evidence(State(api): State<Api>, path: AgentPath) -> Answer {
    let id = id_of(path)?;
    if api.rounds.get(&id).is_none() {
        return Err(ApiError::not_found("agent id not found"));
    }
    let shown = api.rounds.store().shown(&id).await;
    match shown.map_err(|error| ApiError::internal(&error))? {
        Some((at, shown)) => Ok(success(json!({ "at": at, "evidence": shown }))),
        None => Err(ApiError::not_found(
            "no evidence is kept: the node hasn't failed by a policy since it was added",
        )),
    }
}

fn changed(result: Result<(), ChangeError>) -> Answer {
    result.map_err(policies::refused)?;
    Ok(success(Nothing {}))
}

/// Keylime says 400, not 404, where an unknown agent is to be reactivated or stopped.
fn known(answer: Answer) -> Answer {
    answer.map_err(|error| match error.status {
        StatusCode::NOT_FOUND => ApiError::bad_request(error.reason),
        _ => error,
    })
}

fn id_of(Path((_, id)): AgentPath) -> Result<Uuid, ApiError> {
    let reason = "not an agent id: letters, digits, '_', '.' and '-' are allowed";
    Uuid::parse(&id).ok_or_else(|| ApiError::bad_request(reason))
}

/// A body with V in it doesn't stay in memory, unless the connection still shares its buffer.
fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}

/// Policies for runtime and measured boot, with all that stands beside them.
const MAX_BODY_BYTES: usize = policies::MAX_POLICY_BODY_BYTES + (8 << 20);
