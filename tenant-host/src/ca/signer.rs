//! The key that manifests are signed with: a leaf of the CA that agents pin, made when it is first needed.
//!
//! Agents hold its certificate or the hash of that, so it is never renewed by itself: another one would lock every node out. A
//! pinned certificate isn't asked for its dates.

use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{CaDirectory, CaError, Passphrase, exists, issue, keyfile, names, read_text};

/// Signs manifests.
pub struct PayloadSigner {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl PayloadSigner {
    /// The certificate that agents pin, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the certificate: what an agent may hold in its place.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Signs: ECDSA P-256 with SHA-256, DER.
    ///
    /// # Errors
    /// [`CaError::Issue`] if there are no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CaError> {
        Ok(self.key.sign(message)?)
    }

    /// Whether this key signed the message.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        is_signed_by(&self.certificate, message, signature)
    }
}

/// Whether the key of this certificate (DER) signed the message.
#[must_use]
pub fn is_signed_by(certificate: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let certificate = CertificateDer::from(certificate);
    let Ok(leaf) = webpki::EndEntityCert::try_from(&certificate) else {
        return false;
    };
    leaf.verify_signature(webpki::ring::ECDSA_P256_SHA256, message, signature)
        .is_ok()
}

impl CaDirectory {
    /// Where the certificate of the CA's payload signer is, once there is one.
    #[must_use]
    pub fn signer_certificate(&self) -> std::path::PathBuf {
        self.path().join(names::SIGNER_CERT)
    }

    /// The CA's payload signer, made if there is none.
    ///
    /// # Errors
    /// [`CaError`]: what is there can't be used, and stays as it is.
    pub fn payload_signer(
        &self,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<PayloadSigner, CaError> {
        let certificate_path = self.path().join(names::SIGNER_CERT);
        let private_path = self.path().join(names::SIGNER_PRIVATE);
        match (exists(&certificate_path)?, exists(&private_path)?) {
            (false, false) => {
                self.make_signer(&certificate_path, &private_path, passphrase, now)?
            }
            (true, true) => {}
            (false, true) => return Err(half(&private_path, names::SIGNER_CERT)),
            (true, false) => return Err(half(&certificate_path, names::SIGNER_PRIVATE)),
        }
        let pem = read_text(&certificate_path)?;
        let key = super::signing_key(
            &private_path,
            keyfile::read_private(&private_path, passphrase)?.as_bytes(),
        )?;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::key(&private_path, "isn't an ECDSA P-256 key"));
        }
        super::with_certificate(&certificate_path, &pem, |certificate| {
            if certificate.public_key().raw == super::spki(&key).as_slice() {
                Ok(())
            } else {
                let problem = "isn't of the private key beside it";
                Err(CaError::certificate(&certificate_path, problem))
            }
        })?;
        let certificate = self.own_leaf(&certificate_path, &pem)?;
        Ok(PayloadSigner { key, certificate })
    }

    /// The private key first: a certificate that is there has its key. Neither replaces a file.
    fn make_signer(
        &self,
        certificate_path: &Path,
        private_path: &Path,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<(), CaError> {
        let (serial, mut index) = self.begin_issue()?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = issue::signer(serial, now);
        self.note(&mut index, SIGNER_NAME, serial, &params)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        keyfile::write_new_private(private_path, key.serialized_der(), passphrase)?;
        keyfile::write_new(certificate_path, certificate.pem().as_bytes(), 0o644)
            .map_err(|source| CaError::io("write", certificate_path, source))
    }

    /// The certificate in DER, if it is by this CA; at a time when it was valid, since it is pinned whatever its dates.
    fn own_leaf(&self, path: &Path, pem: &str) -> Result<CertificateDer<'static>, CaError> {
        let not_before = super::with_certificate(path, pem, |certificate| {
            Ok(certificate.validity().not_before.timestamp())
        })?;
        let then = std::time::Duration::from_secs(not_before.try_into().unwrap_or(0));
        self.files.own_certificate(path, pem, then)
    }
}

/// The signer's common name.
const SIGNER_NAME: &str = "PayloadSigner";

fn half(there: &Path, missing: &'static str) -> CaError {
    CaError::HalfSigner {
        there: there.to_owned(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use std::os::unix::fs::PermissionsExt as _;

    use zeroize::Zeroizing;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    #[test]
    fn is_made_once_and_pinned_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let secret = Passphrase::new(Zeroizing::new("open sesame".to_owned()));
        for passphrase in [None, secret.as_ref()] {
            let directory = root.path().join(format!("ca{}", passphrase.is_some()));
            let ca = CaDirectory::open_or_create(&directory, passphrase, now()).unwrap();
            let signer = ca.payload_signer(passphrase, now()).unwrap();
            let signature = signer.sign(b"manifest").unwrap();
            assert!(signer.has_signed(b"manifest", &signature));
            assert!(!signer.has_signed(b"manifesT", &signature));
            let later = now() + time::Duration::days(20 * 365);
            let again = ca.payload_signer(passphrase, later).unwrap();
            assert_eq!(again.sha256(), signer.sha256());
            let path = directory.join("PayloadSigner-private.pem");
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let clear = std::fs::read_to_string(&path)
                .unwrap()
                .contains("BEGIN PRIVATE KEY");
            assert_eq!(clear, passphrase.is_none());
        }
    }

    #[test]
    fn what_others_made_stays() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| CaDirectory::open_or_create(&root.path().join(name), None, now());
        let (ours, other) = (make("a").unwrap(), make("b").unwrap());
        for ca in [&ours, &other] {
            ca.payload_signer(None, now()).unwrap();
        }
        let path = |ca: &str, part: &str| root.path().join(format!("{ca}/PayloadSigner-{part}"));
        let take = |part: &str| std::fs::copy(path("b", part), path("a", part)).unwrap();
        take("cert.crt");
        assert!(matches!(
            ours.payload_signer(None, now()),
            Err(CaError::Certificate { .. })
        ));
        take("private.pem");
        let foreign = ours.payload_signer(None, now()).err().unwrap().to_string();
        assert!(foreign.contains("isn't by this authority"), "{foreign}");
        std::fs::remove_file(path("a", "cert.crt")).unwrap();
        let before = std::fs::read(path("a", "private.pem")).unwrap();
        assert!(matches!(
            ours.payload_signer(None, now()),
            Err(CaError::HalfSigner { .. })
        ));
        assert_eq!(std::fs::read(path("a", "private.pem")).unwrap(), before);
    }

    #[test]
    fn no_node_takes_its_name() {
        let root = tempfile::tempdir().unwrap();
        let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
        let uuid = agent_core::wire::text::Uuid::parse("payloadsigner").unwrap();
        let refused = ca.identity(&uuid, None, now());
        assert!(matches!(refused, Err(CaError::ReservedName { .. })));
    }
}
