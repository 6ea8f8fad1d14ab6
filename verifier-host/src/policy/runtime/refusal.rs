//! Why a runtime policy doesn't let an entry pass, and what would have allowed it.

use std::fmt;

use agent_core::wire::text::Hex;
use thiserror::Error;

use crate::evidence::ima::{
    FileDigest, FileSignatureError, ImaError, LineError, ListHash, SignatureHash,
};

/// The most digests that a refusal quotes.
const MAX_QUOTED: usize = 4;

/// A part of a policy that lists digests by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `digests`: files by path.
    Files,
    /// `keyrings`: keys by keyring.
    Keyrings,
    /// `ima-buf`: other buffers by name.
    Buffers,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "digests",
            Self::Keyrings => "keyrings",
            Self::Buffers => "ima-buf",
        })
    }
}

/// Digests as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named(String);

impl Named {
    /// `ALG:HEX`.
    pub(super) fn digest(digest: &FileDigest<'_>) -> Self {
        let hex = Hex(digest.bytes);
        let alg = digest.alg;
        Self(match digest.kind {
            Some(kind) => format!("{kind}:{alg}:{hex}"),
            None => format!("{alg}:{hex}"),
        })
    }

    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self(Hex(bytes).to_string())
    }

    /// The first of some digests, and how many more there are.
    pub(super) fn all<'d>(digests: impl Iterator<Item = &'d [u8]> + Clone) -> Self {
        let more = digests.clone().count().saturating_sub(MAX_QUOTED);
        let quoted: Vec<String> = digests
            .take(MAX_QUOTED)
            .map(|digest| Hex(digest).to_string())
            .collect();
        let mut text = quoted.join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        Self(text)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an entry doesn't pass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A file, keyring or buffer that the policy doesn't know.
    #[error("{path} ({got}) is not in the policy's {part}, and no exclude matches it")]
    Unknown {
        /// Where it would have to be.
        part: Part,
        /// Its path or name.
        path: String,
        /// What was measured.
        got: Named,
    },
    /// One that the policy knows with another digest.
    #[error("{path} has the digest {got}; the policy's {part} allow {allowed}")]
    Digest {
        /// Where it is listed.
        part: Part,
        /// Its path or name.
        path: String,
        /// What was measured.
        got: Named,
        /// What is listed.
        allowed: Named,
    },
    /// A file signed by a key that isn't known.
    #[error(
        "{path} is signed by the key 0x{id:08x}, which is neither in the policy's verification-keys nor in a measured \
         keyring that the policy allows, and the path is not in its digests"
    )]
    NoKey {
        /// The path.
        path: String,
        /// The key's identifier.
        id: u32,
    },
    /// A file signed by a key that nothing can be verified with.
    #[error(
        "{path} is signed by the key 0x{id:08x} of the algorithm {algorithm}; RSA and ECDSA on P-256 or P-384 are verified, \
         and the path is not in the policy's digests"
    )]
    KeyAlgorithm {
        /// The path.
        path: String,
        /// The key's identifier.
        id: u32,
        /// Object identifier of its algorithm or curve.
        algorithm: String,
    },
    /// A signature that isn't the key's over the file.
    #[error(
        "the signature of {path} is not that of the key 0x{id:08x} over {}: the file has {digest}; it was changed, or \
         signed by another key with the same identifier",
        .hash.name()
    )]
    BadSignature {
        /// The path.
        path: String,
        /// The key's identifier.
        id: u32,
        /// The hash that the signature says it is over.
        hash: SignatureHash,
        /// What was measured.
        digest: Named,
    },
    /// A signature that can't be read.
    #[error(
        "the signature of {path} can't be read: {reason}; and the path is not in the policy's digests"
    )]
    Signature {
        /// The path.
        path: String,
        /// Why not.
        reason: FileSignatureError,
    },
    /// A file that was written while it was measured.
    #[error(
        "{path} was open for writing while it was measured, or was written later, so that nobody knows what was read; \
         only an exclude allows that"
    )]
    Violation {
        /// The path.
        path: String,
    },
    /// A boot aggregate that isn't that of the quoted PCRs.
    #[error(
        "boot_aggregate is {got}, and PCRs 0 to 9 of the quote make {quoted}: the list is another boot's, or one of them was \
         extended after IMA had started"
    )]
    BootAggregate {
        /// What was measured.
        got: Named,
        /// What PCRs 0 to 9 make.
        quoted: Named,
    },
    /// A measured buffer with a digest that isn't its own.
    #[error("the buffer measured as {path} doesn't have the digest {said} that it is listed with")]
    Buffer {
        /// Its name.
        path: String,
        /// The digest of its entry.
        said: Named,
    },
    /// More keys than are learnt.
    #[error("more than {limit} keys were measured into keyrings")]
    TooManyKeys {
        /// The limit.
        limit: usize,
    },
    /// A list with template hashes of another kind than the policy says.
    #[error("the list's template hashes are {}, and the policy's ima.log_hash_alg is {}", .got.name(), .want.name())]
    ListHash {
        /// The list's.
        got: ListHash,
        /// The policy's.
        want: ListHash,
    },
}

impl Refusal {
    /// What Keylime calls such a failure.
    ///
    /// Source: the failure events in Keylime's `ima/ima.py` and `ima/ast.py`.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "ima.validation.ima-ng.not_in_allowlist",
            Self::Digest { .. } | Self::BootAggregate { .. } | Self::Buffer { .. } => {
                "ima.validation.ima-ng.runtime_policy_hash"
            }
            Self::NoKey { .. } | Self::BadSignature { .. } | Self::Signature { .. } => {
                "ima.validator.ima-sig.invalid_signature"
            }
            Self::KeyAlgorithm { .. } | Self::TooManyKeys { .. } => "ima.invalid_key",
            Self::Violation { .. } => "ima.validation.tomtou",
            Self::ListHash { .. } => "ima.validation.ima_hash",
        }
    }
}

impl ImaError<Refusal> {
    /// What Keylime calls such a failure.
    ///
    /// Source: as for [`Refusal::event`], and `cloud_verifier_common.py` for a list that starts at another line than asked for.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Line {
                reason: LineError::Template { .. } | LineError::Lacks { .. },
                ..
            } => "ima.validation.no_validator",
            Self::Line { .. } => "ima.parser.entry",
            Self::TemplateHash { .. } => "ima.validation.ima_hash",
            Self::Pcr { .. } => "ima.validation.ima_pcr",
            Self::Refused { reason, .. } => reason.event(),
            Self::NoMatch { .. } | Self::Bank { .. } => "ima.pcr_mismatch",
            Self::Behind { .. } => "ima.quote_progress",
        }
    }
}
