//! A CA directory as far as it can be read without its key: what it has issued, and to whom.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use super::crl::OldList;
use super::index::{Index, Issued};
use super::{CaError, exists, lock, names, read_text, with_certificate};

/// What the names of certificates' files end with.
const CERTIFICATE: &str = "-cert.crt";

/// A CA directory, locked against a second tenant until it is dropped.
pub struct CaFiles {
    directory: PathBuf,
    certificate_pem: String,
    _lock: File,
}

impl CaFiles {
    /// Opens the directory, which must hold a whole CA.
    ///
    /// # Errors
    /// [`CaError`]; nothing is ever changed.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        if !exists(directory)? {
            return Err(CaError::Missing {
                directory: directory.to_owned(),
            });
        }
        let lock = lock(directory)?;
        for name in names::ALL {
            if exists(&directory.join(name))? {
                continue;
            }
            let directory = directory.to_owned();
            if exists(&directory.join(names::KEYLIME_KEYS))? {
                return Err(CaError::Keylime { directory });
            }
            if name == names::CA_CERT || !exists(&directory.join(names::CA_CERT))? {
                return Err(CaError::Missing { directory });
            }
            return Err(CaError::Incomplete {
                directory,
                missing: name,
            });
        }
        Ok(Self {
            certificate_pem: read_text(&directory.join(names::CA_CERT))?,
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's own certificate.
    pub(super) fn certificate(&self) -> Result<Issued, CaError> {
        let path = self.directory.join(names::CA_CERT);
        with_certificate(&path, &self.certificate_pem, |found| Ok(described(found)))
    }

    /// The CA's common name, which is its list signer's too.
    ///
    /// # Errors
    /// [`CaError`] if its certificate can't be read.
    pub fn name(&self) -> Result<String, CaError> {
        Ok(self.certificate()?.name)
    }

    /// When the CA's own certificate ends.
    pub(super) fn end(&self) -> Result<OffsetDateTime, CaError> {
        Ok(self.certificate()?.not_after)
    }

    /// The notifier's certificate, PEM.
    ///
    /// # Errors
    /// [`CaError::Io`].
    pub fn notifier_pem(&self) -> Result<String, CaError> {
        read_text(&self.directory.join(names::NOTIFIER_CERT))
    }

    /// The revocation list, DER.
    ///
    /// # Errors
    /// [`CaError::Io`].
    pub fn list_der(&self) -> Result<Vec<u8>, CaError> {
        let path = self.directory.join(names::CRL_DER);
        std::fs::read(&path).map_err(|source| CaError::io("read", &path, source))
    }

    /// The name of the anchor of this CA's revocation logs: lowercase hex of the SHA-256 of the notifier key's
    /// `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`CaError`] if the notifier's certificate can't be read.
    pub fn anchor(&self) -> Result<String, CaError> {
        let path = self.directory.join(names::NOTIFIER_CERT);
        with_certificate(&path, &read_text(&path)?, |certificate| {
            Ok(crate::seal::hex(&Sha256::digest(
                certificate.public_key().raw,
            )))
        })
    }

    /// All certificates that it issued and still knows of, by serial number: those of the index, and those whose files are there.
    ///
    /// # Cost
    /// Reads every certificate in the directory.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issued(&self) -> Result<Vec<Issued>, CaError> {
        Ok(self.full_index()?.iter().cloned().collect())
    }

    /// The index; where there is none yet, one of all that an older tenant issued.
    pub(super) fn index(&self) -> Result<Index, CaError> {
        match exists(&self.directory.join(names::INDEX))? {
            true => Index::read(&self.directory),
            false => self.full_index(),
        }
    }

    /// The index with what isn't in it, by the certificates that are there and by the revocation list.
    pub(super) fn full_index(&self) -> Result<Index, CaError> {
        let mut index = Index::read(&self.directory)?;
        let read = |source| CaError::io("read", &self.directory, source);
        for entry in std::fs::read_dir(&self.directory).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| name.ends_with(CERTIFICATE)) {
                continue;
            }
            // Another authority's certificate, or something else of that name, isn't this one's to list.
            let Ok(pem) = read_text(&path) else { continue };
            if let Ok(issued) = with_certificate(&path, &pem, |certificate| {
                let start = certificate.validity().not_before.timestamp();
                let start = std::time::Duration::from_secs(start.try_into().unwrap_or(0));
                self.own_certificate(&path, &pem, start)?;
                Ok(described(certificate))
            }) {
                index.add(issued);
            }
        }
        let list = OldList::read(&self.directory)?;
        for (serial, revoked) in list.revoked {
            index.revoke(serial, revoked);
        }
        Ok(index)
    }

    /// A certificate in DER, if it is by this CA and valid then.
    ///
    /// # Errors
    /// [`CaError::Certificate`].
    pub(super) fn own_certificate(
        &self,
        path: &Path,
        pem: &str,
        then: std::time::Duration,
    ) -> Result<CertificateDer<'static>, CaError> {
        let foreign = || CaError::certificate(path, FOREIGN);
        match self.check(path, pem, then)? {
            (leaf, Ok(())) => Ok(leaf),
            (_, Err(_)) => Err(foreign()),
        }
    }

    /// Whether a certificate by this CA is still valid then.
    ///
    /// # Errors
    /// [`CaError::Certificate`] if it isn't by this CA.
    pub(super) fn lasts_until(
        &self,
        path: &Path,
        pem: &str,
        then: OffsetDateTime,
    ) -> Result<bool, CaError> {
        let seconds = then.unix_timestamp().try_into().unwrap_or(0);
        match self.check(path, pem, std::time::Duration::from_secs(seconds))? {
            (_, Ok(())) => Ok(true),
            (_, Err(webpki::Error::CertExpired { .. })) => Ok(false),
            (_, Err(_)) => Err(CaError::certificate(path, FOREIGN)),
        }
    }

    fn check(
        &self,
        path: &Path,
        pem: &str,
        then: std::time::Duration,
    ) -> Result<(CertificateDer<'static>, Result<(), webpki::Error>), CaError> {
        let foreign = || CaError::certificate(path, FOREIGN);
        let der = |pem: &str| {
            x509_parser::pem::parse_x509_pem(pem.as_bytes())
                .map(|(_, pem)| CertificateDer::from(pem.contents))
                .map_err(|_| foreign())
        };
        let (leaf_der, ca) = (der(pem)?, der(&self.certificate_pem)?);
        let leaf = webpki::EndEntityCert::try_from(&leaf_der).map_err(|_| foreign())?;
        let anchor = webpki::anchor_from_trusted_cert(&ca).map_err(|_| foreign())?;
        let verify = |usage| {
            let (algorithms, anchors) = (webpki::ALL_VERIFICATION_ALGS, [anchor.clone()]);
            let time = UnixTime::since_unix_epoch(then);
            leaf.verify_for_usage(algorithms, &anchors, &[], time, usage, None, None)
                .map(drop)
        };
        // A certificate may be for one side of a connection alone.
        let result = match verify(webpki::KeyUsage::client_auth()) {
            Err(webpki::Error::RequiredEkuNotFoundContext(_)) => {
                verify(webpki::KeyUsage::server_auth())
            }
            result => result,
        };
        Ok((leaf_der, result))
    }
}

/// What is wrong with a certificate that lies where one of this CA's should.
const FOREIGN: &str = "isn't by this authority: move it away";

/// What the index says of a certificate.
pub(super) fn described(certificate: &X509Certificate<'_>) -> Issued {
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    Issued {
        serial: serial_of(certificate),
        // A tab or a line end would break the index.
        name: name
            .chars()
            .map(|character| {
                if character.is_control() {
                    '?'
                } else {
                    character
                }
            })
            .collect(),
        not_after: certificate.validity().not_after.to_datetime(),
        revoked: None,
    }
}

/// The serial number; those of this CA's certificates fit.
pub(super) fn serial_of(certificate: &X509Certificate<'_>) -> u64 {
    let digits = certificate.tbs_certificate.serial.to_u64_digits();
    digits.first().copied().unwrap_or(0)
}
