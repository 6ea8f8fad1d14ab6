//! Errors as JSON:API has them.

use crate::wire::json::Value;
use crate::wire::receipt::{MAX_REASON_BYTES, Receipt};

/// What an error means, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The registrar doesn't know this node.
    NotRegistered,
    /// The verifier doesn't know this node.
    NotEnrolled,
    /// Nothing is deposited.
    NoPayload,
    /// That deposit was replaced.
    UnknownPayload,
    /// The attestation failed by policy.
    NotPassed,
    /// The attestation isn't of this session, is too old, or was used already.
    NotFresh,
    /// The quote lacks a PCR, or doesn't hold the release key.
    NotBound,
    /// This boot had its chance.
    Capped,
    /// The system was resumed.
    Resumed,
    /// The boot counters went back.
    ClearedTpm,
    /// Delivered once, to another boot.
    Spent,
    /// Past its time.
    Expired,
    /// The verdict isn't there yet.
    Busy,
    /// One that isn't of this list, or none.
    Other,
}

impl Code {
    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRegistered => "not-registered",
            Self::NotEnrolled => "not-enrolled",
            Self::NoPayload => "no-payload",
            Self::UnknownPayload => "unknown-payload",
            Self::NotPassed => "not-passed",
            Self::NotFresh => "not-fresh",
            Self::NotBound => "not-bound",
            Self::Capped => "capped",
            Self::Resumed => "resumed",
            Self::ClearedTpm => "cleared-tpm",
            Self::Spent => "spent",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }

    /// The code of a word; [`Code::Other`] for one that isn't known.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let known = ALL.into_iter().find(|code| code.name() == name);
        known.unwrap_or(Self::Other)
    }
}

/// What an answer says that isn't what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status.
    pub status: u16,
    /// The code of its first error.
    pub code: Code,
    /// That error's explanation in one line, cut short; maybe empty.
    pub detail: heapless::String<MAX_REASON_BYTES>,
}

impl Failure {
    /// Reads an answer of a status that isn't the expected one. A body that can't be read says nothing.
    #[must_use]
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        let root = Value::parse(body).ok();
        let error = root.and_then(|root| root.member("errors")?.items().next());
        let text = |name| error.and_then(|error| error.member(name)?.raw_text());
        let detail = text("detail").or_else(|| text("title")).unwrap_or_default();
        Self {
            status,
            code: text("code").map_or(Code::Other, Code::from_name),
            detail: Receipt::reason(detail),
        }
    }
}

const ALL: [Code; 13] = [
    Code::NotRegistered,
    Code::NotEnrolled,
    Code::NoPayload,
    Code::UnknownPayload,
    Code::NotPassed,
    Code::NotFresh,
    Code::NotBound,
    Code::Capped,
    Code::Resumed,
    Code::ClearedTpm,
    Code::Spent,
    Code::Expired,
    Code::Busy,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for code in ALL {
            assert_eq!(Code::from_name(code.name()), code);
        }
        assert_eq!(Code::from_name("premature_attestation"), Code::Other);
    }

    #[test]
    fn failures() {
        for (body, code, detail) in [
            (
                r#"{"errors":[{"status":"403","code":"capped","title":"T","detail":"PCR 15"}]}"#,
                Code::Capped,
                "PCR 15",
            ),
            (
                r#"{"errors":[{"status":"429","title":"Too Many Requests","detail":"say \"later\""}]}"#,
                Code::Other,
                "say ''later''",
            ),
            (r#"{"errors":[]}"#, Code::Other, ""),
            ("<html>", Code::Other, ""),
        ] {
            let failure = Failure::from_answer(403, body.as_bytes());
            assert_eq!((failure.code, failure.detail.as_str()), (code, detail));
        }
    }
}
