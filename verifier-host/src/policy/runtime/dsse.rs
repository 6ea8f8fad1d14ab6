//! A signed policy: a DSSE envelope around its JSON.
//!
//! Nothing of the payload is looked at before a signature over it has verified with the key that was given. Names of keys in
//! the envelope mean nothing: whoever made it wrote them, certificates included.
//!
//! Source: DSSE v1.0.2, protocol.md and envelope.md; the payload's type as in Keylime's `keylime-policy sign`.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde::Deserialize;
use thiserror::Error;

use super::key::PolicyKey;

/// What Keylime's tools say a signed policy is.
const PAYLOAD_TYPE: &str = "application/vnd.keylime+json";

/// The most signatures that are tried.
const MAX_SIGNATURES: usize = 16;

/// Why an envelope isn't believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not the JSON of an envelope.
    #[error("it is no DSSE envelope in JSON: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// Something else was signed.
    #[error("its payloadType is {found:?}, and a policy's is {wanted:?}")]
    Type {
        /// The envelope's.
        found: String,
        /// A policy's.
        wanted: &'static str,
    },
    /// No base64.
    #[error("its {field} is not base64")]
    Base64 {
        /// Which field.
        field: &'static str,
    },
    /// No signature, or more than are tried.
    #[error("it has {have} signatures, and 1 to {limit} are taken")]
    Signatures {
        /// How many it has.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// None of the signatures is by the key.
    #[error(
        "none of its {tried} signatures is by the given key: it was changed, or signed by somebody else"
    )]
    Untrusted {
        /// How many there are.
        tried: usize,
    },
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// The payload of an envelope that has a signature by the key.
pub(super) fn open(bytes: &[u8], key: &PolicyKey) -> Result<Vec<u8>, EnvelopeError> {
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Json {
            reason: error.to_string(),
        })?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(EnvelopeError::Type {
            found: super::line(&envelope.payload_type),
            wanted: PAYLOAD_TYPE,
        });
    }
    let have = envelope.signatures.len();
    if !(1..=MAX_SIGNATURES).contains(&have) {
        let limit = MAX_SIGNATURES;
        return Err(EnvelopeError::Signatures { have, limit });
    }
    let payload = decode("payload", &envelope.payload)?;
    let message = signed_message(&payload);
    for signature in &envelope.signatures {
        if key.verifies(&message, &decode("sig", &signature.sig)?) {
            return Ok(payload);
        }
    }
    Err(EnvelopeError::Untrusted { tried: have })
}

/// What is signed: type and payload, each with its length.
fn signed_message(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// Either alphabet, as the standard asks for.
fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_URL_SAFE.decode(text))
        .map_err(|_| EnvelopeError::Base64 { field })
}
