//! What a step leaves for the log: never a secret, never a peer's text.

use core::fmt;

use super::delivery::Clipped;

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
    /// A revocation notice with the notifier's signature, which is acted on.
    NoticeVerified,
    /// A notice that a node doesn't answer, which revokes nobody.
    NodeSilent,
    /// One that was taken before.
    NoticeRepeated,
    /// One that there is no room for.
    NoticeTurnedAway,
    /// A revocation notice that doesn't count.
    NoticeRefused,
}

impl Note {
    /// Whether an operator should see it even in a quiet log.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::UReceived { .. }
                | Self::VReceived
                | Self::KeyMade
                | Self::NoticeVerified
                | Self::NodeSilent
                | Self::NoticeRepeated
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
            Self::NoticeVerified => "revocation notice verified",
            Self::NodeSilent => {
                "notice verified that a node does not answer: it revokes nobody, nothing is done"
            }
            Self::NoticeRepeated => "revocation notice came again: it is not acted on twice",
            Self::NoticeTurnedAway => {
                "revocation notice turned away: too many wait; its sender is told to try again"
            }
            Self::NoticeRefused => "revocation notice refused: not signed by this node's notifier",
        })
    }
}
