//! The runtime policy: which files, keys and buffers IMA may have measured on a node.
//!
//! JSON of version 1, bare or in a signed DSSE envelope. A value of [`RuntimePolicy`] was checked as a whole: every part that
//! version 1 has is there and of its kind, nothing is named twice, and what was signed is signed by the key it was to be
//! signed by. Fields that version 1 doesn't have are ignored, as Keylime does.
//!
//! Source: `RUNTIME_POLICY_SCHEMA` in Keylime 7.14.3; its verifier refuses what doesn't fit.

use std::borrow::Cow;

use agent_core::wire::quote::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use thiserror::Error;

use super::{Pairs, from_hex};
use crate::evidence::ima::{FileKey, ListHash};

mod digests;
mod dsse;
mod excludes;
mod judge;
mod key;
mod keyring;
mod refusal;

pub use digests::{Digests, Listed};
pub use dsse::EnvelopeError;
pub use excludes::Excludes;
pub use judge::{Judge, Learnt};
pub use key::{KeyError, PolicyKey};
pub use keyring::KeyringError;
pub use refusal::{Named, Part, Refusal};

/// The largest policy, signed or not. One of a whole distribution has some 10 MB.
pub const MAX_POLICY_BYTES: usize = 64 << 20;

/// The version that is understood.
const VERSION: u64 = 1;

/// The highest number of a generator: Keylime's for converted allowlists.
const LAST_GENERATOR: u64 = 3;

/// Sizes of digests that a policy can have: SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
pub const DIGEST_BYTES: &[usize] = &[20, 28, 32, 48, 64];

