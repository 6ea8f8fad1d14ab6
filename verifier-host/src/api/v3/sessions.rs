//! `POST` and `PATCH /v3.0/sessions`: a challenge, then a token for whoever holds the key.
//!
//! Anybody may open a session, and learns nothing from the answer about who is known here.

use agent_core::wire::text::Uuid;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Error, document};
use super::{Answer, Api};
use crate::evidence::certify;
use crate::http::{Peer, read};
use crate::push::sessions::{CHALLENGE_LIFE, Opened, TOKEN_LIFE};
use crate::rounds::node::unix_now;

#[derive(Deserialize)]
struct Document<A> {
    data: Data<A>,
}

#[derive(Deserialize)]
struct Data<A> {
    attributes: A,
}

#[derive(Deserialize)]
struct Opening {
    agent_id: String,
    authentication_supported: Vec<Method>,
}

#[derive(Deserialize)]
struct Method {
    authentication_class: String,
    authentication_type: String,
}

#[derive(Deserialize)]
struct Proving {
    agent_id: String,
    authentication_provided: Vec<Provided>,
}

#[derive(Deserialize)]
struct Provided {
    #[serde(flatten)]
    method: Method,
    data: Proof,
}

#[derive(Deserialize, Serialize)]
struct Proof {
    message: String,
    signature: String,
}

impl Method {
    fn is_proof_of_possession(&self) -> bool {
        self.authentication_class == CLASS && self.authentication_type == TYPE
    }
}

/// Opens a session.
pub(super) async fn open(State(api): State<Api>, peer: Peer, body: Body) -> Answer {
    let opening: Opening = parse(body).await?;
    let agent = Uuid::parse(&opening.agent_id)
        .ok_or_else(|| Error::document(AGENT_POINTER, "not an agent's identifier"))?;
    let mut methods = opening.authentication_supported.iter();
    if !methods.any(Method::is_proof_of_possession) {
        let pointer = "/data/attributes/authentication_supported";
        return Err(Error::document(pointer, "pop with tpm_pop is needed"));
    }
    let node = api.rounds.get(&agent);
    let from = peer.address.ip();
    let opened = api.sessions.open(agent, node, from, api.clock.both())?;
    let requested = json!({
        "authentication_class": CLASS,
        "authentication_type": TYPE,
        "chosen_parameters": { "challenge": BASE64_STANDARD.encode(opened.challenge) },
    });
    let attributes = json!({
        "agent_id": opened.agent.as_str(),
        "authentication_requested": [requested],
        "created_at": rfc3339(opened.created_at),
        "challenges_expire_at": rfc3339(opened.created_at + CHALLENGE_LIFE.as_secs()),
    });
    Ok(session(opened.id, attributes))
}

/// Takes the proof, and gives the token.
pub(super) async fn prove(
    State(api): State<Api>,
    Path(number): Path<String>,
    body: Body,
) -> Answer {
    let now = api.clock.now();
    let proving: Proving = parse(body).await?;
    let opened = number
        .parse()
        .ok()
        .and_then(|id| api.sessions.take(id, now));
    let opened = opened.ok_or_else(|| {
        let detail = "there is no such session, or its challenge was answered or has expired";
        Error::new(StatusCode::NOT_FOUND, "unknown-session", detail)
    })?;
    if proving.agent_id != opened.agent.as_str() {
        return Err(Error::document(
            AGENT_POINTER,
            "the session was opened for another agent",
        ));
    }
    let [provided] = proving.authentication_provided.as_slice() else {
        return Err(Error::document(PROOF_POINTER, "one proof is needed"));
    };
    if !provided.method.is_proof_of_possession() {
        return Err(Error::document(PROOF_POINTER, "pop with tpm_pop is needed"));
    }
    let received_at = unix_now();
    let mut attributes = json!({
        "agent_id": opened.agent.as_str(),
        "authentication": [{
            "authentication_class": CLASS,
            "authentication_type": TYPE,
            "chosen_parameters": { "challenge": BASE64_STANDARD.encode(opened.challenge) },
            "data": provided.data,
        }],
        "created_at": rfc3339(opened.created_at),
        "challenges_expire_at": rfc3339(opened.created_at + CHALLENGE_LIFE.as_secs()),
        "response_received_at": rfc3339(received_at),
    });
    // The node as it was when the session was opened: one that was added since, or added anew, is another one.
    let node = opened.node.clone().filter(|node| {
        let calls = node.push.is_some();
        calls && api.rounds.is_current(node)
    });
    let Some(node) = node else {
        attributes["evaluation"] = "fail".into();
        attributes["failure_code"] = unknown(&api, &opened).await?.into();
        return Ok(session(opened.id, attributes));
    };
    let refused = |detail: String| Error::new(StatusCode::UNAUTHORIZED, "proof", detail);
    let message = BASE64_STANDARD.decode(&provided.data.message);
    let signature = BASE64_STANDARD.decode(&provided.data.signature);
    let (Ok(message), Ok(signature)) = (message, signature) else {
        return Err(refused("message or signature is no base64".to_owned()));
    };
    certify::check(&node.terms.ak, &message, &signature, &opened.challenge)
        .map_err(|error| refused(error.to_string()))?;
    let token = api.sessions.prove(&opened, node, now)?;
    attributes["evaluation"] = "pass".into();
    attributes["token"] = token.text().into();
    attributes["token_expires_at"] = rfc3339(received_at + TOKEN_LIFE.as_secs()).into();
    Ok(session(opened.id, attributes))
}

/// What an agent has to do that isn't known: register, or wait for its tenant.
async fn unknown(api: &Api, opened: &Opened) -> Result<&'static str, Error> {
    let agent = opened.agent.as_str();
    let registered = api.rounds.store().registration(agent).await?;
    Ok(match registered {
        Some(_) => "not-enrolled",
        None => "not-registered",
    })
}

fn session(id: u64, attributes: Value) -> axum::response::Response {
    let body =
        json!({ "data": { "type": "session", "id": id.to_string(), "attributes": attributes } });
    document(StatusCode::OK, &body)
}

async fn parse<A: for<'de> Deserialize<'de>>(body: Body) -> Result<A, Error> {
    let bytes = read(body, MAX_BODY_BYTES).await?;
    let document: Document<A> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::document("/data", format!("not the document expected: {error}")))?;
    Ok(document.data.attributes)
}

/// Seconds since 1970 as RFC 3339 has them.
pub(super) fn rfc3339(seconds: u64) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let seconds = i64::try_from(seconds).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

const CLASS: &str = "pop";
const TYPE: &str = "tpm_pop";
const AGENT_POINTER: &str = "/data/attributes/agent_id";
const PROOF_POINTER: &str = "/data/attributes/authentication_provided";
const MAX_BODY_BYTES: usize = 8 << 10;
