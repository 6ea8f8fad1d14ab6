//! Signing runtime policies as Keylime does: a DSSE envelope, ECDSA P-256 with SHA-256.
//!
//! Source: DSSE v1.0.2, protocol.md and envelope.md; names of keys as in Keylime's `dsse/ecdsa.py` and `dsse/x509.py`.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::SecretKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use verifier_host::policy::runtime::PolicyKey;
use zeroize::Zeroizing;

use super::sha256;
use super::tool::{ToolError, read_bounded, write};

/// What Keylime's tools say a signed policy is.
const PAYLOAD_TYPE: &str = "application/vnd.keylime+json";

/// The subject of a certificate that is only a key's wrapping.
const SUBJECT: &str = "policy signer";

/// How long such a certificate is valid. Nobody who checks a policy by it looks at its dates; tools that show it do.
const VALID: Duration = Duration::days(3650);

/// The largest key file.
const MAX_KEY_BYTES: usize = 64 << 10;

/// Why nothing can be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Not a key.
    #[error(
        "it is no private key for ECDSA P-256 in PEM (EC PRIVATE KEY, or PRIVATE KEY that isn't encrypted)"
    )]
    Key,
    /// The certificate is another key's.
    #[error("the certificate has another public key")]
    OtherCertificate,
    /// The system, or a library, can't.
    #[error("{0}")]
    Library(String),
}

/// How the envelope names the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// By its hash.
    Key,
    /// By a certificate, PEM.
    Certificate(String),
}

/// A private key that signs policies.
pub struct PolicySigner {
    key: SecretKey,
}

impl fmt::Debug for PolicySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicySigner")
    }
}

impl PolicySigner {
    /// Makes a key.
    ///
    /// # Errors
    /// [`SignError::Library`] if there are no random numbers.
    pub fn generate() -> Result<Self, SignError> {
        let key = SecretKey::try_generate().map_err(library)?;
        Ok(Self { key })
    }

    /// Reads a key, as OpenSSL and Keylime write it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn read(path: &Path) -> Result<Self, ToolError> {
        let refused = || ToolError::Sign {
            path: path.to_owned(),
            source: SignError::Key,
        };
        let pem = Zeroizing::new(read_bounded(path, MAX_KEY_BYTES)?);
        let text = std::str::from_utf8(&pem).map_err(|_| refused())?;
        // OpenSSL writes the curve's parameters before the key.
        let key = text
            .find("-----BEGIN EC PRIVATE KEY")
            .map_or(text, |start| text.get(start..).unwrap_or(text));
        let key = SecretKey::from_pem(key.trim()).map_err(|_| refused())?;
        Ok(Self { key })
    }

    /// Writes the key, readable by its owner alone, where there is no file of that name.
    ///
    /// # Errors
    /// [`ToolError::KeyExists`], [`ToolError::Write`].
    pub fn write_new(&self, path: &Path) -> Result<(), ToolError> {
        let pem = self
            .key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| ToolError::Sign {
                path: path.to_owned(),
                source: library(error),
            })?;
        let written = write::write_whole(path, 0o600, false, &|out| out.write_all(pem.as_bytes()));
        written.map_err(|error| match error {
            ToolError::Exists { path } => ToolError::KeyExists { path },
            error => error,
        })
    }

    /// The public key, PEM.
    ///
    /// # Errors
    /// [`SignError::Library`].
    pub fn public_pem(&self) -> Result<String, SignError> {
        self.key
            .public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(library)
    }

    /// A certificate for the key, signed by itself, PEM.
    ///
    /// # Errors
    /// [`SignError::Library`].
    pub fn certificate(&self) -> Result<String, SignError> {
        let der = self.key.to_pkcs8_der().map_err(library)?;
        let der = PrivatePkcs8KeyDer::from(der.as_bytes());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, SUBJECT);
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(1);
        params.not_after = now + VALID;
        params.is_ca = IsCa::ExplicitNoCa;
        let certificate = params
            .self_signed(&pair.map_err(library)?)
            .map_err(library)?;
        Ok(certificate.pem())
    }

    /// Signs a policy. Whoever calls has checked that it is one.
    ///
    /// # Errors
    /// [`SignError::OtherCertificate`] if the key is named by another key's certificate.
    pub fn sign(&self, policy: &[u8], name: &KeyName) -> Result<String, SignError> {
        let public = self.public_pem()?;
        let name = match name {
            KeyName::Key => sha256(&public),
            KeyName::Certificate(pem) => {
                let certified = PolicyKey::from_pem(pem.as_bytes()).map_err(library)?;
                if certified.pem() != public {
                    return Err(SignError::OtherCertificate);
                }
                BASE64_STANDARD.encode(pem)
            }
        };
        let head = format!(
            "DSSEv1 {} {PAYLOAD_TYPE} {} ",
            PAYLOAD_TYPE.len(),
            policy.len()
        );
        let message = [head.as_bytes(), policy].concat();
        let signature: DerSignature = SigningKey::from(&self.key).sign(&message);
        let envelope = json!({
            "payload": BASE64_STANDARD.encode(policy),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "keyid": name, "sig": BASE64_STANDARD.encode(signature.as_bytes()) }],
        });
        Ok(envelope.to_string())
    }
}

fn library(error: impl fmt::Display) -> SignError {
    SignError::Library(error.to_string())
}

#[cfg(test)]
mod tests;
