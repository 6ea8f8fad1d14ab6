//! The registrar's routes, the same on both ports: those for administrators answer to a client certificate alone, which can't
//! come over the plain port.
//!
//! Source: Keylime 7.14's registrar, API 2.1 to 2.6.

use std::sync::Arc;
use std::time::Instant;

use agent_core::wire::text::{Uuid, parse_hex};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha384;
use zeroize::Zeroizing;

use super::claim::{Claim, ClaimBody};
use super::pending::{AuthTag, Pending, Redeemed};
use crate::envelope::{API_VERSIONS, CURRENT_VERSION, Nothing};
use crate::evidence::credential::Credential;
use crate::http::{
    ApiError, Peer, administrators_only, fallback, read_json, success, supported_versions_only,
};
use crate::store::Store;
use crate::store::registrations::{Recorded, Registration};

/// What the routes share.
#[derive(Clone)]
struct Shared {
    store: Store,
    pending: Arc<Pending>,
}

pub(super) fn router(store: Store) -> Router {
    let shared = Shared {
        store,
        pending: Arc::default(),
    };
    let administration = Router::new()
        .route("/{version}/agents", get(list))
        .route("/{version}/agents/", get(list))
        .route("/{version}/agents/{uuid}", get(show).delete(remove))
        .layer(from_fn(administrators_only));
    let nodes = Router::new()
        .route("/{version}/agents/{uuid}", post(register).put(activate))
        .route(
            "/{version}/agents/{uuid}/activate",
            post(activate).put(activate),
        );
    Router::new()
        .merge(administration)
        .merge(nodes)
        .layer(from_fn(supported_versions_only))
        .route("/version", get(version))
        .route("/crl.der", get(revocation_list))
        .fallback(fallback)
        .with_state(shared)
}

async fn version() -> Response {
    success(json!({"current_version": CURRENT_VERSION, "supported_versions": API_VERSIONS}))
}

/// The newest revocation list, for whoever checks certificates: it is public and signed.
async fn revocation_list(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let ca = query.split('&').find_map(|pair| pair.strip_prefix("ca="));
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_name = |ca: &str| CA_DIGITS.contains(&ca.len()) && ca.bytes().all(digit);
    if !ca.is_none_or(is_name) {
        let reason = "ca is not the first 16 hex digits of an anchor's name";
        return Err(ApiError::bad_request(reason));
    }
    let lists = shared.store.lists_of(ca.unwrap_or_default()).await;
    let mut lists = lists
        .map_err(|error| ApiError::internal(&error))?
        .into_iter();
    match (lists.next(), lists.next()) {
        (Some(list), None) => {
            let kind = HeaderValue::from_static("application/pkix-crl");
            Ok(([(CONTENT_TYPE, kind)], list).into_response())
        }
        (None, _) => Err(ApiError::not_found("there is no revocation list")),
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "there are revocation lists of several CAs; ask for one with ?ca= and the first 16 hex digits of its anchor's name",
        )),
    }
}

/// The second part of a path: `/{version}/agents/{uuid}`.
type AgentPath = Path<(String, String)>;

fn uuid_of(Path((_, uuid)): AgentPath) -> Result<Uuid, ApiError> {
    let reason = "not an agent id: letters, digits, '_', '.' and '-' are allowed";
    Uuid::parse(&uuid).ok_or_else(|| ApiError::bad_request(reason))
}

async fn register(
    peer: Peer,
    State(shared): State<Shared>,
    path: AgentPath,
    body: Body,
) -> Result<Response, ApiError> {
    let uuid = uuid_of(path)?;
    let body: ClaimBody = read_json(body, MAX_BODY_BYTES).await?;
    let claim = Claim::check(body).map_err(|error| {
        tracing::warn!(agent = uuid.as_str(), from = %peer.address, %error, "registration refused");
        ApiError::bad_request(error.to_string())
    })?;
    let recorded = shared.store.registration(uuid.as_str()).await;
    if let Some(recorded) = recorded.map_err(|error| ApiError::internal(&error))?
        && !recorded.is_of(&claim)
    {
        tracing::warn!(agent = uuid.as_str(), from = %peer.address, "registration refused: another TPM has this id");
        return Err(taken());
    }

    let secret = credential_text()?;
    let credential = Credential::make(&claim.ek, claim.ak.name(), secret.as_bytes())
        .map_err(|error| ApiError::internal(&error))?;
    let expected = auth_tag(&secret, &uuid);
    let from = peer.address.ip();
    shared
        .pending
        .add(&uuid, claim, expected, from, Instant::now());
    let blob = BASE64.encode(credential.registrar_blob());
    Ok(success(json!({"blob": blob})))
}

#[derive(Deserialize)]
struct ActivationBody {
    auth_tag: String,
}

