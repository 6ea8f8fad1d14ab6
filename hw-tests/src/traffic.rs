//! Recorded traffic, and how ours differs from it: field by field, kind by kind.

mod compare;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;
use crate::relay::Exchange;

use compare::compare;
pub use compare::{Difference, differences, never_asked};

/// The node's identifier in all recordings, so that it is told from other words.
pub const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

/// Who speaks or is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// The agent of a node.
    Agent,
    /// The registrar.
    Registrar,
    /// The verifier.
    Verifier,
    /// The tenant.
    Tenant,
}

/// A request and its answer, as they are kept in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who asks.
    pub from: Party,
    /// Who answers.
    pub to: Party,
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The request's body, null if there is none.
    pub request: Value,
    /// The answer's HTTP status.
    pub status: u16,
    /// The answer's body, null if there is none.
    pub answer: Value,
}

impl Message {
    /// What went through a relay. Private keys in it are left out.
    pub fn new(from: Party, to: Party, exchange: &Exchange) -> Self {
        Self {
            from,
            to,
            method: exchange.method.clone(),
            path: exchange.path.clone(),
            request: body(&exchange.body),
            status: exchange.answer.status,
            answer: body(&exchange.answer.body),
        }
    }

    /// Whether it is the same question with the same kind of answer.
    fn is_asked_as(&self, other: &Self) -> bool {
        (self.status, self.route()) == (other.status, other.route())
    }

    /// Whether an agent asks or answers.
    pub fn is_with_agent(&self) -> bool {
        [self.from, self.to].contains(&Party::Agent)
    }

    /// What was asked of whom, without what is another one each time: version, identifiers, values of the query.
    pub fn route(&self) -> Route {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let parts = path.split('/').map(|part| match part {
            UUID => "{uuid}",
            version if is_version(version) => "v2",
            log_id if is_log_id(log_id) => "{log_id}",
            part => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let names = query
            .split('&')
            .filter_map(|pair| pair.split('=').next())
            .filter(|name| !name.is_empty());
        let names: BTreeSet<_> = names.map(str::to_owned).collect();
        Route {
            from: self.from,
            to: self.to,
            method: self.method.clone(),
            path,
            names,
        }
    }
}

fn is_version(part: &str) -> bool {
    part.strip_prefix("v2.")
        .is_some_and(|minor| minor.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_log_id(part: &str) -> bool {
    part.split_once('-')
        .is_some_and(|(anchor, own)| (anchor.len(), own.len()) == (64, 16))
}

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    from: Party,
    to: Party,
    method: String,
    path: String,
    names: BTreeSet<String>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            method,
            path,
            names,
        } = self;
        write!(f, "{from:?} to {to:?}: {method} {path}")?;
        for (at, name) in names.iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// Where recordings are kept.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/traffic")
}

/// Reads a recording.
///
/// # Errors
/// There is none of that name, or it isn't one.
pub fn read(name: &str) -> Result<Vec<Message>> {
    let path = vectors().join(name);
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// All that was recorded of Keylime's programs in version 2.6 of the API, and what they refuse in any version.
///
/// # Errors
/// As [`read`].
pub fn keylimes() -> Result<Vec<Message>> {
    let mut messages = [read(KEYLIMES)?, read(AGENT_2_6)?].concat();
    for older in [AGENT_2_4, AGENT_2_1] {
        let refusals = read(older)?.into_iter();
        messages.extend(refusals.filter(|message| message.status != 200));
    }
    Ok(messages)
}

/// Keylime's agent with its servers and tenant, in version 2.6 of the API.
pub const AGENT_2_6: &str = "keylime-agent-0.2.9-mtls-v2.6.json";
/// The same in version 2.4.
pub const AGENT_2_4: &str = "keylime-agent-0.2.9-mtls-v2.4.json";
/// The same in version 2.1, over plain HTTP.
pub const AGENT_2_1: &str = "keylime-agent-0.2.9-plainhttp-v2.1.json";
/// Keylime's registrar, verifier and tenant among themselves.
pub const KEYLIMES: &str = "keylime-7.14.3.json";

/// Keeps a recording: of messages that are alike only the first, in the order in which they came.
///
/// # Errors
/// It can't be written.
pub fn write(name: &str, messages: &[Message]) -> Result {
    let mut kept: Vec<&Message> = Vec::new();
    for message in messages {
        let is_known =
            |other: &&Message| message.is_asked_as(other) && compare(message, other).is_empty();
        if !kept.iter().any(is_known) {
            kept.push(message);
        }
    }
    let text = serde_json::to_string_pretty(&kept)?;
    Ok(fs::write(vectors().join(name), text + "\n")?)
}

/// A body as JSON, without private keys; what isn't JSON stays a text.
fn body(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    let mut value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    leave_out_keys(&mut value);
    value
}

fn leave_out_keys(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("PRIVATE KEY-----") => {
            *text = format!("<private key, PEM, {} characters>", text.len());
        }
        Value::Array(values) => values.iter_mut().for_each(leave_out_keys),
        Value::Object(fields) => fields.values_mut().for_each(leave_out_keys),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_no_values() {
        let message = Message {
            from: Party::Verifier,
            to: Party::Agent,
            method: "GET".to_owned(),
            path: format!("/v2.4/agents/{UUID}?nonce=abc&mask=0x1"),
            request: Value::Null,
            status: 200,
            answer: Value::Null,
        };
        let route = message.route().to_string();
        assert_eq!(route, "Verifier to Agent: GET /v2/agents/{uuid}?mask&nonce");
    }
}