/// What a runtime policy can be refused for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RuntimePolicyError {
    /// Larger than policies are.
    #[error("it has {have} bytes, and policies of up to {limit} are taken")]
    TooLarge {
        /// Its size.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the JSON of a policy.
    #[error("it is no runtime policy in JSON: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// Another version.
    #[error("its meta.version is {found}, and version {known} is understood")]
    Version {
        /// The policy's.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// A generator that version 1 doesn't have.
    #[error("its meta.generator is {found}, and version 1 has generators 0 to {last}")]
    Generator {
        /// The policy's.
        found: u64,
        /// The last one.
        last: u64,
    },
    /// A name that comes twice: readers would differ in which of the two counts.
    #[error("{part} has {name:?} twice")]
    Twice {
        /// The policy's part.
        part: &'static str,
        /// The name.
        name: String,
    },
    /// A name without digests: nothing would pass.
    #[error("{part} has no digest for {name:?}; remove it, or list one at least")]
    NoDigest {
        /// The policy's part.
        part: &'static str,
        /// The name.
        name: String,
    },
    /// A text that is no digest.
    #[error("{part} lists {value:?} for {name:?}, which is no digest in lowercase hexadecimal")]
    NotADigest {
        /// The policy's part.
        part: &'static str,
        /// The name.
        name: String,
        /// The text, cut to a line.
        value: String,
    },
    /// A regular expression that can't be meant to be one.
    #[error("excludes has an expression of {have} bytes, and ones of up to {limit} are taken")]
    Exclude {
        /// Its size.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// A regular expression that can't be matched in linear time, or that Keylime reads in another way.
    #[error("excludes has {expression:?}, which can't be used: {reason}")]
    Expression {
        /// The expression, cut to a line.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Regular expressions that together are too large.
    #[error("its excludes are too large together: they have more than {limit} {what}")]
    Excludes {
        /// What they have too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A hash that no IMA log is made with.
    #[error("its ima.log_hash_alg is {found:?}, which is none of sha1, sha256, sha384, sha512")]
    LogHash {
        /// The policy's.
        found: String,
    },
    /// A policy over device mapper events, which version 1 has no longer.
    #[error("its ima.dm_policy is not null, and events of the device mapper aren't evaluated")]
    DeviceMapper,
    /// The keys of file signatures.
    #[error("its verification-keys: {0}")]
    Keys(#[from] KeyringError),
    /// The envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// An envelope, and no key to check it with.
    #[error("it is signed, and no key was given to check the signature with")]
    NoKey,
    /// A key, and nothing that is signed.
    #[error("a key was given to check its signature with, and it isn't signed")]
    NotSigned,
}

/// What IMA may have measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimePolicy {
    /// Files by path; `boot_aggregate` is one of them.
    pub digests: Digests,
    /// Paths that aren't looked at.
    pub excludes: Excludes,
    /// Keyrings by name.
    pub keyrings: Digests,
    /// Keyrings whose keys aren't looked at.
    pub ignored_keyrings: Vec<String>,
    /// Other measured buffers by name.
    pub buffers: Digests,
    /// Keys that files may be signed by instead of being listed.
    pub verification_keys: Vec<FileKey>,
    /// The hash that a list's lines must be given with: IMA's own is SHA-1.
    ///
    /// Source: `ima.log_hash_alg`; Keylime takes no line whose template hash is another.
    pub log_hash: ListHash,
}

impl RuntimePolicy {
    /// Reads a policy, and checks its signature if there is one: an envelope needs a key, and a key needs an envelope.
    ///
    /// # Errors
    /// [`RuntimePolicyError`].
    ///
    /// # Cost
    /// Linear in the size, which is bounded by [`MAX_POLICY_BYTES`].
    pub fn read(bytes: &[u8], key: Option<&PolicyKey>) -> Result<Self, RuntimePolicyError> {
        Self::parse(&Self::open(bytes, key)?)
    }

    /// The JSON of a policy, out of its envelope if it is in one, after its signature was checked.
    ///
    /// # Errors
    /// [`RuntimePolicyError`].
    pub fn open<'a>(
        bytes: &'a [u8],
        key: Option<&PolicyKey>,
    ) -> Result<Cow<'a, [u8]>, RuntimePolicyError> {
        #[derive(Deserialize)]
        struct Shape {
            payload: Option<IgnoredAny>,
        }
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(RuntimePolicyError::TooLarge {
                have: bytes.len(),
                limit: MAX_POLICY_BYTES,
            });
        }
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        match (shape.payload, key) {
            (Some(_), Some(key)) => Ok(Cow::Owned(dsse::open(bytes, key)?)),
            (None, None) => Ok(Cow::Borrowed(bytes)),
            (Some(_), None) => Err(RuntimePolicyError::NoKey),
            (None, Some(_)) => Err(RuntimePolicyError::NotSigned),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, RuntimePolicyError> {
        let text: Text = serde_json::from_slice(bytes).map_err(json)?;
        text.meta.check()?;
        let log_hash = text.ima.log_hash()?;
        Ok(Self {
            digests: digests("digests", text.digests)?,
            excludes: Excludes::parse(text.excludes)?,
            keyrings: digests("keyrings", text.keyrings)?,
            ignored_keyrings: text.ima.ignored_keyrings,
            buffers: digests("ima-buf", text.buffers)?,
            verification_keys: keyring::parse(&text.verification_keys)?,
            log_hash,
        })
    }
}

#[derive(Deserialize)]
struct Text {
    meta: Meta,
    /// Must be there; it says nothing about what may be measured.
    #[serde(rename = "release")]
    _release: u64,
    digests: Pairs<Vec<String>>,
    excludes: Vec<String>,
    keyrings: Pairs<Vec<String>>,
    ima: Ima,
    #[serde(rename = "ima-buf")]
    buffers: Pairs<Vec<String>>,
    #[serde(rename = "verification-keys")]
    verification_keys: String,
}

#[derive(Deserialize)]
struct Meta {
    version: u64,
    generator: u64,
}

impl Meta {
    const fn check(&self) -> Result<(), RuntimePolicyError> {
        if self.version != VERSION {
            return Err(RuntimePolicyError::Version {
                found: self.version,
                known: VERSION,
            });
        }
        if self.generator > LAST_GENERATOR {
            return Err(RuntimePolicyError::Generator {
                found: self.generator,
                last: LAST_GENERATOR,
            });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Ima {
    ignored_keyrings: Vec<String>,
    log_hash_alg: String,
    dm_policy: Value,
}

impl Ima {
    fn log_hash(&self) -> Result<ListHash, RuntimePolicyError> {
        if !self.dm_policy.is_null() {
            return Err(RuntimePolicyError::DeviceMapper);
        }
        ListHash::from_name(&self.log_hash_alg).ok_or_else(|| RuntimePolicyError::LogHash {
            found: line(&self.log_hash_alg),
        })
    }
}

fn digests(part: &'static str, pairs: Pairs<Vec<String>>) -> Result<Digests, RuntimePolicyError> {
    let mut all = Digests::default();
    for (name, texts) in pairs.0 {
        if texts.is_empty() {
            let name = line(&name);
            return Err(RuntimePolicyError::NoDigest { part, name });
        }
        let listed = texts.iter().map(|text| {
            digest(text).ok_or_else(|| RuntimePolicyError::NotADigest {
                part,
                name: line(&name),
                value: line(text),
            })
        });
        let listed = listed.collect::<Result<Vec<_>, _>>()?;
        if !all.add(&name, &listed) {
            let name = line(&name);
            return Err(RuntimePolicyError::Twice { part, name });
        }
    }
    Ok(all)
}

/// Keylime compares texts, so that an uppercase digest would never match.
fn digest(text: &str) -> Option<Digest> {
    let lower = !text.bytes().any(|letter| letter.is_ascii_uppercase());
    from_hex(text).filter(|digest| lower && DIGEST_BYTES.contains(&digest.len()))
}

/// As much of a text as an error can quote.
fn line(text: &str) -> String {
    text.chars().take(MAX_QUOTED_CHARS).collect()
}

fn json(error: serde_json::Error) -> RuntimePolicyError {
    RuntimePolicyError::Json {
        reason: error.to_string(),
    }
}

/// A SHA-512 digest and a little more.
const MAX_QUOTED_CHARS: usize = 130;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;
