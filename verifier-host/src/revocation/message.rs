//! A revocation as it travels: a text, and a signature that receivers check with a certificate from their payload.
//!
//! Source: Keylime's `revocation_notifier`; RFC 8017 section 8.1 (RSASSA-PSS, SHA-256, MGF1 with SHA-256, the longest salt
//! that fits).

use std::time::SystemTime;

use agent_core::wire::text::{Hex, Uuid};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::rngs::SysRng;
use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::anchor::AnchorName;
use super::told::MAX_REASON_CHARS;
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
pub struct NotifierKey(SigningKey<Sha256>);

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
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return Err(NotifierKeyError::Size { have: bits });
        }
        let salt_bytes = key.size() - SHA256_BYTES - 2;
        Ok(Self(SigningKey::new_with_salt_len(key, salt_bytes)))
    }

    /// The name of the anchor that checks what this key signs.
    ///
    /// # Errors
    /// [`NotifierKeyError::NotRsa`]: its public half can't be written.
    pub fn anchor(&self) -> Result<AnchorName, NotifierKeyError> {
        let public = self.0.as_ref().to_public_key().to_public_key_der();
        let public = public.map_err(|_| NotifierKeyError::NotRsa)?;
        Ok(AnchorName::of(public.as_bytes()))
    }

    /// Base64 of the signature over the text's bytes. Takes milliseconds.
    ///
    /// # Errors
    /// [`NotifierKeyError::Sign`].
    pub fn sign(&self, msg: &str) -> Result<String, NotifierKeyError> {
        let signature = self
            .0
            .try_sign_with_rng(&mut SysRng, msg.as_bytes())
            .map_err(|_| NotifierKeyError::Sign)?;
        Ok(BASE64_STANDARD.encode(signature.to_bytes()))
    }
}

/// What a message says of the node that it is about.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The node.
    pub id: &'a Uuid,
    /// What the tenant said of it.
    pub terms: &'a TermsText,
    /// Why it is revoked.
    pub failure: &'a Failure,
}

/// Where an entry stands in its log.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The log.
    pub log_id: &'a str,
    /// From 1.
    pub number: u64,
    /// Hex of the SHA-256 of the `msg` before.
    pub previous: &'a str,
}

/// What an entry says besides its place.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// The node; none for a list alone.
    pub subject: Option<Subject<'a>>,
    /// Why, in one sentence.
    pub reason: &'a str,
    /// Decimal text of the serial of the node's certificate.
    pub cert_serial: Option<&'a str>,
    /// A revocation list that comes with it.
    pub list: Option<Carried<'a>>,
    /// When.
    pub now: SystemTime,
}

/// A revocation list in an entry.
#[derive(Clone, Copy)]
pub struct Carried<'a> {
    /// Its DER.
    pub der: &'a [u8],
    /// The DER of the certificate that signed it, if that isn't the CA's own.
    pub issuer: Option<&'a [u8]>,
}

/// The message that says why a node is revoked, in Keylime's fields: unnumbered, for those who know no logs.
#[must_use]
pub fn text(subject: Subject<'_>, now: SystemTime) -> String {
    Value::Object(keylimes(subject, now)).to_string()
}

/// The text of an entry, at most [`MAX_MSG_BYTES`]: what would make it longer is left out, Keylime's members first.
#[must_use]
pub fn entry(place: Place<'_>, words: Words<'_>) -> String {
    let mut members = match words.subject {
        Some(subject) => keylimes(subject, words.now),
        None => list_members(words.now),
    };
    let time = OffsetDateTime::from(words.now).replace_nanosecond(0);
    let time = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("log_id", place.log_id.into());
    put("number", place.number.into());
    put("previous", place.previous.into());
    put("time", time.unwrap_or_default().into());
    put("reason", words.reason.into());
    if let Some(serial) = words.cert_serial {
        put("cert_serial", serial.into());
    }
    if let Some(list) = words.list.filter(|list| list.der.len() <= MAX_LIST_BYTES) {
        put("crl", BASE64_STANDARD.encode(list.der).into());
        if let Some(issuer) = list.issuer {
            put("crl_issuer", BASE64_STANDARD.encode(issuer).into());
        }
    }
    fitting(members)
}

/// Leaves out what makes the text too long, the least needed first.
fn fitting(mut members: Map<String, Value>) -> String {
    let mut droppable = [
        &["tpm_policy"][..],
        &["context"],
        &["meta_data"],
        &["crl", "crl_issuer"],
    ]
    .into_iter();
    loop {
        let text = Value::Object(members.clone()).to_string();
        if text.len() <= MAX_MSG_BYTES {
            return text;
        }
        let Some(names) = droppable.next() else {
            // What is left is bounded, and far shorter.
            return text;
        };
        for name in names {
            if name.starts_with("crl") {
                members.remove(*name);
            } else if let Some(value) = members.get_mut(*name) {
                *value = "{}".into();
            }
        }
    }
}

