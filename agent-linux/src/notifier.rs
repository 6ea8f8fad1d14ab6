//! The revocation notifier: the key whose certificate came with the payload, or that the operator has named.

use std::io::ErrorKind;
use std::path::Path;

use agent_core::revocation::VerifyError;
use agent_core::wire::text::Hex;
use rsa::pss::Pss;
use rsa::{BoxedUint, PublicKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::crl::{Certificate, MAX_CERTIFICATE_BYTES};
use crate::files;

/// The file of a payload that holds the notifier's certificate.
///
/// Source: Keylime's `--cert` package.
pub const CERTIFICATE_FILE: &str = "RevocationNotifier-cert.crt";

/// A notifier's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifier {
    key: PublicKey,
    name: String,
}

impl Notifier {
    /// The notifier whose certificate lies in an unpacked payload, or where the operator says: a relative path is one inside
    /// the payload. Without a certificate, or with one that can't be read, there is none.
    #[must_use]
    pub fn of_payload(unzipped: &Path, configured: Option<&Path>) -> Option<Self> {
        let path = unzipped.join(configured.unwrap_or(CERTIFICATE_FILE.as_ref()));
        let pem = match files::read(&path, MAX_CERTIFICATE_BYTES) {
            Ok(pem) => pem,
            Err(error) => {
                // A payload needs none.
                if configured.is_some() || error.kind() != ErrorKind::NotFound {
                    let path = path.display();
                    log::warn!("{path} can't be read: {error}; revocation notices will be refused");
                }
                return None;
            }
        };
        let notifier = Self::from_pem(&pem);
        if notifier.is_none() {
            log::warn!(
                "{} is no RSA certificate: revocation notices will be refused",
                path.display()
            );
        }
        notifier
    }

    fn from_pem(text: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(text).ok()?;
        // Nothing else of it counts: the certificate proves nothing, it only carries the key.
        let certificate = Certificate::read(&certificate)?;
        let name = Hex(&Sha256::digest(certificate.key_info())).to_string();
        let [modulus, exponent] = certificate.rsa_key()?;
        let number = BoxedUint::from_be_slice_vartime;
        let key = PublicKey::new(number(modulus), number(exponent)).ok()?;
        Some(Self { key, name })
    }

    /// The hex of SHA-256 of the key's `SubjectPublicKeyInfo` in DER: what logs are named after.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks RSA-PSS with SHA-256, MGF1-SHA-256 and a salt of any length: Keylime takes the longest.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let padding = Pss::<Sha256> {
            salt_len: None,
            ..Pss::new()
        };
        self.key
            .verify(padding, &Sha256::digest(message), signature)
            .map_err(|_| VerifyError::Mismatch)
    }
}
