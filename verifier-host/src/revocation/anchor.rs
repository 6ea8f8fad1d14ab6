//! Who revokes and who is told: anchors, groups, and the names of logs.

use agent_core::wire::text::Hex;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// An anchor's name: the SHA-256 of the `SubjectPublicKeyInfo` of the notifier's key, in 64 lowercase hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnchorName(String);

impl AnchorName {
    /// The name as it is written; `None` for another text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_name = text.len() == ANCHOR_DIGITS && text.bytes().all(digit);
        is_name.then(|| Self(text.to_owned()))
    }

    /// The name of a key by the DER of its `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn of(public: &[u8]) -> Self {
        Self(Hex(&Sha256::digest(public)).to_string())
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for a log of this anchor that no other has.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn draw_log_id(&self) -> Result<String, SysError> {
        let mut random = [0; 8];
        SysRng.try_fill_bytes(&mut random)?;
        Ok(format!("{}-{}", self.0, Hex(&random)))
    }
}

/// Nodes that are told of each other; those without a group are one too.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(String);

/// Why a node can't be in a group of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the group in metadata isn't a text of at most {MAX_GROUP_BYTES} letters, digits, '_', '.' and '-'"
)]
pub struct GroupError;

impl Group {
    /// The group of that name; none, and the empty name, is that of the nodes without one.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn parse(name: Option<&str>) -> Result<Self, GroupError> {
        let name = name.unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if name.len() <= MAX_GROUP_BYTES && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(GroupError)
        }
    }

    /// The group that a node's metadata names. Metadata that is no JSON object names none: Keylime takes any text there.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn of_metadata(metadata: &str) -> Result<Self, GroupError> {
        match Metadata::read(metadata).group {
            None => Ok(Self::default()),
            Some(raw) => {
                let name: Option<String> =
                    serde_json::from_str(raw.get()).map_err(|_| GroupError)?;
                Self::parse(name.as_deref())
            }
        }
    }

    /// The name, empty for the nodes without one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, none for the nodes without one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.clone())
    }
}

/// Decimal text of the serial of the certificate that a node got with its payload, as its metadata has it: a number or a text.
#[must_use]
pub fn cert_serial(metadata: &str) -> Option<String> {
    let raw = Metadata::read(metadata).cert_serial?;
    let text = raw.get().trim_matches('"');
    let digits = text.trim_start_matches('0');
    let is_serial = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=MAX_SERIAL_DIGITS).contains(&digits.len());
    is_serial.then(|| digits.to_owned())
}

/// What is read in a node's metadata.
#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    group: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cert_serial: Option<&'a RawValue>,
}

impl<'a> Metadata<'a> {
    fn read(text: &'a str) -> Self {
        // An array would be taken for an object with these members in order.
        let object = text.trim_start().starts_with('{').then_some(text);
        let read = object.and_then(|text| serde_json::from_str(text).ok());
        read.unwrap_or_default()
    }
}

/// A SHA-256 in hex.
const ANCHOR_DIGITS: usize = 64;

/// The longest name of a group.
pub const MAX_GROUP_BYTES: usize = 64;

/// Digits of a number of 20 octets.
///
/// Source: RFC 5280 section 4.1.2.2.
const MAX_SERIAL_DIGITS: usize = 49;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let long = format!(r#"{{"group": "{}"}}"#, "a".repeat(65));
        for (metadata, expected) in [
            ("{}", Ok("")),
            ("no JSON", Ok("")),
            ("[1]", Ok("")),
            (r#"{"group": null}"#, Ok("")),
            (r#"{"group": ""}"#, Ok("")),
            (
                r#"{"group": "edge-1.north_2", "cert_serial": 2}"#,
                Ok("edge-1.north_2"),
            ),
            (r#"{"group": "a b"}"#, Err(GroupError)),
            (r#"{"group": "a/b"}"#, Err(GroupError)),
            (r#"{"group": 7}"#, Err(GroupError)),
            (r#"{"group": ["a"]}"#, Err(GroupError)),
            (long.as_str(), Err(GroupError)),
        ] {
            let found = Group::of_metadata(metadata);
            let found = found.as_ref().map(Group::as_str).map_err(|error| *error);
            assert_eq!(found, expected, "{metadata}");
        }
    }

    #[test]
    fn serials() {
        let long = format!(r#"{{"cert_serial": {}}}"#, "9".repeat(50));
        for (metadata, expected) in [
            ("{}", None),
            (r#"{"cert_serial": 2}"#, Some("2")),
            (r#"{"cert_serial": "002"}"#, Some("2")),
            (
                r#"{"cert_serial": 340282366920938463463374607431768211456}"#,
                Some("340282366920938463463374607431768211456"),
            ),
            (r#"{"cert_serial": -2}"#, None),
            (r#"{"cert_serial": 0}"#, None),
            (r#"{"cert_serial": 1.5}"#, None),
            (r#"{"cert_serial": null}"#, None),
            (long.as_str(), None),
        ] {
            assert_eq!(cert_serial(metadata).as_deref(), expected, "{metadata}");
        }
    }

    #[test]
    fn names_of_anchors() {
        let name = AnchorName::of(b"key");
        assert_eq!(AnchorName::parse(name.as_str()), Some(name.clone()));
        for text in ["", "ab", &"A".repeat(64), &"a".repeat(65), &"g".repeat(64)] {
            assert_eq!(AnchorName::parse(text), None, "{text}");
        }
    }
}
