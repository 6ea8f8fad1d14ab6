//! `verification-keys`: JSON text inside the policy's JSON, with the keys that IMA's file signatures may be by.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use thiserror::Error;

/// A key that files may be signed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationKey {
    /// The identifier that signatures name it by; `None` if it is to be computed from the key.
    pub id: Option<u32>,
    /// Its `SubjectPublicKeyInfo` in DER; not parsed.
    pub der: Vec<u8>,
}

/// Why the keys can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Not the JSON of a keyring.
    #[error("no keyring in JSON: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// More identifiers than keys.
    #[error("{ids} keyids and {keys} pubkeys; a keyid without its key means nothing")]
    Lengths {
        /// Number of `keyids`.
        ids: usize,
        /// Number of `pubkeys`.
        keys: usize,
    },
    /// Not base64.
    #[error("pubkeys[{index}] is not base64")]
    Base64 {
        /// Which key.
        index: usize,
    },
}

/// Reads the text; an empty one has no keys.
///
/// Source: `ImaKeyring.to_string` in Keylime's `ima/file_signatures.py`.
pub(super) fn parse(text: &str) -> Result<Vec<VerificationKey>, KeyringError> {
    #[derive(Deserialize)]
    struct Keyring {
        keyids: Vec<u32>,
        pubkeys: Vec<String>,
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let keyring: Keyring = serde_json::from_str(text).map_err(|error| KeyringError::Json {
        reason: error.to_string(),
    })?;
    let (ids, keys) = (keyring.keyids.len(), keyring.pubkeys.len());
    if ids > keys {
        return Err(KeyringError::Lengths { ids, keys });
    }
    let ids = keyring.keyids.into_iter().map(Some);
    let ids = ids.chain(std::iter::repeat(None));
    let keys = keyring.pubkeys.iter().zip(ids).enumerate();
    keys.map(|(index, (text, id))| {
        let der = BASE64_STANDARD.decode(text);
        der.map(|der| VerificationKey { id, der })
            .map_err(|_| KeyringError::Base64 { index })
    })
    .collect()
}
