//! The revocation notifier: the key whose certificate came with the payload, or that the operator has named.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use agent_core::revocation::VerifyError;
use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::pkcs8::der::asn1::AnyRef;
use rsa::pkcs8::der::{self, Decode, Encode, Reader, pem};
use rsa::pss::Pss;
use sha2::{Digest, Sha256};

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

    fn from_pem(text: &[u8]) -> Option<Self> {
        let ("CERTIFICATE", certificate) = pem::decode_vec(text).ok()? else {
            return None;
        };
        let certificate = AnyRef::from_der(&certificate).ok()?;
        let key = certificate.sequence(public_key).ok()?;
        PublicKey::from_public_key_der(&key).ok().map(Self)
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

/// The `SubjectPublicKeyInfo` inside a certificate. Nothing else of it counts: the certificate proves nothing, it only carries
/// the key.
///
/// Source: RFC 5280 section 4.1.
fn public_key<'a>(certificate: &mut impl Reader<'a>) -> der::Result<Vec<u8>> {
    let signed = AnyRef::decode(certificate)?;
    let _algorithm = AnyRef::decode(certificate)?;
    let _signature = AnyRef::decode(certificate)?;
    signed.sequence(|fields| {
        // The version may be missing. Then serial number, algorithm, issuer, validity, subject.
        let before = if fields.peek_byte() == Some(EXPLICIT_0) {
            6
        } else {
            5
        };
        for _ in 0..before {
            AnyRef::decode(fields)?;
        }
        let key = AnyRef::decode(fields)?;
        while !fields.is_finished() {
            AnyRef::decode(fields)?;
        }
        key.to_der()
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?
        .take(MAX_PEM_BYTES)
        .read_to_end(&mut pem)?;
    Ok(pem)
}

/// The tag of `[0] EXPLICIT`.
const EXPLICIT_0: u8 = 0xA0;

/// Room for a certificate in PEM.
const MAX_PEM_BYTES: u64 = 64 * 1024;
