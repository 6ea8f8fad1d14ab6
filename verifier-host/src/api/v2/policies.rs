//! `/v2.x/allowlists` and `/v2.x/mbpolicies`: the policies that are kept under names.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use crate::envelope::Nothing;
use crate::http::{ApiError, created, read_json, success};
use crate::policies::{Draft, DraftError};
use crate::policy::runtime::MAX_POLICY_BYTES;
use crate::policy::{PolicyKind, PolicyName};
use crate::rounds::schedule::ChangeError;

/// The routes of both kinds.
pub(super) fn routes() -> Router<Api> {
    let runtime = get(show_runtime)
        .post(add_runtime)
        .put(update_runtime)
        .delete(delete_runtime);
    let measured_boot = get(show_measured_boot)
        .post(add_measured_boot)
        .put(update_measured_boot)
        .delete(delete_measured_boot);
    Router::new()
        .route("/{version}/allowlists", get(list_runtime))
        .route("/{version}/allowlists/", get(list_runtime))
        .route("/{version}/allowlists/{name}", runtime)
        .route("/{version}/mbpolicies", get(list_measured_boot))
        .route("/{version}/mbpolicies/", get(list_measured_boot))
        .route("/{version}/mbpolicies/{name}", measured_boot)
}

/// Version and name: `/{version}/allowlists/{name}`.
type PolicyPath = Path<(String, String)>;

type Answer = Result<Response, ApiError>;

/// Keylime's tenant sends a `tpm_policy` too, which was never evaluated.
#[derive(Deserialize)]
struct RuntimeBody {
    runtime_policy: String,
    #[serde(default)]
    runtime_policy_key: Option<String>,
}

#[derive(Deserialize)]
struct MeasuredBootBody {
    mb_policy: String,
}

async fn list_runtime(State(api): State<Api>) -> Response {
    let names = names(&api, PolicyKind::Runtime);
    success(json!({ "runtimepolicy names": names }))
}

async fn list_measured_boot(State(api): State<Api>) -> Response {
    let names = names(&api, PolicyKind::MeasuredBoot);
    success(json!({ "mbpolicy names": names }))
}

fn names(api: &Api, kind: PolicyKind) -> Vec<PolicyName> {
    api.rounds.policies().names(kind)
}

async fn show_runtime(State(api): State<Api>, path: PolicyPath) -> Answer {
    let (name, text) = text(&api, PolicyKind::Runtime, path).await?;
    // Keylime's spelling of its own field, which is always null.
    let results = json!({ "name": name, "tmp_policy": Value::Null, "runtime_policy": text });
    Ok(success(results))
}

async fn show_measured_boot(State(api): State<Api>, path: PolicyPath) -> Answer {
    let (name, text) = text(&api, PolicyKind::MeasuredBoot, path).await?;
    Ok(success(json!({ "name": name, "mb_policy": text })))
}

async fn text(
    api: &Api,
    kind: PolicyKind,
    path: PolicyPath,
) -> Result<(PolicyName, String), ApiError> {
    let name = name_of(path)?;
    let text = api.rounds.store().policy_text(kind, &name).await;
    let text = text.map_err(|error| ApiError::internal(&error))?;
    match text.map(String::from_utf8) {
        Some(Ok(text)) => Ok((name, text)),
        Some(Err(error)) => Err(ApiError::internal(&error)),
        None => Err(refused(ChangeError::NoPolicy { kind, name })),
    }
}

async fn add_runtime(State(api): State<Api>, path: PolicyPath, body: Body) -> Answer {
    let (name, draft) = runtime(path, body).await?;
    kept(api.rounds.add_policy(name, draft).await)
}

async fn update_runtime(State(api): State<Api>, path: PolicyPath, body: Body) -> Answer {
    let (name, draft) = runtime(path, body).await?;
    kept(api.rounds.update_policy(name, draft).await)
}

async fn add_measured_boot(State(api): State<Api>, path: PolicyPath, body: Body) -> Answer {
    let (name, draft) = measured_boot(path, body).await?;
    kept(api.rounds.add_policy(name, draft).await)
}

async fn update_measured_boot(State(api): State<Api>, path: PolicyPath, body: Body) -> Answer {
    let (name, draft) = measured_boot(path, body).await?;
    let updated = api.rounds.update_policy(name, draft).await;
    // Keylime says 409, not 404, where a measured-boot policy is to be updated that isn't there.
    kept(updated).map_err(|error| match error.status {
        StatusCode::NOT_FOUND => ApiError::new(StatusCode::CONFLICT, error.reason),
        _ => error,
    })
}

async fn delete_runtime(State(api): State<Api>, path: PolicyPath) -> Answer {
    delete(api, PolicyKind::Runtime, path).await
}

async fn delete_measured_boot(State(api): State<Api>, path: PolicyPath) -> Answer {
    delete(api, PolicyKind::MeasuredBoot, path).await
}

async fn delete(api: Api, kind: PolicyKind, path: PolicyPath) -> Answer {
    let removed = api.rounds.remove_policy(kind, name_of(path)?).await;
    removed.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn runtime(path: PolicyPath, body: Body) -> Result<(PolicyName, Draft), ApiError> {
    let name = name_of(path)?;
    let body: RuntimeBody = read_json(body, MAX_POLICY_BODY_BYTES).await?;
    let draft = Draft::runtime(&body.runtime_policy, body.runtime_policy_key.as_deref());
    Ok((name, draft.map_err(|error| unusable(&error))?))
}

async fn measured_boot(path: PolicyPath, body: Body) -> Result<(PolicyName, Draft), ApiError> {
    let name = name_of(path)?;
    let body: MeasuredBootBody = read_json(body, MAX_POLICY_BODY_BYTES).await?;
    let draft = Draft::parse(PolicyKind::MeasuredBoot, body.mb_policy.into_bytes(), None);
    Ok((name, draft.map_err(|error| unusable(&error))?))
}

fn name_of(Path((_, name)): PolicyPath) -> Result<PolicyName, ApiError> {
    PolicyName::parse(name).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn kept(result: Result<(), ChangeError>) -> Answer {
    result.map_err(refused)?;
    Ok(created(Nothing {}))
}

/// What a tenant is told about a policy that can't be used.
pub(super) fn unusable(error: &DraftError) -> ApiError {
    let status = match error.is_signature() {
        true => StatusCode::UNAUTHORIZED,
        false => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, error.to_string())
}

/// What a tenant is told about a change that isn't made.
pub(super) fn refused(error: ChangeError) -> ApiError {
    use ChangeError::{Exists, NoPolicy, PolicyExists, PolicyInUse, Revocation, Unknown};
    match error {
        Revocation(error) => super::revocations::unmade(&error),
        Exists(_) | PolicyExists { .. } | PolicyInUse { .. } => {
            ApiError::new(StatusCode::CONFLICT, error.to_string())
        }
        Unknown(_) | NoPolicy { .. } => ApiError::not_found(error.to_string()),
        error => ApiError::internal(&error),
    }
}

/// A policy in base64 or in a JSON text, with a key beside it.
pub(super) const MAX_POLICY_BODY_BYTES: usize = MAX_POLICY_BYTES / 2 * 3;
