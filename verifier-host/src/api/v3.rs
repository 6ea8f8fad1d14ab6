//! The agent-driven API 3.0, and payloads over it.
//!
//! A request with an `Authorization` header is an agent's and is judged by its token alone; an administrator has a client
//! certificate and no such header. The payload routes are specified in `agent-core/docs/agent-driven.md`.

use std::sync::Arc;
use std::time::Instant;

use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use axum::routing::{get, patch, post, put};

use self::error::Error;
use crate::http::Peer;
use crate::payloads::Vault;
use crate::push::Push;
use crate::push::sessions::{Session, Sessions};
use crate::rounds::node::{Node, unix_now};
use crate::rounds::schedule::Rounds;

mod attestations;
mod deposits;
pub mod error;
mod logs;
mod question;
mod receipts;
mod releases;
mod revocations;
mod sealed;
mod sessions;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;

/// What the routes work with.
#[derive(Clone)]
pub struct Api {
    rounds: Rounds,
    sessions: Arc<Sessions>,
    vault: Vault,
    max_payload_bytes: u64,
    clock: Clock,
}

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// A clock that asks this.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> Instant {
        (self.0)()
    }

    /// Both clocks: for deadlines, and seconds since 1970.
    fn both(&self) -> (Instant, u64) {
        (self.now(), unix_now())
    }
}

impl Api {
    /// The API over these nodes, with no sessions yet.
    #[must_use]
    pub fn new(rounds: Rounds, vault: Vault, max_payload_bytes: u64) -> Self {
        Self::with_clock(rounds, vault, max_payload_bytes, Clock::new(Instant::now))
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(rounds: Rounds, vault: Vault, max_payload_bytes: u64, clock: Clock) -> Self {
        Self {
            rounds,
            sessions: Arc::new(Sessions::new(clock.now())),
            vault,
            max_payload_bytes,
            clock,
        }
    }

    /// The session of a request for this agent's things.
    fn session(&self, headers: &HeaderMap, id: &Uuid) -> Result<Arc<Session>, Error> {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let session = token.and_then(|token| self.sessions.by_token(token, self.clock.now()));
        let session = session
            .filter(|session| self.rounds.is_current(&session.node))
            .ok_or_else(Error::no_token)?;
        if session.node.id == *id {
            Ok(session)
        } else {
            Err(Error::other_agent())
        }
    }

    /// Who makes a request that is open to an agent for itself, and to administrators.
    fn caller(&self, peer: &Peer, headers: &HeaderMap, id: &Uuid) -> Result<Caller, Error> {
        if headers.contains_key(AUTHORIZATION) {
            self.session(headers, id).map(Caller::Agent)
        } else {
            administrator(peer, headers)?;
            self.node(id).map(Caller::Administrator)
        }
    }

    fn node(&self, id: &Uuid) -> Result<Arc<Node>, Error> {
        self.rounds.get(id).ok_or_else(Error::unknown_agent)
    }
}

/// Who makes a request.
enum Caller {
    /// The tenant, about this node.
    Administrator(Arc<Node>),
    /// The node.
    Agent(Arc<Session>),
}

/// Lets administrators through: a client certificate and no `Authorization`.
fn administrator(peer: &Peer, headers: &HeaderMap) -> Result<(), Error> {
    match (&peer.certificate, headers.contains_key(AUTHORIZATION)) {
        (_, true) => Err(Error::not_administrator()),
        (None, false) => Err(Error::no_certificate()),
        (Some(_), false) => Ok(()),
    }
}

/// The routes of API 3.0.
pub fn routes(api: Api) -> Router {
    let deposit = get(deposits::show)
        .put(deposits::deposit)
        .delete(deposits::withdraw);
    Router::new()
        .route("/v3.0/sessions", post(sessions::open))
        .route("/v3.0/sessions/{session}", patch(sessions::prove))
        .route(
            "/v3.0/agents/{id}/attestations",
            get(attestations::list).post(attestations::begin),
        )
        .route(
            "/v3.0/agents/{id}/attestations/{index}",
            get(attestations::show).patch(attestations::finish),
        )
        .route("/v3.0/agents/{id}/payload", deposit)
        .route("/v3.0/agents/{id}/payload/confirm", put(deposits::confirm))
        .route("/v3.0/agents/{id}/payload/sealed", get(sealed::current))
        .route(
            "/v3.0/agents/{id}/payload/{payload}/sealed",
            get(sealed::download).put(sealed::upload),
        )
        .route("/v3.0/agents/{id}/payload/release", post(releases::release))
        .route("/v3.0/agents/{id}/payload/receipt", post(receipts::receipt))
        .route("/v3.0/agents/{id}/revocations", get(revocations::entries))
        .route(
            "/v3.0/agents/{id}/revocations/outcomes",
            post(revocations::outcomes),
        )
        .with_state(api)
}

type Answer = Result<Response, Error>;

fn agent_id(text: &str) -> Result<Uuid, Error> {
    Uuid::parse(text).ok_or_else(Error::unknown_agent)
}

fn payload_id(text: &str) -> Result<PayloadId, Error> {
    PayloadId::parse(text).ok_or_else(Error::unknown_payload)
}

/// What is known of a node that calls by itself; a polled node has nothing here.
fn push_of(node: &Node) -> Result<&Push, Error> {
    node.push.as_ref().ok_or_else(Error::polled)
}

/// Goes on to the end though the caller may go away: the database and the memory must say the same.
async fn to_its_end<T, F>(task: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    match tokio::spawn(task).await {
        Ok(done) => done,
        Err(error) => Err(Error::internal(&error)),
    }
}
