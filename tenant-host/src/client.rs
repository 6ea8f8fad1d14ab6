//! What registrar, verifier and agent are asked, and what they answer: one type each, over one connection each.
//!
//! The servers are spoken to in version 2.6; the agent in the newest version that both know.

use std::sync::Arc;

use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;
use verifier_host::envelope::{CURRENT_VERSION, Envelope};
use verifier_host::link::{Answer, Endpoint, Limits, Link, LinkError, Method};

use crate::delivery::VerifierView;
use crate::error::is_timeout;

mod agent;
mod records;

pub use agent::{Agent, AgentInfo, IdentityQuote};
pub use records::{Enrolment, RegistrarRecord};

/// Who is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The registrar's TLS port.
    Registrar,
    /// The verifier.
    Verifier,
    /// The agent.
    Agent,
}

impl Peer {
    /// Its name in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registrar => "the registrar",
            Self::Verifier => "the verifier",
            Self::Agent => "the agent",
        }
    }

    /// What to look at when it can't be reached.
    const fn where_to_look(self) -> &'static str {
        match self {
            Self::Registrar => "Is it running? -r and -rp say where it is (its TLS port, 8891)",
            Self::Verifier => "Is it running? -v and -vp say where it is",
            Self::Agent => {
                "Is it running? -t and -tp say where it is, else what it registered with"
            }
        }
    }

    const fn whom_to_trust(self) -> &'static str {
        match self {
            Self::Registrar | Self::Verifier => "cacert.crt in --tls-dir must be its CA",
            Self::Agent => {
                "It isn't the agent that registered; a restarted agent of another TPM has another certificate"
            }
        }
    }
}

/// Why a peer didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no answer, or none that can be used.
    #[error("{} can't be asked: {source}. {hint}", peer.name())]
    Link {
        /// Who was asked.
        peer: Peer,
        /// What happened.
        source: LinkError,
        /// What to look at.
        hint: &'static str,
    },
    /// It answered no.
    #[error("{} at {endpoint} refuses to {action}: HTTP status {status}{}", peer.name(), in_words(reason))]
    Refused {
        /// Who was asked.
        peer: Peer,
        /// Where it is.
        endpoint: Endpoint,
        /// What it was asked to do.
        action: &'static str,
        /// HTTP status.
        status: u16,
        /// Its reason.
        reason: String,
    },
    /// The agent speaks none of the versions that are spoken here.
    #[error(
        "the agent at {endpoint} speaks none of the API versions 2.1 to 2.6; it says {versions}"
    )]
    NoCommonVersion {
        /// Where it is.
        endpoint: Endpoint,
        /// What it speaks.
        versions: String,
    },
}

impl ClientError {
    pub(crate) fn link(peer: Peer, source: LinkError) -> Self {
        let hint = match &source {
            LinkError::WrongCertificate { .. } => peer.whom_to_trust(),
            LinkError::ClientCertificate { .. } => {
                "client-cert.crt in --tls-dir must be under the CA that it trusts"
            }
            _ => peer.where_to_look(),
        };
        Self::Link { peer, source, hint }
    }

    /// Whether the time was up.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Link { source, .. } if is_timeout(source))
    }

    /// Whether asking again may help: the peer is away or busy, not unwilling.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Link { source, .. } => !matches!(
                source,
                LinkError::WrongCertificate { .. } | LinkError::ClientCertificate { .. }
            ),
            Self::Refused { status, .. } => matches!(*status, 408 | 429 | 500..=599),
            Self::NoCommonVersion { .. } => false,
        }
    }
}

fn in_words(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    }
}

/// A connection to one peer that turns answers into values or errors.
struct Caller {
    peer: Peer,
    link: Link,
}

impl Caller {
    fn new(peer: Peer, endpoint: Endpoint, tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self {
            peer,
            link: Link::new(endpoint, Some(tls), limits),
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<bytes::Bytes>,
    ) -> Result<Answer, ClientError> {
        let peer = self.peer;
        self.link
            .send(method, path, body)
            .await
            .map_err(|source| ClientError::link(peer, source))
    }

    async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, None).await
    }

    /// The answer's `results`, of which nothing is used unless the status is 200.
    fn results<T: DeserializeOwned>(
        &self,
        action: &'static str,
        answer: &Answer,
    ) -> Result<T, ClientError> {
        if answer.status != 200 {
            return Err(self.refused(action, answer));
        }
        let envelope: Envelope<T> = answer
            .json()
            .map_err(|source| ClientError::link(self.peer, source))?;
        Ok(envelope.results)
    }

    fn refused(&self, action: &'static str, answer: &Answer) -> ClientError {
        ClientError::Refused {
            peer: self.peer,
            endpoint: self.link.peer().clone(),
            action,
            status: answer.status,
            reason: answer.reason(),
        }
    }
}

fn path_of(uuid: &Uuid) -> String {
    format!("/v{CURRENT_VERSION}/agents/{uuid}")
}

/// The registrar.
pub struct Registrar(Caller);

