//! The verifier.

use std::sync::Arc;

use agent_core::wire::text::Uuid;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;
use verifier_host::envelope::CURRENT_VERSION;
use verifier_host::evidence::shown::Shown;
use verifier_host::link::{Endpoint, Limits, LinkError, Method};

mod policies;
mod revocations;

pub use policies::PolicyAnswer;
pub use revocations::ListAnswer;

use super::{Caller, ClientError, Enrolment, Peer, path_of};
use crate::delivery::VerifierView;

/// The verifier.
pub struct Verifier(Caller);

/// What the verifier said to a new node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// It is attested from now on.
    New,
    /// It, or a policy of that name, is there already; nothing changed. The verifier's reason.
    Exists(String),
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

    pub(super) const fn caller(&mut self) -> &mut Caller {
        &mut self.0
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

    /// What a node showed when it failed last, if that is kept.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn shown(&mut self, uuid: &Uuid) -> Result<Option<Shown>, ClientError> {
        #[derive(serde::Deserialize)]
        struct Kept {
            evidence: Shown,
        }
        let answer = self.0.get(&format!("{}/evidence", path_of(uuid))).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let kept: Kept = self.0.results("show what a node showed", &answer)?;
        Ok(Some(kept.evidence))
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
            409 => Ok(Enrolled::Exists(answer.reason())),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verifiers_name_stays_one_part_of_the_query() {
        for (text, wanted) in [
            ("default", "default"),
            ("a b&c=d", "a%20b%26c%3Dd"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(query_text(text), wanted);
        }
    }

    #[test]
    fn no_answer_shows_v() {
        let mut details = json!({ "v": "secret", "ip": "10.0.0.7" });
        without_v(&mut details);
        assert_eq!(details, json!({ "ip": "10.0.0.7" }));
    }
}
