//! Messages: an entry of a revocation log, Keylime's unnumbered one, or the news that a node is silent.

use core::fmt;

use sha2::{Digest, Sha256};

use crate::wire::json::Value;
use crate::wire::text::{LogId, parse_hex};

/// What a message is, by its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Keylime's `comm_error`: a node doesn't answer. It is away, not compromised, and nothing is done about it.
    Silence,
    /// One without a number, as Keylime's verifier sends them. What can't be read is one, too: a revocation.
    Plain {
        /// SHA-256 of its text.
        digest: [u8; 32],
    },
    /// An entry of a log.
    Entry(Entry),
}

/// An entry of a revocation log, as far as the core reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The log.
    pub log_id: LogId,
    /// Its number there, from 1.
    pub number: u64,
    /// SHA-256 of the text of the entry before; zeros in number 1.
    pub previous: [u8; 32],
    /// SHA-256 of its own text.
    pub digest: [u8; 32],
    /// What it is about.
    pub kind: Kind,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node that is no longer trusted.
    Revocation,
    /// A new revocation list, and no node.
    Crl,
}

/// Why a text is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// An entry lacks this member, or it isn't what it should be.
    Member {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Member { name } = self;
        write!(out, "the entry has no {name}, or one that can't be used")
    }
}

impl core::error::Error for MessageError {}

impl Message {
    /// Reads a text.
    ///
    /// # Errors
    /// [`MessageError`]: it has some of an entry's members and not all, or not as they should be.
    ///
    /// Source: `agent-core/docs/revocation.md`; Keylime's `revocation_notifier`, which sends the two other kinds.
    pub fn read(text: &str) -> Result<Self, MessageError> {
        let root = Value::parse(text.as_bytes()).ok();
        let member = |name| root.and_then(|root| root.member(name));
        let kind = member(TYPE).and_then(Value::text);
        let digest = Sha256::digest(text).into();
        if ![LOG_ID, NUMBER, PREVIOUS]
            .into_iter()
            .any(|name| member(name).is_some())
        {
            return Ok(match kind {
                Some("comm_error") => Self::Silence,
                _ => Self::Plain { digest },
            });
        }
        let (log_id, number, previous) = root
            .ok_or(LOG_ID)
            .and_then(place)
            .map_err(|name| MessageError::Member { name })?;
        let fault = |name| MessageError::Member { name };
        if number == 0 {
            return Err(fault(NUMBER));
        }
        let kind = match kind {
            Some("revocation") => Kind::Revocation,
            Some("crl") => Kind::Crl,
            _ => return Err(fault(TYPE)),
        };
        Ok(Self::Entry(Entry {
            log_id,
            number,
            previous,
            digest,
            kind,
        }))
    }
}

/// A place in a log: its name, a number, and a digest of 64 hex digits; or the name of the member that is no good.
pub(super) fn place(root: Value<'_>) -> Result<(LogId, u64, [u8; 32]), &'static str> {
    let text = |name| root.member(name).and_then(Value::text);
    let number = root.member(NUMBER).and_then(Value::number);
    let previous = text(PREVIOUS).and_then(|text| parse_hex(text.as_bytes()));
    Ok((
        text(LOG_ID).and_then(LogId::parse).ok_or(LOG_ID)?,
        number.ok_or(NUMBER)?,
        previous.ok_or(PREVIOUS)?,
    ))
}

const TYPE: &str = "type";
pub(super) const LOG_ID: &str = "log_id";
const NUMBER: &str = "number";
pub(super) const PREVIOUS: &str = "previous";

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;

    use super::*;

    const LOG: &str =
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff-0123456789abcdef";

    #[test]
    fn offline_node_revokes_nobody() {
        let rows = [
            (r#"{"type":"comm_error","port":9002}"#, true),
            (r#"{"type":"revocation"}"#, false),
            (r#"{"type":"comm_error","type":"revocation"}"#, false),
            (r#"{"type":["comm_error"]}"#, false),
            (r#"{"context":{"type":"comm_error"}}"#, false),
            (r#"{"agent_id":"comm_error"}"#, false),
            ("comm_error", false),
            ("", false),
        ];
        for (text, wanted) in rows {
            let read = Message::read(text).unwrap();
            assert_eq!(read == Message::Silence, wanted, "{text}");
        }
    }

    #[test]
    fn entries() {
        let zeros = "0".repeat(64);
        let usual = format!(
            r#"{{"type":"revocation","ip":"10.0.0.7","context":{{"a":[1]}},"log_id":"{LOG}","number":1,"previous":"{zeros}"}}"#
        );
        let read = |from: &str, to: &str| Message::read(&usual.replacen(from, to, 1));
        let kind = |read| match read {
            Ok(Message::Entry(entry)) => Ok(entry.kind),
            Ok(other) => panic!("{other:?}"),
            Err(MessageError::Member { name }) => Err(name),
        };
        let Ok(Message::Entry(entry)) = Message::read(&usual) else {
            panic!("no entry");
        };
        assert_eq!((entry.log_id.as_str(), entry.number), (LOG, 1));
        assert_eq!(entry.previous, [0; 32]);
        assert_eq!(entry.digest, <[u8; 32]>::from(Sha256::digest(&usual)));
        let without = |name: &str| {
            let line = usual.split(',').filter(|member| !member.contains(name));
            line.collect::<std::vec::Vec<_>>().join(",")
        };
        let rows: [(&str, String, Result<Kind, &str>); 12] = [
            ("usual", usual.clone(), Ok(Kind::Revocation)),
            (
                "list",
                usual.replacen("revocation", "crl", 1),
                Ok(Kind::Crl),
            ),
            (
                "silent",
                usual.replacen("revocation", "comm_error", 1),
                Err("type"),
            ),
            (
                "other type",
                usual.replacen("revocation", "x", 1),
                Err("type"),
            ),
            ("number 0", usual.replacen(":1,", ":0,", 1), Err("number")),
            ("text", usual.replacen(":1,", r#":"1","#, 1), Err("number")),
            ("minus", usual.replacen(":1,", ":-1,", 1), Err("number")),
            (
                "large",
                usual.replacen(":1,", ":18446744073709551616,", 1),
                Err("number"),
            ),
            (
                "short digest",
                usual.replacen("00\"}", "\"}", 1),
                Err("previous"),
            ),
            ("other log", usual.replacen("0011", "001", 1), Err("log_id")),
            ("no number", without("number"), Err("number")),
            ("no log", without("log_id"), Err("log_id")),
        ];
        for (name, text, wanted) in rows {
            assert_eq!(kind(Message::read(&text)), wanted, "{name}");
        }
        // Two of a name are none.
        assert_eq!(kind(read(r#""ip""#, r#""number""#)), Err("number"));
        // None of the three: Keylime's.
        for text in [r#"{"type":"revocation"}"#, "x", r#"{"type":"crl"}"#] {
            let digest = Sha256::digest(text).into();
            assert_eq!(Message::read(text), Ok(Message::Plain { digest }));
        }
    }
}