fn keylimes(subject: Subject<'_>, now: SystemTime) -> Map<String, Value> {
    let Subject { id, terms, failure } = subject;
    let members = json!({
        "type": "revocation",
        "ip": &terms.ip,
        "agent_id": id.as_str(),
        "port": terms.port,
        "tpm_policy": &terms.tpm_policy,
        "meta_data": &terms.metadata,
        "event_time": asctime(now),
        "event_id": &failure.event_id,
        "severity_label": "emergency",
        "context": failure.context.to_string(),
    });
    object(members)
}

/// Keylime's members of a message that is about no node.
fn list_members(now: SystemTime) -> Map<String, Value> {
    object(json!({
        "type": "crl",
        "event_time": asctime(now),
        "event_id": "operator.crl",
        "severity_label": "info",
        "context": "{}",
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn asctime(now: SystemTime) -> String {
    OffsetDateTime::from(now)
        .format(ASCTIME)
        .unwrap_or_default()
}

/// One sentence of at most [`MAX_REASON_CHARS`] printable characters.
#[must_use]
pub fn sentence(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    text.chars().map(shown).take(MAX_REASON_CHARS).collect()
}

/// Hex of the SHA-256 of a `msg`, which the next entry has as its `previous`.
#[must_use]
pub fn digest(msg: &str) -> String {
    Hex(&Sha256::digest(msg.as_bytes())).to_string()
}

/// The `previous` of number 1.
pub const NO_PREVIOUS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest text of an entry.
pub const MAX_MSG_BYTES: usize = 32_768;

/// The largest revocation list that travels in an entry.
pub const MAX_LIST_BYTES: usize = 20_480;

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
            context: json!({ "got": "00" }),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_439_756);
        let subject = Subject {
            id: &id,
            terms: &terms,
            failure: &failure,
        };
        let found: Value = serde_json::from_str(&text(subject, now)).unwrap();
        let expected = json!({
            "type": "revocation", "ip": "127.0.0.1", "agent_id": "node-1", "port": 9002,
            "tpm_policy": "{\"mask\": \"0x0\"}", "meta_data": "{\"cert_serial\": 2}",
            "event_time": "Mon Nov 23 13:15:56 2026", "event_id": "pcr_validation.invalid_pcr_23",
            "severity_label": "emergency", "context": "{\"got\":\"00\"}",
        });
        assert_eq!(found, expected);

        let place = Place {
            log_id: "log",
            number: 7,
            previous: NO_PREVIOUS,
        };
        let list = Carried {
            der: &[1, 2, 3],
            issuer: Some(&[4, 5, 6]),
        };
        let words = Words {
            subject: Some(subject),
            reason: "words",
            cert_serial: Some("2"),
            list: Some(list),
            now,
        };
        let found: Value = serde_json::from_str(&entry(place, words)).unwrap();
        let mut numbered = expected.clone();
        for (name, value) in [
            ("log_id", json!("log")),
            ("number", json!(7)),
            ("previous", json!(NO_PREVIOUS)),
            ("time", json!("2026-11-23T13:15:56Z")),
            ("reason", json!("words")),
            ("cert_serial", json!("2")),
            ("crl", json!("AQID")),
            ("crl_issuer", json!("BAUG")),
        ] {
            numbered[name] = value;
        }
        assert_eq!(found, numbered);

        // What is too long goes, in this order, and the rest stays.
        for (name, policy, context, der, lost) in [
            ("nothing", 10, 10, 10, &[][..]),
            ("a long policy", 40_000, 10, 20_000, &["tpm_policy"]),
            (
                "a long context",
                10,
                40_000,
                20_000,
                &["tpm_policy", "context"],
            ),
            (
                "a list that doesn't travel",
                10,
                10,
                MAX_LIST_BYTES + 1,
                &["crl"],
            ),
        ] {
            let terms = TermsText {
                tpm_policy: "p".repeat(policy),
                ..terms.clone()
            };
            let failure = Failure {
                context: json!("c".repeat(context)),
                ..failure.clone()
            };
            let der = vec![7; der];
            let words = Words {
                subject: Some(Subject {
                    id: &id,
                    terms: &terms,
                    failure: &failure,
                }),
                list: Some(Carried {
                    der: &der,
                    issuer: None,
                }),
                ..words
            };
            let msg = entry(place, words);
            assert!(msg.len() <= MAX_MSG_BYTES, "{name}");
            let found: Value = serde_json::from_str(&msg).unwrap();
            for member in ["tpm_policy", "context", "crl"] {
                let there = !matches!(found[member].as_str(), None | Some("{}"));
                assert_eq!(there, !lost.contains(&member), "{name}: {member}");
            }
        }
    }
}
