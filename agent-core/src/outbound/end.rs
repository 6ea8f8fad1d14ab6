//! Why the machine waits, and how it ends.

use core::fmt;

use super::deposit::Fault;
use super::report::ScriptOutcome;
use crate::wire::push::{Code, Failure, PushError};
use crate::wire::receipt::MAX_REASON_BYTES;

/// One line for a log.
pub(super) type Reason = heapless::String<MAX_REASON_BYTES>;

/// Why there is a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The verifier can't be reached, or the link broke.
    Unreachable,
    /// The registrar doesn't know this node yet.
    NotRegistered,
    /// The verifier doesn't know this node yet.
    NotEnrolled,
    /// Nothing is deposited for this node yet.
    NoPayload,
    /// The verifier is busy.
    Busy,
    /// The verifier wants to be asked less often.
    TooEarly,
    /// The verifier failed.
    ServerError {
        /// Its status.
        status: u16,
    },
    /// The verifier refuses this node.
    Refused,
    /// The verifier's answer is of no use.
    Unusable(Unusable),
    /// The next attestation isn't due yet.
    NextRound,
}

impl Why {
    /// Whether the verifier, reached well, waits for somebody to accept this node.
    #[must_use]
    pub const fn is_acceptance(self) -> bool {
        matches!(
            self,
            Self::NotRegistered | Self::NotEnrolled | Self::NoPayload
        )
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => out.write_str("the verifier can't be reached"),
            Self::NotRegistered => out.write_str("the registrar doesn't know this node yet"),
            Self::NotEnrolled => {
                out.write_str("the verifier doesn't accept this node (yet): was it added?")
            }
            Self::NoPayload => out.write_str("nothing is deposited for this node yet"),
            Self::Busy => out.write_str("the verifier is busy"),
            Self::TooEarly => out.write_str("the verifier wants to be asked later"),
            Self::ServerError { status } => write!(out, "the verifier answers {status}"),
            Self::Refused => out.write_str("the verifier refuses this node"),
            Self::Unusable(error) => error.fmt(out),
            Self::NextRound => out.write_str("the next attestation isn't due yet"),
        }
    }
}

/// What makes a verifier's answer useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unusable {
    /// Its status means nothing here.
    Status(u16),
    /// What it says can't be read.
    Answer(PushError),
    /// It wants a quote by another scheme or of another bank than this node's.
    Scheme,
}

impl From<PushError> for Unusable {
    fn from(error: PushError) -> Self {
        Self::Answer(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(
                out,
                "the verifier answers {status}: does it serve API 3.0 at this address?"
            ),
            Self::Answer(error) => error.fmt(out),
            Self::Scheme => out.write_str(
                "the verifier wants a quote by another scheme or of another bank than this node's",
            ),
        }
    }
}

/// A verifier's refusal, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub code: Code,
    /// The status that it came with.
    pub status: u16,
    /// What the verifier says of it; maybe empty.
    pub detail: Reason,
}

impl Refusal {
    pub(super) fn of(failure: &Failure) -> Self {
        Self {
            code: failure.code,
            status: failure.status,
            detail: failure.detail.clone(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Code::Other => write!(out, "{}", self.status)?,
            code => out.write_str(code.name())?,
        }
        match self.detail.as_str() {
            "" => Ok(()),
            detail => write!(out, ": {detail}"),
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The payload is in place, and its script, if it has one, ended well.
    Finished,
    /// The payload is in place, and its script failed.
    Script(ScriptOutcome),
    /// The payload is in place, and its script couldn't be run.
    NotRun(Reason),
    /// The verifier refuses.
    Refused(Refusal),
    /// The deposit isn't what this node takes.
    BadPayload(Fault),
    /// The opened payload couldn't be unpacked; nothing of it is in place.
    NotUnpacked(Reason),
    /// There is no room for the sealed bytes.
    NoRoom(Reason),
    /// The verifier's answer is of no use.
    Verifier(Unusable),
    /// The TPM failed.
    Tpm(Reason),
    /// The boot couldn't be capped: the script wasn't run.
    NotCapped(Reason),
    /// The machine was asked for something that it isn't at.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => out.write_str("finished"),
            Self::Script(outcome) => write!(out, "the script failed: {outcome}"),
            Self::NotRun(reason) => write!(out, "the script was not run: {reason}"),
            Self::Refused(refusal) => write!(out, "refused by the verifier: {refusal}"),
            Self::BadPayload(fault) => write!(out, "the payload is refused: {fault}"),
            Self::NotUnpacked(reason) => write!(out, "the payload was not unpacked: {reason}"),
            Self::NoRoom(reason) => write!(out, "no room for the sealed payload: {reason}"),
            Self::Verifier(error) => error.fmt(out),
            Self::Tpm(reason) => write!(out, "the TPM failed: {reason}"),
            Self::NotCapped(reason) => write!(out, "the boot could not be capped: {reason}"),
            Self::Stopped => out.write_str("stopped"),
        }
    }
}

impl core::error::Error for End {}
