//! Options for who is told of revocations, and where revocation lists are.

use clap::Args;
use serde::{Deserialize, Serialize};
use verifier_host::revocation::told::MAX_REASON_CHARS;

use super::UsageError;

/// The longest name of a group.
///
/// Source: agent-core's `docs/revocation.md`.
const MAX_GROUP_CHARS: usize = 64;

/// The options as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Revocation")]
#[serde(default, deny_unknown_fields)]
pub struct RevocationArguments {
    /// The node's group: it is told of revocations in that group, and its group of its own. Without, of all nodes without one.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,

    /// Where certificates say that the revocation list is, or `none` [default: at the registrar, unless that is on this machine].
    #[arg(long, value_name = "URL")]
    pub crl_url: Option<String>,

    /// revoke: why, in one sentence. One of RFC 5280's words (keyCompromise, superseded, cessationOfOperation, ...) is the list's
    /// reason too, which is keyCompromise else.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl RevocationArguments {
    /// The group, checked.
    ///
    /// # Errors
    /// [`UsageError::BadGroup`].
    pub fn group(&self) -> Result<Option<&str>, UsageError> {
        let Some(group) = self.group.as_deref() else {
            return Ok(None);
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let is_group = (1..=MAX_GROUP_CHARS).contains(&group.len()) && group.bytes().all(plain);
        match is_group {
            true => Ok(Some(group)),
            false => Err(UsageError::BadGroup {
                text: group.to_owned(),
            }),
        }
    }

    /// Why a node is revoked.
    ///
    /// # Errors
    /// [`UsageError::Needs`] without a reason, [`UsageError::BadReason`].
    pub fn reason(&self) -> Result<&str, UsageError> {
        let reason = self
            .reason
            .as_deref()
            .ok_or(UsageError::Needs("-c revoke", "--reason"))?
            .trim();
        let length = reason.chars().count();
        let is_line =
            (1..=MAX_REASON_CHARS).contains(&length) && !reason.chars().any(char::is_control);
        match is_line {
            true => Ok(reason),
            false => Err(UsageError::BadReason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_short_label() {
        let group = |text: &str| {
            let arguments = RevocationArguments {
                group: Some(text.to_owned()),
                ..RevocationArguments::default()
            };
            arguments.group().is_ok()
        };
        for text in ["web", "A-1_b.c", &"g".repeat(64)] {
            assert!(group(text), "{text}");
        }
        for text in ["", "a b", "a/b", "é", &"g".repeat(65)] {
            assert!(!group(text), "{text}");
        }
        assert_eq!(RevocationArguments::default().group(), Ok(None));
    }

    #[test]
    fn a_reason_is_one_sentence() {
        let reason = |text: &str| {
            let arguments = RevocationArguments {
                reason: Some(text.to_owned()),
                ..RevocationArguments::default()
            };
            arguments.reason().map(str::to_owned)
        };
        assert_eq!(
            reason(" the disk was stolen \n"),
            Ok("the disk was stolen".to_owned())
        );
        let long = "é".repeat(MAX_REASON_CHARS);
        assert_eq!(reason(&long), Ok(long.clone()));
        for text in ["", "  ", "two\nlines", &format!("{long}é")] {
            assert_eq!(reason(text), Err(UsageError::BadReason), "{text}");
        }
        let none = RevocationArguments::default();
        assert_eq!(
            none.reason(),
            Err(UsageError::Needs("-c revoke", "--reason"))
        );
    }
}
