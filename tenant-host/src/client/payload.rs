//! The verifier's routes for payloads of the agent-driven API.
//!
//! Its errors have codes. An answer without one is from a verifier that has no such routes.

use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use bytes::Bytes;
use serde_json::Value;
use verifier_host::link::{Answer, Method, Sent};

use super::{Caller, ClientError, Verifier};
use crate::deposit::sealed::SealedFile;
use crate::deposit::view::{PayloadView, error_of};
use crate::seal::SealError;

/// What the verifier said when it was asked for a node's payload.
#[derive(Clone, Debug, PartialEq)]
pub enum PayloadAnswer {
    /// All that it knows, for people here and as it came.
    View(Box<PayloadView>, Value),
    /// Nothing is deposited, nor was.
    Nothing,
    /// It has no such node.
    UnknownNode,
    /// It has payloads, but none for this node: it polls it.
    OtherModel,
}

/// Why sealed bytes didn't go.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The verifier, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file with the sealed bytes.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Verifier {
    /// What it knows of a node's payload.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NoPayloads`] from one that has no such routes.
    pub async fn payload(&mut self, uuid: &Uuid) -> Result<PayloadAnswer, ClientError> {
        let answer = self.caller().get(&path(uuid)).await?;
        if answer.status == 200 {
            let caller = self.caller();
            let document: Value = caller.body(&answer)?;
            let view = Box::new(caller.body(&answer)?);
            return Ok(PayloadAnswer::View(view, document));
        }
        match error_of(&answer.body) {
            Some((code, _)) if code == "no-payload" => Ok(PayloadAnswer::Nothing),
            Some((code, _)) if code == "unknown-agent" => Ok(PayloadAnswer::UnknownNode),
            Some(_) if matches!(answer.status, 404 | 409 | 422) => Ok(PayloadAnswer::OtherModel),
            _ => Err(self.caller().refused_payload("show a payload", &answer)),
        }
    }

    /// Gives it manifest and V.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_payload(&mut self, uuid: &Uuid, body: Bytes) -> Result<(), ClientError> {
        let caller = self.caller();
        let answer = caller
            .send_patiently(Method::PUT, &path(uuid), Some(body))
            .await?;
        match answer.status {
            200 | 201 => Ok(()),
            _ => Err(caller.refused_payload("take the payload", &answer)),
        }
    }

    /// Gives it the sealed bytes; `sent` tells how far that is. False if it doesn't know the deposit (any more).
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn put_sealed(
        &mut self,
        uuid: &Uuid,
        sealed: &SealedFile,
        sent: &Sent,
    ) -> Result<bool, UploadError> {
        let path = sealed_path(uuid, sealed.payload_id());
        let (reader, length) = (sealed.reader()?, sealed.bytes());
        let caller = self.caller();
        let peer = caller.peer;
        let answer = caller
            .link
            .upload(Method::PUT, &path, reader, length, sent)
            .await
            .map_err(|source| ClientError::link(peer, source))?;
        if matches!(answer.status, 200 | 201) {
            return Ok(true);
        }
        match error_of(&answer.body) {
            Some((code, _)) if code == "unknown-payload" => Ok(false),
            _ => Err(caller
                .refused_payload("take the sealed bytes", &answer)
                .into()),
        }
    }

    /// Lets it accept a TPM that was cleared or replaced.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn confirm(&mut self, uuid: &Uuid) -> Result<(), ClientError> {
        let caller = self.caller();
        let answer = caller
            .send(Method::PUT, &format!("{}/confirm", path(uuid)), None)
            .await?;
        match answer.status {
            200 => Ok(()),
            _ => Err(caller.refused_payload("accept the TPM", &answer)),
        }
    }
}

impl Caller {
    fn body<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        answer
            .json()
            .map_err(|source| ClientError::link(self.peer, source))
    }

    fn refused_payload(&self, action: &'static str, answer: &Answer) -> ClientError {
        let endpoint = self.link.peer().clone();
        let status = answer.status;
        match error_of(&answer.body) {
            Some((code, detail)) => ClientError::Payload {
                endpoint,
                action,
                status,
                code,
                detail,
            },
            None if matches!(status, 400 | 404 | 405 | 410 | 501) => {
                ClientError::NoPayloads { endpoint }
            }
            None => self.refused(action, answer),
        }
    }
}

/// A code and what it stands for, if the verifier says no more.
pub(super) fn in_words(code: &str, detail: &str) -> String {
    match detail {
        "" => code.to_owned(),
        detail => format!("{} ({code})", detail.trim_end_matches('.')),
    }
}

/// What to do about a code.
pub(super) fn next_step(code: &str) -> &'static str {
    match code {
        "unknown-agent" => ". `-c add --push-model` adds the node",
        "no-payload" => ". `-c update --push-model` deposits one",
        "weak-policy" => {
            ". Name a PCR of its boot in --tpm_policy, or give --runtime-policy or --mb-policy; --allow-weak-policy insists"
        }
        "manifest" => {
            ". If the node registered anew meanwhile, run this again; else look at the verifier's log"
        }
        "digest" => ". The bytes were changed on their way: run this again",
        "too-large" => {
            ". The verifier's limit of a payload is in its configuration (verifier.conf)"
        }
        _ => "",
    }
}

fn path(uuid: &Uuid) -> String {
    format!("/v3.0/agents/{uuid}/payload")
}

fn sealed_path(uuid: &Uuid, id: PayloadId) -> String {
    format!("{}/{id}/sealed", path(uuid))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    #[test]
    fn codes_are_told_from_other_errors() {
        let error = |body: &str| error_of(body.as_bytes());
        let told = |code: &str, detail: &str| Some((code.to_owned(), detail.to_owned()));
        for (name, body, wanted) in [
            (
                "ours",
                r#"{"errors": [{"status": "422", "code": "digest", "title": "x", "detail": "it differs"}]}"#,
                told("digest", "it differs"),
            ),
            (
                "no detail",
                r#"{"errors": [{"code": "no-payload"}]}"#,
                told("no-payload", ""),
            ),
            (
                "no code",
                r#"{"errors": [{"status": "404", "detail": "x"}]}"#,
                None,
            ),
            (
                "a code that isn't one",
                r#"{"errors": [{"code": "A B\n"}]}"#,
                None,
            ),
            (
                "Keylime's",
                r#"{"code": 404, "status": "Not Found", "results": {}}"#,
                None,
            ),
            ("none", "", None),
        ] {
            assert_eq!(error(body), wanted, "{name}");
        }
        let escaped = error("{\"errors\": [{\"code\": \"x\", \"detail\": \"a\\u001b[1mb\"}]}");
        assert_eq!(escaped, told("x", "a[1mb"));
    }

    #[test]
    fn an_error_says_what_to_do_next() {
        let error = |code: &str, detail: &str| {
            let endpoint = verifier_host::link::Endpoint {
                host: "h".to_owned(),
                port: 1,
            };
            ClientError::Payload {
                endpoint,
                action: "take the payload",
                status: 422,
                code: code.to_owned(),
                detail: detail.to_owned(),
            }
            .to_string()
        };
        assert_eq!(
            error("digest", "SHA-256 differs."),
            "the verifier at h:1 refuses to take the payload: SHA-256 differs (digest). The bytes were changed on their way: run this again"
        );
        assert!(error("weak-policy", "").contains("--allow-weak-policy"));
        assert!(error("something-new", "").ends_with("something-new"));
        let uuid = Uuid::parse("node").unwrap();
        let path = sealed_path(&uuid, PayloadId([0xAB; 8]));
        assert_eq!(path, "/v3.0/agents/node/payload/abababababababab/sealed");
    }
}
