//! The tenant's certificate authority: one directory, made once, whose keys never leave it unasked.
//!
//! A directory counts as a CA from the moment `cacert.crt` is in it; it is made elsewhere and moved into place, so that there
//! is all of it or nothing. No file is ever deleted, and none is replaced but the ones this module made.

use std::fs::File;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::UnixTime;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use agent_core::wire::text::Uuid;

mod create;
mod crl;
mod fault;
mod issue;
mod keyfile;
mod signer;

pub use fault::CaError;
pub use keyfile::Passphrase;
pub use signer::{PayloadSigner, is_signed_by};

/// Names of the files in a CA directory; Keylime's where Keylime has them.
pub(crate) mod names {
    /// The CA's certificate.
    pub(crate) const CA_CERT: &str = "cacert.crt";
    /// The CA's public key.
    pub(crate) const CA_PUBLIC: &str = "ca-public.pem";
    /// The CA's private key.
    pub(crate) const CA_PRIVATE: &str = "ca-private.pem";
    /// The revocation list, DER.
    pub(crate) const CRL_DER: &str = "cacrl.der";
    /// The revocation list, PEM.
    pub(crate) const CRL_PEM: &str = "cacrl.pem";
    /// The next serial number, in decimal.
    pub(crate) const SERIAL: &str = "serial";
    /// The certificate of the key that revocations are signed with.
    pub(crate) const NOTIFIER_CERT: &str = "RevocationNotifier-cert.crt";
    /// That key.
    pub(crate) const NOTIFIER_PRIVATE: &str = "RevocationNotifier-private.pem";
    /// The certificate of the key that manifests are signed with; not there from the start.
    pub(crate) const SIGNER_CERT: &str = "PayloadSigner-cert.crt";
    /// That key.
    pub(crate) const SIGNER_PRIVATE: &str = "PayloadSigner-private.pem";
    /// Where Keylime keeps the keys of its own CA directories.
    pub(crate) const KEYLIME_KEYS: &str = "private.yml";
    /// All that a CA directory has from the start, the certificate last: it is what makes the directory one.
    pub(crate) const ALL: [&str; 8] = [
        CA_PUBLIC,
        CA_PRIVATE,
        CRL_DER,
        CRL_PEM,
        SERIAL,
        NOTIFIER_CERT,
        NOTIFIER_PRIVATE,
        CA_CERT,
    ];
}

/// A node's certificate that has less than this left is issued anew.
const LEAF_RENEW_BEFORE_END: Duration = Duration::days(30);

/// An open CA directory, locked against a second tenant until it is dropped.
pub struct CaDirectory {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    created: bool,
    _lock: File,
}

/// What a node gets of its CA: the parts of the package, and what the verifier is told about its certificate.
pub struct NodeIdentity {
    /// `{uuid}-public.pem`, PEM SubjectPublicKeyInfo.
    pub public_pem: String,
    /// `{uuid}-cert.crt`, PEM.
    pub certificate_pem: String,
    /// `{uuid}-private.pem`, PKCS#8 in PEM, in clear.
    pub private_pem: Zeroizing<String>,
    /// The CA's certificate, PEM.
    pub ca_certificate_pem: String,
    /// The revocation list.
    pub crl_der: Vec<u8>,
    /// The revocation list, PEM.
    pub crl_pem: Vec<u8>,
    /// `RevocationNotifier-cert.crt`, PEM.
    pub notifier_certificate_pem: String,
    /// The key that the verifier signs revocations with, PKCS#8 in PEM.
    pub notifier_private_pem: Zeroizing<String>,
    /// The certificate's serial number.
    pub serial: u64,
    /// The certificate's subject, as RFC 4514 writes it.
    pub subject: String,
}

impl CaDirectory {
    /// Opens the directory, or makes a CA in it if it holds none.
    ///
    /// # Errors
    /// [`CaError`]: what is there can't be used; nothing was changed then.
    pub fn open_or_create(
        directory: &Path,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let created = !exists(&directory.join(names::CA_CERT))?
            && create::create(directory, passphrase, now)?;
        let lock = lock(directory)?;
        let mut opened = Self::open(directory, passphrase, lock)?;
        opened.created = created;
        Ok(opened)
    }