async fn activate(
    peer: Peer,
    State(shared): State<Shared>,
    path: AgentPath,
    body: Body,
) -> Result<Response, ApiError> {
    let uuid = uuid_of(path)?;
    let body: ActivationBody = read_json(body, MAX_BODY_BYTES).await?;
    // What can't be a tag is a wrong one, and costs the same.
    let tag = parse_hex(body.auth_tag.as_bytes()).unwrap_or([0; 48]);
    let from = peer.address.ip();
    let claim = match shared.pending.redeem(&uuid, &tag, from, Instant::now()) {
        Redeemed::Proved(claim) => claim,
        Redeemed::Wrong => {
            tracing::warn!(agent = uuid.as_str(), from = %peer.address, "activation failed: wrong auth_tag");
            let reason = "activation failed: the auth_tag is wrong; register again";
            return Err(ApiError::bad_request(reason));
        }
        Redeemed::Unknown => {
            let reason = "no registration of this agent waits for its activation; register first";
            return Err(ApiError::not_found(reason));
        }
    };
    match shared.store.record(uuid.as_str(), &claim).await {
        Ok(Recorded::Here) => {
            tracing::info!(agent = uuid.as_str(), from = %peer.address, "registered");
            Ok(success(Nothing {}))
        }
        Ok(Recorded::Taken) => {
            tracing::warn!(agent = uuid.as_str(), from = %peer.address, "activation refused: another TPM has this id");
            Err(taken())
        }
        Err(error) => Err(ApiError::internal(&error)),
    }
}

fn taken() -> ApiError {
    let reason = "this agent id is registered with another EK, AK or EK certificate; if the machine was replaced, delete the \
                  old registration first (keyhalf-tenant -c regdelete)";
    ApiError::new(StatusCode::FORBIDDEN, reason)
}

async fn list(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let uuids = shared.store.registered().await;
    let uuids = uuids.map_err(|error| ApiError::internal(&error))?;
    Ok(success(json!({"uuids": uuids})))
}

/// A registered node, as administrators see it.
#[derive(Serialize)]
struct Shown<'a> {
    agent_id: &'a str,
    ek_tpm: String,
    ekcert: Option<String>,
    aik_tpm: String,
    ip: Option<String>,
    port: Option<u16>,
    mtls_cert: String,
    regcount: u32,
}

async fn show(State(shared): State<Shared>, path: AgentPath) -> Result<Response, ApiError> {
    let uuid = uuid_of(path)?;
    let registration = shared.store.registration(uuid.as_str()).await;
    let registration: Option<Registration> =
        registration.map_err(|error| ApiError::internal(&error))?;
    let found = registration.ok_or_else(|| unknown(&uuid))?;
    Ok(success(Shown {
        agent_id: uuid.as_str(),
        ek_tpm: BASE64.encode(&found.ek_tpm),
        ekcert: found.ek_certificate.map(|der| BASE64.encode(der)),
        aik_tpm: BASE64.encode(&found.ak_tpm),
        ip: found.ip,
        port: found.port,
        mtls_cert: found.mtls_cert,
        regcount: found.count,
    }))
}

async fn remove(State(shared): State<Shared>, path: AgentPath) -> Result<Response, ApiError> {
    let uuid = uuid_of(path)?;
    shared.pending.forget(&uuid);
    let removed = shared.store.forget_registration(uuid.as_str()).await;
    if removed.map_err(|error| ApiError::internal(&error))? {
        tracing::info!(agent = uuid.as_str(), "registration deleted");
        Ok(success(Nothing {}))
    } else {
        Err(unknown(&uuid))
    }
}

fn unknown(uuid: &Uuid) -> ApiError {
    ApiError::not_found(format!("agent {} is not registered", uuid.as_str()))
}

/// The credential: 32 random letters and digits, 190 bits.
fn credential_text() -> Result<Zeroizing<String>, ApiError> {
    let mut text = Zeroizing::new(String::with_capacity(CREDENTIAL_CHARS));
    let mut random = Zeroizing::new([0; CREDENTIAL_CHARS]);
    while text.len() < CREDENTIAL_CHARS {
        SysRng
            .try_fill_bytes(random.as_mut())
            .map_err(|error| ApiError::internal(&error))?;
        // Only whole multiples of the alphabet, so that each character is as likely as any other.
        let fair = random
            .iter()
            .filter(|byte| usize::from(**byte) < 4 * ALPHANUMERIC.len());
        let characters =
            fair.map(|byte| char::from(ALPHANUMERIC[usize::from(*byte) % ALPHANUMERIC.len()]));
        let missing = CREDENTIAL_CHARS - text.len();
        text.extend(characters.take(missing));
    }
    Ok(text)
}

/// HMAC-SHA384 of the identifier, under the base64 text of the credential.
fn auth_tag(credential: &str, uuid: &Uuid) -> AuthTag {
    let key = Zeroizing::new(BASE64.encode(credential));
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha384>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(uuid.as_str().as_bytes());
    mac.finalize().into_bytes().into()
}

/// Digits of an anchor's name that tell one CA from others.
const CA_DIGITS: std::ops::RangeInclusive<usize> = 16..=64;

/// A registration with an EK certificate's chain takes about 12 KiB.
pub(super) const MAX_BODY_BYTES: usize = 32 << 10;

/// What Keylime's registrar sends, and what its agents expect to find.
const CREDENTIAL_CHARS: usize = 32;
const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