impl Registrar {
    /// The registrar at this place; not connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self(Caller::new(Peer::Registrar, endpoint, tls, limits))
    }

    /// The record of a node that has registered, if there is one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn record(&mut self, uuid: &Uuid) -> Result<Option<RegistrarRecord>, ClientError> {
        let answer = self.0.get(&path_of(uuid)).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        self.0.results("show a node", &answer).map(Some)
    }

    /// The identifiers of all nodes that have registered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&mut self) -> Result<Vec<String>, ClientError> {
        #[derive(serde::Deserialize)]
        struct List {
            uuids: Vec<String>,
        }
        let answer = self.0.get(&format!("/v{CURRENT_VERSION}/agents/")).await?;
        Ok(self.0.results::<List>("list its nodes", &answer)?.uuids)
    }

    /// Deletes a node's record. False if there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&mut self, uuid: &Uuid) -> Result<bool, ClientError> {
        let answer = self.0.send(Method::DELETE, &path_of(uuid), None).await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.0.refused("delete a node", &answer)),
        }
    }
}

/// The verifier.
pub struct Verifier(Caller);

/// What the verifier said to a new node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// It is attested from now on.
    New,
    /// It is there already; nothing changed.
    Exists,
}

/// What the verifier said to a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It will be gone soon.
    Going,
    /// There was none.
    Absent,
}

impl Verifier {
    /// The verifier at this place; not connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self(Caller::new(Peer::Verifier, endpoint, tls, limits))
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.0.link.peer()
    }

    /// Its view of a node, if it has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn view(&mut self, uuid: &Uuid) -> Result<Option<VerifierView>, ClientError> {
        self.show(uuid).await
    }

    /// All that it tells of a node, if it has it. A `v`, which Keylime's verifier tells, is taken out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn details(&mut self, uuid: &Uuid) -> Result<Option<Value>, ClientError> {
        let mut details: Option<Value> = self.show(uuid).await?;
        details.as_mut().map(without_v);
        Ok(details)
    }

    async fn show<T: DeserializeOwned>(&mut self, uuid: &Uuid) -> Result<Option<T>, ClientError> {
        let answer = self.0.get(&path_of(uuid)).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        self.0.results("show a node", &answer).map(Some)
    }

    /// The identifiers of its nodes, or of those of one verifier of several.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&mut self, verifier_id: Option<&str>) -> Result<Vec<String>, ClientError> {
        #[derive(serde::Deserialize)]
        struct List {
            uuids: Vec<Vec<String>>,
        }
        let query =
            verifier_id.map_or_else(String::new, |id| format!("?verifier={}", query_text(id)));
        let answer = self
            .0
            .get(&format!("/v{CURRENT_VERSION}/agents/{query}"))
            .await?;
        Ok(self
            .0
            .results::<List>("list its nodes", &answer)?
            .uuids
            .into_iter()
            .flatten()
            .collect())
    }

    /// All that it tells of all its nodes, by identifier.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn bulk(&mut self, verifier_id: Option<&str>) -> Result<Value, ClientError> {
        let id = query_text(verifier_id.unwrap_or_default());
        let answer = self
            .0
            .get(&format!(
                "/v{CURRENT_VERSION}/agents/?bulk=true&verifier={id}"
            ))
            .await?;
        let mut all: Value = self.0.results("show its nodes", &answer)?;
        if let Some(nodes) = all.as_object_mut() {
            nodes.values_mut().for_each(without_v);
        }
        Ok(all)
    }

    /// Gives it a node to attest, with V for when it has passed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enrol(
        &mut self,
        uuid: &Uuid,
        enrolment: &Enrolment<'_>,
    ) -> Result<Enrolled, ClientError> {
        let body = enrolment.to_body().map_err(|source| {
            ClientError::link(
                Peer::Verifier,
                LinkError::Request {
                    peer: self.endpoint().clone(),
                    path: path_of(uuid),
                    source: source.into(),
                },
            )
        })?;
        let answer = self
            .0
            .send(Method::POST, &path_of(uuid), Some(body))
            .await?;
        match answer.status {
            200 => Ok(Enrolled::New),
            409 => Ok(Enrolled::Exists),
            _ => Err(self.0.refused("take the node", &answer)),
        }
    }

    /// Takes a node from it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&mut self, uuid: &Uuid) -> Result<Deleted, ClientError> {
        let answer = self.0.send(Method::DELETE, &path_of(uuid), None).await?;
        match answer.status {
            200 => Ok(Deleted::Gone),
            202 => Ok(Deleted::Going),
            404 => Ok(Deleted::Absent),
            _ => Err(self.0.refused("delete a node", &answer)),
        }
    }

    /// Lets it attest a node again that it had given up.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reactivate(&mut self, uuid: &Uuid) -> Result<(), ClientError> {
        let path = format!("{}/reactivate", path_of(uuid));
        let answer = self.0.send(Method::PUT, &path, None).await?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(self.0.refused("reactivate a node", &answer))
        }
    }
}

/// Keylime's verifier shows V to administrators; nobody needs to see it here.
fn without_v(details: &mut Value) {
    if let Some(fields) = details.as_object_mut() {
        fields.remove("v");
    }
}

/// A text as part of a query: everything but letters, digits and `-._~` is written in hexadecimal.
///
/// Source: RFC 3986, section 2.
fn query_text(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The newest version that both speak.
fn newest_common(versions: &[String]) -> Option<ApiVersion> {
    ApiVersion::all().rev().find(|ours| {
        versions
            .iter()
            .any(|theirs| ApiVersion::parse(theirs) == Some(*ours))
    })
}