    /// Whether this call made the CA.
    #[must_use]
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    fn open(
        directory: &Path,
        passphrase: Option<&Passphrase>,
        lock: File,
    ) -> Result<Self, CaError> {
        for name in names::ALL {
            if exists(&directory.join(name))? {
                continue;
            }
            if exists(&directory.join(names::KEYLIME_KEYS))? {
                return Err(CaError::Keylime {
                    directory: directory.to_owned(),
                });
            }
            return Err(CaError::Incomplete {
                directory: directory.to_owned(),
                missing: name,
            });
        }
        let certificate_path = directory.join(names::CA_CERT);
        let certificate_pem = read_text(&certificate_path)?;
        let key_path = directory.join(names::CA_PRIVATE);
        let key = signing_key(
            &key_path,
            keyfile::read_private(&key_path, passphrase)?.as_bytes(),
        )?;
        with_certificate(&certificate_path, &certificate_pem, |certificate| {
            if certificate.public_key().raw == spki(&key).as_slice() {
                Ok(())
            } else {
                Err(CaError::certificate(
                    &certificate_path,
                    "isn't of the key in ca-private.pem",
                ))
            }
        })?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self {
            directory: directory.to_owned(),
            issuer,
            certificate_pem,
            created: false,
            _lock: lock,
        })
    }

    /// The identity of a node: the one it has, or a new key and certificate if there is none or its end is near.
    ///
    /// # Errors
    /// [`CaError`]; a serial number may be spent then, nothing else.
    pub fn identity(
        &self,
        uuid: &Uuid,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<NodeIdentity, CaError> {
        let own = ["ca", "RevocationNotifier", "PayloadSigner"];
        if own
            .iter()
            .any(|name| name.eq_ignore_ascii_case(uuid.as_str()))
        {
            return Err(CaError::ReservedName {
                uuid: uuid.to_string(),
            });
        }
        let certificate_path = self.directory.join(format!("{uuid}-cert.crt"));
        let private_path = self.directory.join(format!("{uuid}-private.pem"));
        if !exists(&certificate_path)? || !self.is_current(&certificate_path, now)? {
            self.issue_node(uuid, passphrase, now)?;
        }
        let certificate_pem = read_text(&certificate_path)?;
        let private = keyfile::read_private(&private_path, passphrase)?;
        let key = signing_key(&private_path, private.as_bytes())?;
        let (serial, subject) =
            with_certificate(&certificate_path, &certificate_pem, |certificate| {
                if certificate.public_key().raw != spki(&key).as_slice() {
                    return Err(CaError::certificate(
                        &certificate_path,
                        "isn't of the private key beside it",
                    ));
                }
                let digits = certificate.tbs_certificate.serial.to_u64_digits();
                Ok((
                    digits.first().copied().unwrap_or(0),
                    certificate.subject().to_string(),
                ))
            })?;
        let notifier =
            keyfile::read_private(&self.directory.join(names::NOTIFIER_PRIVATE), passphrase)?;
        let list = crl::current(&self.directory, &self.issuer, now)?;
        Ok(NodeIdentity {
            public_pem: key.public_key_pem(),
            certificate_pem,
            private_pem: keyfile::clear_pem(&private)?,
            ca_certificate_pem: self.certificate_pem.clone(),
            crl_der: list.der,
            crl_pem: list.pem,
            notifier_certificate_pem: read_text(&self.directory.join(names::NOTIFIER_CERT))?,
            notifier_private_pem: keyfile::clear_pem(&notifier)?,
            serial,
            subject,
        })
    }

    /// Whether a certificate by this CA has some time left.
    fn is_current(&self, path: &Path, now: OffsetDateTime) -> Result<bool, CaError> {
        let not_ours = || CaError::certificate(path, "isn't by this authority: move it away");
        let pem = read_text(path)?;
        let (_, leaf) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| not_ours())?;
        let (_, ca) = x509_parser::pem::parse_x509_pem(self.certificate_pem.as_bytes())
            .map_err(|_| not_ours())?;
        let (leaf, ca) = (
            leaf.contents.as_slice().into(),
            ca.contents.as_slice().into(),
        );
        let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|_| not_ours())?;
        let anchor = webpki::anchor_from_trusted_cert(&ca).map_err(|_| not_ours())?;
        let then = (now + LEAF_RENEW_BEFORE_END)
            .unix_timestamp()
            .try_into()
            .unwrap_or(0);
        let usage = webpki::KeyUsage::client_auth();
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(then));
        match leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &[],
            then,
            usage,
            None,
            None,
        ) {
            Ok(_) => Ok(true),
            Err(webpki::Error::CertExpired { .. }) => Ok(false),
            Err(_) => Err(not_ours()),
        }
    }

    fn issue_node(
        &self,
        uuid: &Uuid,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<(), CaError> {
        let serial = self.take_serial()?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = issue::node(uuid.as_str(), serial, now).signed_by(&key, &self.issuer)?;
        let path = |suffix: &str| self.directory.join(format!("{uuid}-{suffix}"));
        keyfile::write_private(&path("private.pem"), key.serialized_der(), passphrase)?;
        for (path, text) in [
            (path("public.pem"), key.public_key_pem()),
            (path("cert.crt"), certificate.pem()),
        ] {
            keyfile::write_atomically(&path, text.as_bytes(), 0o644)
                .map_err(|source| CaError::io("write", &path, source))?;
        }
        Ok(())
    }

    /// Takes the next serial number; it is spent before it is used.
    fn take_serial(&self) -> Result<u64, CaError> {
        let path = self.directory.join(names::SERIAL);
        let serial: u64 = read_text(&path)?
            .trim()
            .parse()
            .map_err(|_| CaError::Serial { path: path.clone() })?;
        let next = serial
            .checked_add(1)
            .ok_or_else(|| CaError::Serial { path: path.clone() })?;
        keyfile::write_atomically(&path, format!("{next}\n").as_bytes(), 0o644)
            .map_err(|source| CaError::io("write", &path, source))?;
        Ok(serial)
    }
}

fn signing_key(path: &Path, pkcs8: &[u8]) -> Result<KeyPair, CaError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ECDSA_P256_SHA256)
        .map_err(|_| CaError::key(path, "isn't an ECDSA P-256 key"))
}

fn spki(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

/// Reads the first certificate of a PEM text.
fn with_certificate<T>(
    path: &Path,
    pem: &str,
    read: impl FnOnce(&X509Certificate<'_>) -> Result<T, CaError>,
) -> Result<T, CaError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|_| CaError::certificate(path, "isn't in PEM"))?;
    let (_, certificate) = X509Certificate::from_der(&block.contents)
        .map_err(|_| CaError::certificate(path, "can't be parsed"))?;
    read(&certificate)
}

fn read_text(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|source| CaError::io("read", path, source))
}

fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists()
        .map_err(|source| CaError::io("read", path, source))
}

/// Locks a directory by its own handle, so that no lock file is left behind.
fn lock(directory: &Path) -> Result<File, CaError> {
    let handle = File::open(directory).map_err(|source| CaError::io("open", directory, source))?;
    handle
        .lock()
        .map_err(|source| CaError::io("lock", directory, source))?;
    Ok(handle)
}

#[cfg(test)]
mod tests;
