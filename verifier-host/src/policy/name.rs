//! Names of policies, and their two kinds.

use std::fmt;

use agent_core::wire::text::Uuid;
use serde::{Deserialize, Serialize};

/// The longest name, in bytes: Keylime's verifier has columns of this size.
const MAX_NAME_BYTES: usize = 255;

/// What may stand in a name besides letters and digits: all that stands for itself in the path of a URL. Keylime's verifier
/// keeps the path as it comes, so a name with anything else would be kept under its encoded form, and not be found by a node
/// that is added under its plain one.
///
/// Source: RFC 3986, section 3.3 (`pchar`).
const PUNCTUATION: &str = "-._~!$&'()*+,;=:@";

/// The two kinds of policies that a verifier keeps under names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// What IMA may measure.
    Runtime,
    /// What the boot log must show.
    MeasuredBoot,
}

impl PolicyKind {
    /// What it is called in sentences.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Runtime => "runtime policy",
            Self::MeasuredBoot => "measured-boot policy",
        }
    }

    /// What commands call it: `add` and this word is one.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Runtime => "runtimepolicy",
            Self::MeasuredBoot => "mbpolicy",
        }
    }

    /// The option with its file; the one with its name has `-name` behind it.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::Runtime => "--runtime-policy",
            Self::MeasuredBoot => "--mb-policy",
        }
    }
}

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no name of a policy: 1 to {MAX_NAME_BYTES} letters, digits and any of {PUNCTUATION}, not \".\" or \"..\""
)]
pub struct NameError {
    /// What was given, cut to a line.
    pub text: String,
}

/// The name that a verifier keeps a policy under; part of a path as it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PolicyName(String);

impl PolicyName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: String) -> Result<Self, NameError> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || PUNCTUATION.contains(letter);
        // `.` and `..` would name another path.
        let is_name = !matches!(text.as_str(), "" | "." | "..");
        if is_name && text.len() <= MAX_NAME_BYTES && text.chars().all(allowed) {
            return Ok(Self(text));
        }
        Err(NameError {
            text: text.chars().take(MAX_NAME_BYTES).collect(),
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PolicyName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// A policy that was given for one node, without a name, has the node's.
impl From<&Uuid> for PolicyName {
    fn from(id: &Uuid) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_part_of_a_path_as_it_stands() {
        let long = "x".repeat(256);
        let rows = [
            ("plain", "web-1.2", true),
            ("a version", "fedora:40", true),
            ("a dot file", ".web", true),
            ("empty", "", false),
            ("this directory", ".", false),
            ("the one above", "..", false),
            ("a path", "a/b", false),
            ("a query", "a?b", false),
            ("a fragment", "a#b", false),
            ("encoded", "a%2fb", false),
            ("a space", "a b", false),
            ("a line", "a\nb", false),
            ("not ASCII", "ä", false),
            ("too long", &long, false),
        ];
        for (name, text, wanted) in rows {
            assert_eq!(PolicyName::parse(text.to_owned()).is_ok(), wanted, "{name}");
        }
    }
}
