//! Keylime's 2.x routes of the verifier: nodes are added, shown, deleted, reactivated and stopped.

use std::collections::BTreeMap;

use agent_core::wire::route::{ApiVersion, VERSION_NOT_SUPPORTED};
use agent_core::wire::text::Uuid;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use serde::Serialize;
use tracing::error;
use zeroize::Zeroize as _;

use self::add::Addition;
use self::view::{VERIFIER_ID, View};
use crate::envelope::{API_VERSIONS, CURRENT_VERSION, Envelope, Nothing};
use crate::http::administrators_only;
use crate::rounds::schedule::{ChangeError, Rounds};

pub mod add;
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
}

/// The verifier's routes. All but `/version` are for administrators only.
pub fn routes(api: Api) -> Router {
    let node = get(show).post(add_node).delete(remove);
    let nodes = Router::new()
        .route("/{version}/agents/", get(list))
        .route("/{version}/agents", get(list))
        .route("/{version}/agents/{id}", node)
        .route("/{version}/agents/{id}/reactivate", put(reactivate))
        .route("/{version}/agents/{id}/stop", put(stop))
        .layer(from_fn(supported_version))
        .layer(from_fn(administrators_only));
    Router::new()
        .route("/version", get(version))
        .merge(nodes)
        .with_state(api)
}

async fn version() -> Response {
    #[derive(Serialize)]
    struct Versions {
        current_version: &'static str,
        supported_versions: &'static [&'static str],
    }
    success(Versions {
        current_version: CURRENT_VERSION,
        supported_versions: API_VERSIONS,
    })
}

/// Refuses other versions in the words that clients look for.
async fn supported_version(request: Request, next: Next) -> Response {
    let first = request.uri().path().split('/').nth(1).unwrap_or_default();
    match first.strip_prefix('v').and_then(ApiVersion::parse) {
        Some(_) => next.run(request).await,
        None => refusal(StatusCode::BAD_REQUEST, VERSION_NOT_SUPPORTED.to_owned()),
    }
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    #[derive(Serialize)]
    struct Names {
        uuids: Vec<[String; 1]>,
    }
    let query = query.unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    let here =
        value("verifier").is_none_or(|verifier| verifier.is_empty() || verifier == VERIFIER_ID);
    let nodes = if here { api.rounds.list() } else { Vec::new() };
    if value("bulk").is_some_and(|bulk| bulk.eq_ignore_ascii_case("true")) {
        let interval = api.rounds.interval();
        let views = nodes
            .iter()
            .map(|node| (node.id.to_string(), View::of(node, interval)));
        success(views.collect::<BTreeMap<_, _>>())
    } else {
        let uuids = nodes.iter().map(|node| [node.id.to_string()]).collect();
        success(Names { uuids })
    }
}

async fn show(State(api): State<Api>, Path((_, id)): Path<(String, String)>) -> Response {
    let node = Uuid::parse(&id).and_then(|id| api.rounds.get(&id));
    match node {
        Some(node) => success(View::of(&node, api.rounds.interval())),
        None => refusal(StatusCode::NOT_FOUND, "agent id not found".to_owned()),
    }
}

async fn add_node(
    State(api): State<Api>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let addition = Addition::parse(&body, (&api.ip, api.port));
    wipe(body);
    let Some(id) = Uuid::parse(&id) else {
        return no_id();
    };
    match addition {
        Ok(Addition { terms, secrets }) => changed(api.rounds.add(id, terms, secrets).await),
        Err(error) => refusal(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn remove(State(api): State<Api>, Path((_, id)): Path<(String, String)>) -> Response {
    match Uuid::parse(&id) {
        Some(id) => changed(api.rounds.remove(&id).await),
        None => no_id(),
    }
}

async fn reactivate(State(api): State<Api>, Path((_, id)): Path<(String, String)>) -> Response {
    match Uuid::parse(&id) {
        Some(id) => at_a_known_node(api.rounds.reactivate(&id).await),
        None => no_id(),
    }
}

async fn stop(State(api): State<Api>, Path((_, id)): Path<(String, String)>) -> Response {
    match Uuid::parse(&id) {
        Some(id) => at_a_known_node(api.rounds.stop(&id).await),
        None => no_id(),
    }
}

/// Keylime answers 400, not 404, to these two for an unknown agent.
fn at_a_known_node(result: Result<(), ChangeError>) -> Response {
    match result {
        Err(error @ ChangeError::Unknown(_)) => refusal(StatusCode::BAD_REQUEST, error.to_string()),
        other => changed(other),
    }
}

fn changed(result: Result<(), ChangeError>) -> Response {
    let error = match result {
        Ok(()) => return success(Nothing {}),
        Err(error) => error,
    };
    let status = match error {
        ChangeError::Exists(_) => StatusCode::CONFLICT,
        ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
        _ => {
            error!("a request failed: {error}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    refusal(status, error.to_string())
}

fn no_id() -> Response {
    let reason = "not an agent id: letters, digits, '_', '.' and '-' are";
    refusal(StatusCode::BAD_REQUEST, reason.to_owned())
}

fn success(results: impl Serialize) -> Response {
    respond(StatusCode::OK, &Envelope::success(results))
}

fn refusal(status: StatusCode, reason: String) -> Response {
    let envelope = Envelope {
        code: status.as_u16(),
        status: reason,
        results: Nothing {},
    };
    respond(status, &envelope)
}

fn respond(status: StatusCode, envelope: &impl Serialize) -> Response {
    match serde_json::to_vec(envelope) {
        Ok(body) => (status, [("content-type", "application/json")], body).into_response(),
        Err(error) => {
            error!("an answer can't be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A body with V in it doesn't stay in memory, unless the connection still shares its buffer.
fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}
