//! The revocation notifier: the key whose certificate came with the payload, or that the operator has named.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use agent_core::revocation::VerifyError;
use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::pss::Pss;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode};

/// The file of a payload that holds the notifier's certificate.
///
/// Source: Keylime's `--cert` package.
pub const CERTIFICATE_FILE: &str = "RevocationNotifier-cert.crt";

/// A notifier's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifier(PublicKey);

impl Notifier {
    /// The notifier whose certificate lies in an unpacked payload, or where the operator says: a relative path is one inside
    /// the payload. Without a certificate, or with one that can't be read, there is none.
    #[must_use]
    pub fn of_payload(unzipped: &Path, configured: Option<&Path>) -> Option<Self> {
        let path = unzipped.join(configured.unwrap_or(CERTIFICATE_FILE.as_ref()));
        let pem = match read(&path) {
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

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_pem(pem).ok()?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        PublicKey::from_public_key_der(&key.to_der().ok()?)
            .ok()
            .map(Self)
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
        self.0
            .verify(padding, &Sha256::digest(message), signature)
            .map_err(|_| VerifyError::Mismatch)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?
        .take(MAX_PEM_BYTES)
        .read_to_end(&mut pem)?;
    Ok(pem)
}

/// Room for a certificate in PEM.
const MAX_PEM_BYTES: u64 = 64 * 1024;
