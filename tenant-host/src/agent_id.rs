//! The identifier of an agent, checked once: it goes into URLs and file names.

use std::fmt;

/// The longest identifier that is accepted, in bytes.
///
/// Keylime's databases hold 80; anything longer is no identifier.
pub const MAX_AGENT_ID_BYTES: usize = 80;

/// An agent's identifier: 1 to [`MAX_AGENT_ID_BYTES`] of `[A-Za-z0-9_.-]`, starting with none of `.` and `-`.
///
/// Keylime allows `[\w.-]+`; what would be a hidden file, a parent directory or an option is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(String);

/// The text is no agent identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no agent identifier: 1 to {MAX_AGENT_ID_BYTES} letters, digits, `_`, `.` or `-`, starting with a letter, a digit or `_`"
)]
pub struct AgentIdError {
    /// What was given, cut to a readable length.
    pub text: String,
}

impl AgentId {
    /// Checks the text.
    ///
    /// # Errors
    /// [`AgentIdError`] if it is empty, too long or has another character.
    pub fn parse(text: &str) -> Result<Self, AgentIdError> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let starts_well = !text.starts_with(['.', '-']);
        if !text.is_empty()
            && text.len() <= MAX_AGENT_ID_BYTES
            && starts_well
            && text.bytes().all(is_plain)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(AgentIdError {
                text: text.chars().take(MAX_AGENT_ID_BYTES).collect(),
            })
        }
    }

    /// The text, as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_checked_once() {
        let long = "a".repeat(MAX_AGENT_ID_BYTES);
        let longer = "a".repeat(MAX_AGENT_ID_BYTES + 1);
        let rows: &[(&str, &str, bool)] = &[
            ("uuid", "d432fbb3-d2f1-4a97-9ef7-75bd81c00000", true),
            ("name", "node_1.example", true),
            ("longest", &long, true),
            ("too long", &longer, false),
            ("empty", "", false),
            ("parent directory", "..", false),
            ("hidden", ".ssh", false),
            ("option", "-rf", false),
            ("slash", "a/b", false),
            ("query", "a?b", false),
            ("NUL", "a\0b", false),
            ("not ASCII", "é", false),
        ];
        for (name, text, good) in rows {
            assert_eq!(AgentId::parse(text).is_ok(), *good, "{name}");
        }
    }
}
