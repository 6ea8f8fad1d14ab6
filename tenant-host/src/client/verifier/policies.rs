//! Policies that the verifier keeps under names.
//!
//! Source: `AllowlistHandler` and `MbpolicyHandler` in Keylime's `cloud_verifier_tornado.py`.

use bytes::Bytes;
use serde_json::Value;
use verifier_host::envelope::CURRENT_VERSION;
use verifier_host::link::{Answer, LinkError, Method};

use super::Verifier;
use crate::client::{ClientError, Peer};
use crate::policy::{PolicyKind, PolicyName};

/// What came of a question about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyAnswer<T> {
    /// It happened.
    Done(T),
    /// There is no policy of that name.
    Absent,
    /// One of that name is there already, or in use: the verifier's reason.
    Conflict(String),
    /// This verifier keeps no policies of this kind.
    NotKept,
}

impl Verifier {
    /// The names of all policies of a kind.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy_names(
        &mut self,
        kind: PolicyKind,
    ) -> Result<PolicyAnswer<Vec<String>>, ClientError> {
        #[derive(serde::Deserialize)]
        struct List {
            #[serde(rename = "runtimepolicy names", alias = "mbpolicy names")]
            names: Vec<String>,
        }
        let answer = self.0.get(&route(kind)).await?;
        if !has_route(&answer) {
            return Ok(PolicyAnswer::NotKept);
        }
        let list: List = self.0.results("list its policies", &answer)?;
        Ok(PolicyAnswer::Done(list.names))
    }

    /// All that it tells of a policy.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy(
        &mut self,
        kind: PolicyKind,
        name: &PolicyName,
    ) -> Result<PolicyAnswer<Value>, ClientError> {
        let answer = self.0.get(&path_of(kind, name)).await?;
        match answer.status {
            200 => Ok(PolicyAnswer::Done(
                self.0.results("show a policy", &answer)?,
            )),
            _ => self.without_policy("show a policy", &answer),
        }
    }

    /// Gives it a new policy.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_policy(
        &mut self,
        kind: PolicyKind,
        name: &PolicyName,
        body: &Value,
    ) -> Result<PolicyAnswer<()>, ClientError> {
        let answer = self.send_policy(Method::POST, kind, name, body).await?;
        match answer.status {
            200 | 201 => Ok(PolicyAnswer::Done(())),
            _ => self.without_policy("take the policy", &answer),
        }
    }

    /// Replaces a policy.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn replace_policy(
        &mut self,
        kind: PolicyKind,
        name: &PolicyName,
        body: &Value,
    ) -> Result<PolicyAnswer<()>, ClientError> {
        let answer = self.send_policy(Method::PUT, kind, name, body).await?;
        match answer.status {
            200 | 201 => Ok(PolicyAnswer::Done(())),
            // So Keylime's says that there is no such measured-boot policy; nothing else in a replacement can conflict.
            409 => Ok(PolicyAnswer::Absent),
            _ => self.without_policy("replace the policy", &answer),
        }
    }

    /// Takes a policy from it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_policy(
        &mut self,
        kind: PolicyKind,
        name: &PolicyName,
    ) -> Result<PolicyAnswer<()>, ClientError> {
        let path = path_of(kind, name);
        let answer = self.0.send(Method::DELETE, &path, None).await?;
        match answer.status {
            200 | 204 => Ok(PolicyAnswer::Done(())),
            _ => self.without_policy("delete the policy", &answer),
        }
    }

    async fn send_policy(
        &mut self,
        method: Method,
        kind: PolicyKind,
        name: &PolicyName,
        body: &Value,
    ) -> Result<Answer, ClientError> {
        let path = path_of(kind, name);
        let body = serde_json::to_vec(body).map_err(|source| {
            let request = LinkError::Request {
                peer: self.endpoint().clone(),
                path: path.clone(),
                source: source.into(),
            };
            ClientError::link(Peer::Verifier, request)
        })?;
        self.0.send(method, &path, Some(Bytes::from(body))).await
    }

    /// The meaning of an answer that isn't yes.
    fn without_policy<T>(
        &self,
        action: &'static str,
        answer: &Answer,
    ) -> Result<PolicyAnswer<T>, ClientError> {
        match answer.status {
            _ if !has_route(answer) => Ok(PolicyAnswer::NotKept),
            404 => Ok(PolicyAnswer::Absent),
            409 => Ok(PolicyAnswer::Conflict(answer.reason())),
            _ => Err(self.0.refused(action, answer)),
        }
    }
}

/// Whether the verifier knows the route at all: a missing policy is answered with a reason, a missing route without one.
fn has_route(answer: &Answer) -> bool {
    match answer.status {
        404 => !answer.reason().is_empty(),
        405 | 501 => false,
        _ => true,
    }
}

fn route(kind: PolicyKind) -> String {
    let collection = match kind {
        PolicyKind::Runtime => "allowlists",
        PolicyKind::MeasuredBoot => "mbpolicies",
    };
    format!("/v{CURRENT_VERSION}/{collection}/")
}

fn path_of(kind: PolicyKind, name: &PolicyName) -> String {
    format!("{}{name}", route(kind))
}

#[cfg(test)]
mod tests;
