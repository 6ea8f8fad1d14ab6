//! The key that a policy is signed by: an ECDSA public key that the operator names, or the certificate of one.
//!
//! A certificate is the key's wrapping here: who is trusted is decided by naming the file, so neither its dates nor its issuer
//! are looked at.

use std::fmt;

use p256::pkcs8::der::pem::{LineEnding, encode_string};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};
use thiserror::Error;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, Oid};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// Curves, and what they are called in the algorithms of TLS.
const CURVES: [(Oid<'static>, AlgorithmIdentifier); 2] = [
    (OID_EC_P256, alg_id::ECDSA_P256),
    (OID_NIST_EC_P384, alg_id::ECDSA_P384),
];

/// Why a key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PEM.
    #[error("no PEM of a public key or a certificate: {reason}")]
    Pem {
        /// What the parser said.
        reason: String,
    },
    /// PEM of something else.
    #[error("PEM of {found}; PUBLIC KEY or CERTIFICATE is needed")]
    Kind {
        /// What it is of.
        found: String,
    },
    /// The key's or the certificate's structure.
    #[error("a key or certificate that can't be parsed")]
    Der,
    /// Another algorithm.
    #[error("a key of the algorithm {found}; ECDSA on P-256 or P-384 is needed")]
    Algorithm {
        /// Object identifier of the algorithm, or of the curve.
        found: String,
    },
}

/// A public key for ECDSA with SHA-256, on P-256 or P-384.
///
/// Source: Keylime signs policies with SHA-256 whatever the curve (`dsse/ecdsa.py`).
#[derive(Clone)]
pub struct PolicyKey {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    point: Vec<u8>,
    pem: String,
}

impl PolicyKey {
    /// Reads the first PEM section: a public key or a certificate.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let (kind, der) =
            <(SectionKind, Vec<u8>)>::from_pem_slice(pem).map_err(|error| KeyError::Pem {
                reason: error.to_string(),
            })?;
        match kind {
            SectionKind::PublicKey => Self::from_der(&der),
            SectionKind::Certificate => {
                let (_, certificate) =
                    X509Certificate::from_der(&der).map_err(|_| KeyError::Der)?;
                Self::from_der(certificate.public_key().raw)
            }
            other => Err(KeyError::Kind {
                found: format!("{other:?}"),
            }),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, key) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Der)?;
        if !rest.is_empty() {
            return Err(KeyError::Der);
        }
        let algorithm = &key.algorithm;
        let curve = algorithm
            .parameters
            .as_ref()
            .filter(|_| algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY)
            .and_then(|parameters| parameters.as_oid().ok());
        let unknown = || KeyError::Algorithm {
            found: curve.as_ref().unwrap_or(&algorithm.algorithm).to_string(),
        };
        let (_, name) = CURVES
            .into_iter()
            .find(|(oid, _)| curve.as_ref() == Some(oid))
            .ok_or_else(unknown)?;
        Ok(Self {
            algorithm: ecdsa_with_sha256(name).ok_or_else(unknown)?,
            point: key.subject_public_key.data.to_vec(),
            pem: encode_string("PUBLIC KEY", LineEnding::LF, der).map_err(|_| KeyError::Der)?,
        })
    }

    /// The public key alone in PEM, as Keylime's verifier reads it: it takes no certificates.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether a signature in DER is this key's over a message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.algorithm
            .verify_signature(&self.point, message, signature)
            .is_ok()
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pem)
    }
}

/// The implementation that TLS uses too.
fn ecdsa_with_sha256(
    curve: AlgorithmIdentifier,
) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    let provider = rustls::crypto::ring::default_provider();
    let all = provider.signature_verification_algorithms.all;
    let wanted = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
        algorithm.public_key_alg_id() == curve
            && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
    };
    all.iter().find(wanted).copied()
}
