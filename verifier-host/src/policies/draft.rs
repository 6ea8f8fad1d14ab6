//! A policy as a tenant sends it: read and checked as a whole before anything is kept of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Kept, PolicyDigest, Ready};
use crate::policy::PolicyKind;
use crate::policy::measured_boot::{MeasuredBootPolicy, MeasuredBootPolicyError};
use crate::policy::runtime::{KeyError, PolicyKey, RuntimePolicy, RuntimePolicyError};

/// A policy that may be kept.
#[derive(Debug)]
pub struct Draft {
    /// What is written to the database.
    pub text: Text,
    /// What rounds look up.
    pub ready: Ready,
}

/// A policy's own text: without the envelope that it may have come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its kind.
    pub kind: PolicyKind,
    /// SHA-256 of the bytes.
    pub digest: PolicyDigest,
    /// JSON.
    pub bytes: Vec<u8>,
}

/// Why a policy isn't kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The runtime policy.
    #[error("the runtime policy can't be used: {0}")]
    Runtime(#[from] RuntimePolicyError),
    /// The measured-boot policy.
    #[error("the measured-boot policy can't be used: {0}")]
    MeasuredBoot(#[from] MeasuredBootPolicyError),
    /// What should be base64 isn't.
    #[error("{field} is not base64")]
    Base64 {
        /// The field.
        field: &'static str,
    },
    /// The key that a signed policy is to be checked with.
    #[error("runtime_policy_key: {0}")]
    Key(#[from] KeyError),
}

impl DraftError {
    /// Whether it is the signature that doesn't hold, or isn't there where it must be.
    #[must_use]
    pub const fn is_signature(&self) -> bool {
        use RuntimePolicyError::{Envelope, NoKey, NotSigned};
        matches!(self, Self::Runtime(Envelope(_) | NoKey | NotSigned))
    }
}

impl Draft {
    /// A runtime policy as it travels: base64, and base64 of the PEM text of the key that must have signed it, if there is one.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn runtime(policy: &str, key: Option<&str>) -> Result<Self, DraftError> {
        let decode = |field, text: &str| {
            let decoded = BASE64_STANDARD.decode(text);
            decoded.map_err(|_| DraftError::Base64 { field })
        };
        let key = match key.filter(|key| !key.is_empty()) {
            Some(key) => Some(PolicyKey::from_pem(&decode("runtime_policy_key", key)?)?),
            None => None,
        };
        let bytes = decode("runtime_policy", policy)?;
        Self::parse(PolicyKind::Runtime, bytes, key.as_ref())
    }

    /// The same runtime policy with these keys of file signatures (JSON text) instead of its own; Keylime's older way to give
    /// them.
    ///
    /// # Errors
    /// [`DraftError`]: the keys aren't any.
    pub fn with_keys(self, keys: Option<&str>) -> Result<Self, DraftError> {
        let Some(keys) = keys else {
            return Ok(self);
        };
        let json = |error: serde_json::Error| RuntimePolicyError::Json {
            reason: error.to_string(),
        };
        let mut policy: Map<String, Value> =
            serde_json::from_slice(&self.text.bytes).map_err(json)?;
        policy.insert("verification-keys".to_owned(), keys.into());
        let bytes = serde_json::to_vec(&policy).map_err(json)?;
        Self::parse(PolicyKind::Runtime, bytes, None)
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn parse(
        kind: PolicyKind,
        bytes: Vec<u8>,
        key: Option<&PolicyKey>,
    ) -> Result<Self, DraftError> {
        let bytes = match kind {
            PolicyKind::Runtime => RuntimePolicy::open(&bytes, key)?.into_owned(),
            PolicyKind::MeasuredBoot => bytes,
        };
        let digest = Sha256::digest(&bytes).into();
        let ready = match kind {
            PolicyKind::Runtime => {
                let policy = RuntimePolicy::read(&bytes, None)?;
                Ready::Runtime(Arc::new(Kept { digest, policy }))
            }
            PolicyKind::MeasuredBoot => {
                let policy = MeasuredBootPolicy::read(&bytes)?;
                Ready::MeasuredBoot(Arc::new(Kept { digest, policy }))
            }
        };
        let text = Text {
            kind,
            digest,
            bytes,
        };
        Ok(Self { text, ready })
    }
}
