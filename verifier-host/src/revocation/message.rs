//! A revocation as it travels: a text, and a signature that receivers check with a certificate from their payload.
//!
//! Source: Keylime's `revocation_notifier`; RFC 8017 section 8.1 (RSASSA-PSS, SHA-256, MGF1 with SHA-256, the longest salt
//! that fits).

use agent_core::wire::text::Uuid;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::rngs::SysRng;
use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::rounds::progress::Failure;
use crate::rounds::terms::TermsText;

/// Why a key can't sign revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotifierKeyError {
    /// Not PEM of an RSA private key, PKCS#8 or PKCS#1.
    #[error("revocation_key is no PEM of an RSA private key (PKCS#8 or PKCS#1)")]
    NotRsa,
    /// A size that nobody should sign with, or that takes too long.
    #[error("revocation_key has {have} bits, {MIN_BITS} to {MAX_BITS} are accepted")]
    Size {
        /// Bits of its modulus.
        have: usize,
    },
    /// Signing failed: no random numbers, or a damaged key.
    #[error("signing with revocation_key failed")]
    Sign,
}

/// The key that signs revocations; the rsa crate wipes it on drop.
pub struct NotifierKey(PrivateKey);

/// What is POSTed to `/notifications/revocation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// JSON text, exactly as it was signed.
    pub msg: String,
    /// Base64 of the signature over the text's bytes; empty without a key.
    pub signature: String,
}

impl NotifierKey {
    /// Reads an RSA private key of 2048 to 4096 bits.
    ///
    /// # Errors
    /// Another text, another kind of key, another size.
    pub fn from_pem(pem: &str) -> Result<Self, NotifierKeyError> {
        let key = PrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| PrivateKey::from_pkcs1_pem(pem))
            .map_err(|_| NotifierKeyError::NotRsa)?;
        let bits = key.size() * 8;
        if (MIN_BITS..=MAX_BITS).contains(&bits) {
            Ok(Self(key))
        } else {
            Err(NotifierKeyError::Size { have: bits })
        }
    }

    /// Base64 of the signature over the text's bytes. Takes milliseconds.
    ///
    /// # Errors
    /// [`NotifierKeyError::Sign`].
    pub fn sign(self, msg: &str) -> Result<String, NotifierKeyError> {
        let salt_bytes = self.0.size() - SHA256_BYTES - 2;
        let key = SigningKey::<Sha256>::new_with_salt_len(self.0, salt_bytes);
        let signature = key
            .try_sign_with_rng(&mut SysRng, msg.as_bytes())
            .map_err(|_| NotifierKeyError::Sign)?;
        Ok(BASE64_STANDARD.encode(signature.to_bytes()))
    }
}

/// The message that says why a node is revoked, in Keylime's fields.
#[must_use]
pub fn text(id: &Uuid, terms: &TermsText, failure: &Failure, now: SystemTime) -> String {
    let event_time = OffsetDateTime::from(now)
        .format(ASCTIME)
        .unwrap_or_default();
    serde_json::json!({
        "type": "revocation",
        "ip": &terms.ip,
        "agent_id": id.as_str(),
        "port": terms.port,
        "tpm_policy": &terms.tpm_policy,
        "meta_data": &terms.metadata,
        "event_time": event_time,
        "event_id": &failure.event_id,
        "severity_label": "emergency",
        "context": failure.context.to_string(),
    })
    .to_string()
}

/// Python's `asctime`, in UTC.
const ASCTIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
);

const SHA256_BYTES: usize = 32;
const MIN_BITS: usize = 2048;
const MAX_BITS: usize = 4096;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use std::time::Duration;

    use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
    use rsa::pss::{Signature, VerifyingKey};
    use rsa::signature::Verifier as _;

    use super::*;

    #[test]
    fn signature_is_keylimes() {
        let key = PrivateKey::new(&mut SysRng, 2048).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let signature = NotifierKey::from_pem(&pem).unwrap().sign("text").unwrap();
        let signature = BASE64_STANDARD.decode(signature).unwrap();
        let signature = Signature::try_from(signature.as_slice()).unwrap();
        let verifying = VerifyingKey::<Sha256>::new_with_salt_len(key.to_public_key(), 222);
        assert!(verifying.verify(b"text", &signature).is_ok());
        assert!(verifying.verify(b"texT", &signature).is_err());
    }

    #[test]
    fn other_keys_are_refused() {
        for (name, pem) in [
            ("empty", ""),
            (
                "no key",
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            ),
        ] {
            let refused = NotifierKey::from_pem(pem).err();
            assert_eq!(refused, Some(NotifierKeyError::NotRsa), "{name}");
        }
    }

    #[test]
    fn text_has_keylimes_fields() {
        let id = Uuid::parse("node-1").unwrap();
        let terms = TermsText {
            ip: "127.0.0.1".into(),
            port: 9002,
            verifier_ip: "127.0.0.1".into(),
            verifier_port: 8881,
            tpm_policy: "{\"mask\": \"0x0\"}".into(),
            runtime_policy: None,
            mb_policy: None,
            metadata: "{\"cert_serial\": 2}".into(),
            accept_tpm_hash_algs: vec![],
            accept_tpm_encryption_algs: vec![],
            accept_tpm_signing_algs: vec![],
            ak_tpm: String::new(),
            mtls_cert: String::new(),
            supported_version: agent_core::wire::route::ApiVersion::NEWEST,
        };
        let failure = Failure {
            event_id: "pcr_validation.invalid_pcr_23".into(),
            reason: "words".into(),
            context: serde_json::json!({ "got": "00" }),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_439_756);
        let found: serde_json::Value =
            serde_json::from_str(&text(&id, &terms, &failure, now)).unwrap();
        let expected = serde_json::json!({
            "type": "revocation", "ip": "127.0.0.1", "agent_id": "node-1", "port": 9002,
            "tpm_policy": "{\"mask\": \"0x0\"}", "meta_data": "{\"cert_serial\": 2}",
            "event_time": "Mon Nov 23 13:15:56 2026", "event_id": "pcr_validation.invalid_pcr_23",
            "severity_label": "emergency", "context": "{\"got\":\"00\"}",
        });
        assert_eq!(found, expected);
    }
}
