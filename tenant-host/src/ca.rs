//! The tenant's certificate authority: one directory, made once, whose keys never leave it unasked.
//!
//! A directory counts as a CA from the moment `cacert.crt` is in it; it is made elsewhere and moved into place, so that there
//! is all of it or nothing. No file is ever deleted, and none is replaced but the ones this module made.

use std::fs::File;
use std::path::Path;

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use index::Index;

mod create;
mod crl;
mod delegate;
mod export;
mod fault;
mod files;
mod index;
mod issue;
mod keyfile;
mod keytype;
mod leaf;
mod log;
mod point;
mod reason;
mod revoke;
mod signer;

pub use crl::Crl;
pub use delegate::{ListSigner, has_room_for_signer};
pub use export::Exported;
pub use fault::CaError;
pub use files::CaFiles;
pub use index::{Issued, Revoked};
pub use issue::Usage;
pub use keyfile::Passphrase;
pub use keytype::{KeyType, KeyTypeError};
pub use leaf::{Certificate, LeafWish};
pub use log::{LogError, News, Position, Seen, log_start, reason_of};
pub use point::ListPoint;
pub use reason::{Reason, ReasonError};
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
    /// The certificate of the key that the verifier signs revocation lists with; there while that is so.
    pub(crate) const LIST_SIGNER_CERT: &str = "CrlSigner-cert.crt";
    /// That key, where it is written to a file: never into a CA directory.
    pub(crate) const LIST_SIGNER_PRIVATE: &str = "CrlSigner-private.pem";
    /// What was issued and revoked; not there from the start.
    pub(crate) const INDEX: &str = "index.txt";
    /// How far the revocation logs were read; not there from the start.
    pub(crate) const LOGS: &str = "revocation-logs.txt";
    /// Names of certificates that are the authority's own.
    pub(crate) const RESERVED: [&str; 4] =
        ["ca", "RevocationNotifier", "PayloadSigner", "CrlSigner"];
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

/// An open CA directory, locked against a second tenant until it is dropped.
pub struct CaDirectory {
    files: CaFiles,
    issuer: Issuer<'static, KeyPair>,
    created: bool,
    /// Where certificates say that the revocation list is.
    list_url: Option<String>,
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
    /// `revocation_log.json`: where the node begins to read its revocation log, if the verifier keeps one.
    pub log_start: Option<String>,
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
            && create::create(directory, KeyType::default(), passphrase, now)?;
        let mut opened = Self::open(directory, passphrase)?;
        opened.created = created;
        Ok(opened)
    }

    /// Makes a CA.
    ///
    /// # Errors
    /// [`CaError::Exists`] if there is one; [`CaError`]. Nothing was changed then.
    pub fn create(
        directory: &Path,
        key_type: KeyType,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let is_new = !exists(&directory.join(names::CA_CERT))?
            && create::create(directory, key_type, passphrase, now)?;
        if !is_new {
            return Err(CaError::Exists {
                directory: directory.to_owned(),
            });
        }
        let mut opened = Self::open(directory, passphrase)?;
        opened.created = true;
        Ok(opened)
    }

    /// Opens the directory, which must hold a CA.
    ///
    /// # Errors
    /// [`CaError`]; nothing was changed then.
    pub fn open(directory: &Path, passphrase: Option<&Passphrase>) -> Result<Self, CaError> {
        let files = CaFiles::open(directory)?;
        let key_path = directory.join(names::CA_PRIVATE);
        let key = signing_key(
            &key_path,
            keyfile::read_private(&key_path, passphrase)?.as_bytes(),
        )?;
        let certificate_path = directory.join(names::CA_CERT);
        with_certificate(&certificate_path, files.certificate_pem(), |certificate| {
            if certificate.public_key().raw == spki(&key).as_slice() {
                Ok(())
            } else {
                Err(CaError::certificate(
                    &certificate_path,
                    "isn't of the key in ca-private.pem",
                ))
            }
        })?;
        let issuer = Issuer::from_ca_cert_pem(files.certificate_pem(), key)?;
        Ok(Self {
            files,
            issuer,
            created: false,
            list_url: None,
        })
    }

    /// Whether this call made the CA.
    #[must_use]
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// What can be read without its key.
    #[must_use]
    pub const fn files(&self) -> &CaFiles {
        &self.files
    }

    /// Has certificates that are made from now on say where the revocation list is.
    ///
    /// # Errors
    /// [`CaError`] if the notifier's certificate can't be read.
    pub fn point_to(&mut self, point: &ListPoint) -> Result<(), CaError> {
        self.list_url = point.url(&self.files.anchor()?);
        Ok(())
    }

    /// The first serial number that was never given out.
    fn spent(&self) -> Result<u64, CaError> {
        let path = self.path().join(names::SERIAL);
        read_text(&path)?
            .trim()
            .parse()
            .map_err(|_| CaError::Serial { path })
    }

    /// Takes the next serial number; it is spent before it is used, and never one that the index has.
    fn take_serial(&self, index: &Index) -> Result<u64, CaError> {
        let path = self.path().join(names::SERIAL);
        let serial = self.spent()?;
        let spent = || CaError::Serial { path: path.clone() };
        let after_last = match index.last_serial() {
            Some(last) => last.checked_add(1).ok_or_else(spent)?,
            None => 0,
        };
        let serial = serial.max(after_last);
        let next = serial.checked_add(1).ok_or_else(spent)?;
        keyfile::write_atomically(&path, format!("{next}\n").as_bytes(), 0o644)
            .map_err(|source| CaError::io("write", &path, source))?;
        Ok(serial)
    }
}

/// Whether a certificate's name is the authority's own.
fn is_reserved(name: &str) -> bool {
    names::RESERVED
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

fn signing_key(path: &Path, pkcs8: &[u8]) -> Result<KeyPair, CaError> {
    [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256]
        .into_iter()
        .find_map(|kind| KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), kind).ok())
        .ok_or_else(|| CaError::key(path, "isn't an ECDSA P-256 or RSA key"))
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
