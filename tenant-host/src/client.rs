//! What registrar, verifier and agent are asked, and what they answer: one type each, over one connection each.
//!
//! The servers are spoken to in version 2.6; the agent in the newest version that both know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use verifier_host::envelope::{CURRENT_VERSION, Envelope};
use verifier_host::link::{Answer, Endpoint, Limits, Link, LinkError, Method};

use crate::error::is_timeout;

mod agent;
mod payload;
mod records;
mod registrar;
mod verifier;

pub use agent::{Agent, AgentInfo, IdentityQuote, IntegrityQuote};
pub use payload::{PayloadAnswer, UploadError};
#[cfg(test)]
pub(crate) use records::tests::enrolment;
pub use records::{Enrolment, NotACertificate, RegistrarRecord};
pub use registrar::Registrar;
pub use verifier::{Deleted, Enrolled, ListAnswer, PolicyAnswer, Verifier};

/// How long a busy peer is waited for, with pauses that double up.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

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

/// What to do about a server that is called by another name than its certificate has.
const OTHER_NAME: &str = "Call it by one of those names, or give it a certificate for this one: Keylime's verifier makes its own with \
    cert_subject_alternative_names of verifier.conf";

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
    /// The verifier answered no about a payload, by one of its codes.
    #[error(
        "the verifier at {endpoint} refuses to {action}: {}{}",
        payload::in_words(code, detail),
        payload::next_step(code)
    )]
    Payload {
        /// Where it is.
        endpoint: Endpoint,
        /// What it was asked to do.
        action: &'static str,
        /// HTTP status.
        status: u16,
        /// Its code.
        code: String,
        /// Its reason.
        detail: String,
    },
    /// The verifier has no such routes: it is Keylime's.
    #[error(
        "this verifier ({endpoint}) has no payloads over the agent-driven API; use keyhalf-verifier, or the pull model (without --push-model)"
    )]
    NoPayloads {
        /// Where it is.
        endpoint: Endpoint,
    },
    /// The verifier keeps no revocation logs: it is Keylime's.
    #[error(
        "this verifier ({endpoint}) keeps no revocation logs: keyhalf-verifier does. Keylime's tells the live nodes of a failing one, once"
    )]
    NoRevocations {
        /// Where it is.
        endpoint: Endpoint,
    },
    /// A log that doesn't end.
    #[error(
        "the verifier at {endpoint} shows a revocation log that doesn't end: look at the verifier"
    )]
    Endless {
        /// Where it is.
        endpoint: Endpoint,
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
            name if name.is_other_name() => OTHER_NAME,
            LinkError::WrongCertificate { .. } => peer.whom_to_trust(),
            LinkError::ClientCertificate { .. } => {
                "client-cert.crt in --tls-dir must be under the CA that it trusts"
            }
            LinkError::Resolve { .. } => "Check the name, or give an address",
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
            Self::Link { source, .. } => matches!(
                source,
                LinkError::Resolve { .. }
                    | LinkError::Connect { .. }
                    | LinkError::Tls { .. }
                    | LinkError::Timeout { .. }
                    | LinkError::Broken { .. }
            ),
            Self::Refused { status, .. } | Self::Payload { status, .. } => {
                matches!(*status, 408 | 429 | 500..=599)
            }
            Self::NoCommonVersion { .. }
            | Self::NoPayloads { .. }
            | Self::NoRevocations { .. }
            | Self::Endless { .. } => false,
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

    /// Sends to a peer that may be busy for a moment: as long as it says so, and no longer than [`PATIENCE`], it is asked again.
    ///
    /// Only for requests that do no harm when they come twice.
    async fn send_patiently(
        &mut self,
        method: Method,
        path: &str,
        body: Option<bytes::Bytes>,
    ) -> Result<Answer, ClientError> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.send(method.clone(), path, body.clone()).await?;
            let busy = matches!(answer.status, 408 | 429 | 500 | 503 | 504);
            if !busy || start.elapsed() + pause > PATIENCE {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
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

/// The newest version that both speak.
fn newest_common(versions: &[String]) -> Option<ApiVersion> {
    ApiVersion::all().rev().find(|ours| {
        versions
            .iter()
            .any(|theirs| ApiVersion::parse(theirs) == Some(*ours))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let rows: [(&str, &[&str], Option<&str>); 5] = [
            ("all", &["2.1", "2.5", "2.6"], Some("2.6")),
            ("in any order", &["2.4", "2.2"], Some("2.4")),
            ("newer ones too", &["2.3", "3.0", "2.7"], Some("2.3")),
            ("none", &["1.0", "3.0"], None),
            ("nothing", &[], None),
        ];
        for (name, versions, wanted) in rows {
            let versions: Vec<String> = versions.iter().map(|text| (*text).to_owned()).collect();
            let newest = newest_common(&versions).map(|version| version.to_string());
            assert_eq!(newest.as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let refused = |status| ClientError::Refused {
            peer: Peer::Agent,
            endpoint: Endpoint {
                host: "h".to_owned(),
                port: 1,
            },
            action: "answer",
            status,
            reason: String::new(),
        };
        for (status, wanted) in [
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (400, false),
            (403, false),
            (404, false),
        ] {
            assert_eq!(refused(status).may_pass(), wanted, "{status}");
        }
    }
}
