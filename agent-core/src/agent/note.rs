//! What a step leaves for the log: never a secret, never a peer's text.

use core::fmt;

use super::delivery::Clipped;
use crate::revocation::{Heard, NoticeError, Taken};

/// Something that an operator may want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A U that no V had been found for is gone, with its payload.
    ULost,
    /// A V that no U had been found for is gone.
    VLost,
    /// U has come.
    UReceived {
        /// Size of the sealed payload in bytes.
        payload: Option<usize>,
    },
    /// V has come.
    VReceived,
    /// U and V are there, of two different keys.
    HalvesApart,
    /// U and V make the key that their tenant sealed with.
    KeyMade,
    /// The payload doesn't open with the key.
    SealBroken,
    /// The TPM gave no quote, and why.
    NoQuote(Clipped<160>),
    /// A log of this boot wasn't sent, or not to its end, and why.
    NoLog(Clipped<160>),
    /// The TPM didn't decrypt a key half, and why.
    KeyNotDecrypted(Clipped<160>),
    /// A revocation with the notifier's signature, which is acted on; its number, if it is an entry of a log.
    RevocationTaken(Option<u64>),
    /// One that was taken before.
    RevocationRepeated(Option<u64>),
    /// An entry whose turn hasn't come.
    RevocationAhead(u64),
    /// One that waits for a payload.
    RevocationKept,
    /// The news that a node doesn't answer, which revokes nobody.
    NodeSilent,
    /// A revocation that there is no room for.
    RevocationTurnedAway,
    /// One that doesn't count, and why.
    RevocationRefused(NoticeError),
}

impl Note {
    /// What the log is to say of a notice.
    pub(super) fn of(heard: &Result<Heard, NoticeError>) -> Self {
        let (number, taken) = match heard {
            Err(NoticeError::Full) => return Self::RevocationTurnedAway,
            Err(error) => return Self::RevocationRefused(*error),
            Ok(Heard::Silence) => return Self::NodeSilent,
            Ok(Heard::Kept) => return Self::RevocationKept,
            Ok(Heard::Plain(taken)) => (None, *taken),
            Ok(Heard::Entry { number, taken, .. }) => (Some(*number), *taken),
        };
        match (taken, number) {
            (Taken::Acting, _) => Self::RevocationTaken(number),
            (Taken::Ahead, Some(number)) => Self::RevocationAhead(number),
            _ => Self::RevocationRepeated(number),
        }
    }

    /// Whether an operator should see it even in a quiet log.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::UReceived { .. }
                | Self::VReceived
                | Self::KeyMade
                | Self::RevocationTaken(_)
                | Self::RevocationRepeated(_)
                | Self::RevocationAhead(_)
                | Self::RevocationKept
                | Self::NodeSilent
        )
    }
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ULost => "a waiting U half and its payload were replaced: no V half fitted them",
            Self::VLost => "a waiting V half was replaced: no U half fitted it",
            Self::UReceived {
                payload: Some(size),
            } => {
                return write!(
                    out,
                    "U half received, with a sealed payload of {size} bytes"
                );
            }
            Self::UReceived { payload: None } => "U half received, without a payload",
            Self::VReceived => "V half received",
            Self::HalvesApart => "U and V half belong to different keys; waiting for one that fits",
            Self::KeyMade => "U and V half fit: the key is there",
            Self::SealBroken => {
                "the payload does not open with its key: it was damaged or sealed with another"
            }
            Self::NoQuote(reason) => return write!(out, "no quote: {reason}"),
            Self::NoLog(reason) => return write!(out, "no log: {reason}"),
            Self::KeyNotDecrypted(reason) => {
                return write!(out, "key half not decrypted: {reason}");
            }
            Self::RevocationTaken(number) => {
                return write_numbered(out, "verified", *number);
            }
            Self::RevocationRepeated(number) => {
                return write_numbered(out, "came again: it is not acted on twice", *number);
            }
            Self::RevocationAhead(number) => {
                return write_numbered(
                    out,
                    "came early: those before it have to come first",
                    Some(*number),
                );
            }
            Self::RevocationKept => "revocation notice kept until a payload is in place",
            Self::NodeSilent => {
                "notice that a node does not answer: it revokes nobody, nothing is done"
            }
            Self::RevocationTurnedAway => {
                "revocation notice turned away: too many wait; its sender is told to try again"
            }
            Self::RevocationRefused(error) => {
                return write!(out, "revocation notice refused: {error}");
            }
        })
    }
}

fn write_numbered(out: &mut fmt::Formatter<'_>, what: &str, number: Option<u64>) -> fmt::Result {
    write!(out, "revocation notice {what}")?;
    match number {
        Some(number) => write!(out, " (entry {number})"),
        None => Ok(()),
    }
}
