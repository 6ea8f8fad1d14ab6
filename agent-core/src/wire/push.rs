//! API 3.0, in which the agent calls: what it sends to a verifier, and what it reads of the answers.
//!
//! Answers of Keylime's verifier and of ours are read alike. Every value is bounded, and a member that isn't what it should be
//! is named; what else an answer holds is passed over.
//!
//! The rules of payloads stand in `agent-core/docs/agent-driven.md`.

mod attestation;
mod deposit;
mod failure;
mod session;

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::json::{DocumentError, Value};

pub use attestation::{
    Accepted, Capabilities, Chosen, Evaluation, Evidence, MAX_REQUESTED, Verdict,
};
pub use deposit::{
    Deposit, DepositBuffer, MAX_MANIFEST_SIGNATURE_BYTES, MAX_SIGNER_BYTES, MAX_U_BLOB_BYTES,
    ReceiptMessage, ReleaseRequest, released_from_answer,
};
pub use failure::{Code, Failure};
pub use session::{
    Authentication, Challenge, MAX_TOKEN_BYTES, Opened, Proof, SessionRequest, Token,
};

/// The longest body that an agent sends: capabilities, evidence or a receipt, without logs.
pub const MAX_BODY_BYTES: usize = 8 * 1024;

/// Why an answer can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// It isn't JSON, or nested too deep.
    Document(DocumentError),
    /// A member is missing, or isn't what it should be.
    Member {
        /// Its name.
        name: &'static str,
    },
}

impl From<DocumentError> for PushError {
    fn from(error: DocumentError) -> Self {
        Self::Document(error)
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(_) => out.write_str("the answer is not the JSON that a verifier sends"),
            Self::Member { name } => {
                write!(
                    out,
                    "the verifier's answer has no {name}, or one that can't be used"
                )
            }
        }
    }
}

impl core::error::Error for PushError {}

pub(crate) fn member<T>(name: &'static str, value: Option<T>) -> Result<T, PushError> {
    value.ok_or(PushError::Member { name })
}

/// The attributes of the resource that an answer brings.
pub(crate) fn attributes(body: &[u8]) -> Result<(Value<'_>, Value<'_>), PushError> {
    let data = member("data", Value::parse(body)?.member("data"))?;
    Ok((data, member("attributes", data.member("attributes"))?))
}

/// Decodes a base64 text into `out`; `None` if it is none, or too long.
fn decode<'b>(text: &str, out: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = STANDARD.decode_slice(text, out).ok()?;
    out.get(..length)
}
