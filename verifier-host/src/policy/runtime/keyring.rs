//! `verification-keys`: JSON text inside the policy's JSON, with the keys that IMA's file signatures may be by.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use thiserror::Error;

use crate::evidence::ima::{FileKey, FileKeyError};

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
    /// Not a key.
    #[error("pubkeys[{index}] is no key: {reason}")]
    Key {
        /// Which key.
        index: usize,
        /// Why not.
        reason: FileKeyError,
    },
}

/// Reads the text; an empty one has no keys. An identifier that is missing or 0 is computed from its key.
///
/// Source: `ImaKeyring` in Keylime's `ima/file_signatures.py`.
pub(super) fn parse(text: &str) -> Result<Vec<FileKey>, KeyringError> {
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
    let ids = keyring.keyids.into_iter().chain(std::iter::repeat(0));
    let keys = keyring.pubkeys.iter().zip(ids).enumerate();
    keys.map(|(index, (text, id))| {
        let der = BASE64_STANDARD.decode(text);
        let der = der.map_err(|_| KeyringError::Base64 { index })?;
        let key = FileKey::from_der(&der);
        let key = key.map_err(|reason| KeyringError::Key { index, reason })?;
        Ok(if id == 0 { key } else { key.with_id(id) })
    })
    .collect()
}
