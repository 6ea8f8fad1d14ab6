//! The revocation notifier: the key whose certificate came with the payload.

use std::fs::File;
use std::io::Read;
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
    /// The notifier whose certificate lies in an unpacked payload; a payload without one, or with one that can't be read,
    /// names none.
    #[must_use]
    pub fn of_payload(unzipped: &Path) -> Option<Self> {
        let path = unzipped.join(CERTIFICATE_FILE);
        let mut pem = Vec::new();
        let file = File::open(&path).ok()?;
        file.take(MAX_PEM_BYTES).read_to_end(&mut pem).ok()?;
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

/// Room for a certificate in PEM.
const MAX_PEM_BYTES: u64 = 64 * 1024;
