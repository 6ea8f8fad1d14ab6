//! Whom a secret may be sealed to: the endorsement key, checked before anything else happens.
//!
//! A certificate under the trust store shows that the key sits in some genuine TPM; the file of known keys ([`known`]) then
//! holds a node to the TPM it first came with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use verifier_host::evidence::certificate::{CertificateError, EkCertificate};
use verifier_host::evidence::public::EkPublic;
use x509_parser::prelude::{FromDer, X509Certificate};

pub mod known;
pub mod pin;

/// `tcg-kp-EKCertificate`, 2.23.133.8.1: what a certificate must be for to be an endorsement key's.
///
/// Source: TCG EK Credential Profile 2.5, section 3.2.16.
const EK_CERTIFICATE_USE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

/// The largest file of a trust store; a certificate has 1 to 2 KB, a bundle of all vendors' about 300 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why an endorsement key isn't trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The trust store can't be read.
    #[error("can't read the trust store {}: {source}. Put the TPM vendors' CA certificates there (PEM or DER), or name another with --tpm-cert-store", path.display())]
    Store {
        /// The directory or a file in it.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The registrar gave no certificate.
    #[error(
        "this node's TPM has no EK certificate (EK hash {hash}). If you know that this is your node's TPM, give --ek-hash {hash}; require_ek_cert = False in tenant.conf accepts any TPM, a software one too"
    )]
    NoCertificate {
        /// `hash_ek` of the key.
        hash: String,
    },
    /// The certificate isn't one, or of another key.
    #[error(
        "the EK certificate is refused: {0}. Who registered with it isn't its owner, or it was damaged"
    )]
    Certificate(#[from] CertificateError),
    /// The registrar's text is no certificate's.
    #[error("the EK certificate is neither base64 nor PEM")]
    NotACertificate,
    /// The key can't be written as PEM, so it has no hash.
    #[error("the EK can't be written as PEM")]
    NoHash,
    /// The certificate's issuer isn't in the store.
    #[error(
        "the EK certificate's issuer is not in the trust store: put the certificate of the CA {issuer:?} (PEM or DER) into {}, if you trust it{}",
        store.display(),
        in_words(skipped)
    )]
    UnknownIssuer {
        /// The issuer's name.
        issuer: String,
        /// The trust store.
        store: PathBuf,
        /// Files in it that hold no certificate.
        skipped: Vec<PathBuf>,
    },
    /// The issuer is in the store, but the certificate doesn't hold.
    #[error("the EK certificate by {issuer:?} doesn't hold: {reason}")]
    Invalid {
        /// The issuer's name.
        issuer: String,
        /// What fails.
        reason: webpki::Error,
    },
    /// The key isn't the one that `--ek-hash` names.
    #[error(
        "this node's EK has the hash {have}, --ek-hash wants {want}: another TPM than you expect"
    )]
    AnotherHash {
        /// The key's.
        have: String,
        /// The expected one.
        want: String,
    },
}

/// Certificates of TPM vendors' authorities, each of which may have signed an EK certificate.
pub struct TrustStore {
    directory: PathBuf,
    anchors: Vec<CertificateDer<'static>>,
    skipped: Vec<PathBuf>,
}

/// How far an endorsement key is vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// By a certificate under the trust store.
    Certificate {
        /// The name of the authority that issued it.
        issuer: String,
    },
    /// By the operator, who gave its hash.
    Hash,
    /// By nobody; `require_ek_cert = False` lets that pass.
    Nobody {
        /// What a check would have said.
        reason: String,
    },
}

/// What the operator asks of an endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// Whether a certificate (or a hash) is required.
    pub certificate: bool,
    /// The hash that the key must have, as lowercase hex.
    pub hash: Option<String>,
}

impl TrustStore {
    /// Reads every file of the directory that holds certificates, PEM or DER; not what lies in directories below.
    ///
    /// # Errors
    /// [`TrustError::Store`] if the directory or a file can't be read. A file without certificates is
    /// skipped; the error about a missing issuer names it.
    pub fn read(directory: &Path) -> Result<Self, TrustError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| TrustError::Store { path, source }
        };
        let mut store = Self {
            directory: directory.to_owned(),
            anchors: Vec::new(),
            skipped: Vec::new(),
        };
        for entry in fs::read_dir(directory).map_err(error(directory))? {
            let path = entry.map_err(error(directory))?.path();
            let metadata = fs::metadata(&path).map_err(error(&path))?;
            if !metadata.is_file() {
                continue;
            }
            let bytes = match metadata.len() {
                0..=MAX_FILE_BYTES => fs::read(&path).map_err(error(&path))?,
                _ => Vec::new(),
            };
            let found = certificates_in(&bytes);
            if found.is_empty() {
                store.skipped.push(path);
            }
            store.anchors.extend(found);
        }
        Ok(store)
    }

    /// Checks that the certificate is of this key, for this use, valid now, and by an authority of the store.
    ///
    /// Every certificate of the store is an anchor: an intermediate one vouches without its root, as in Keylime.
    ///
    /// # Errors
    /// [`TrustError`], naming the issuer.
    pub fn check(
        &self,
        certificate: &EkCertificate,
        ek: &EkPublic,
        now: UnixTime,
    ) -> Result<Vouched, TrustError> {
        certificate.must_certify(ek)?;
        let issuer = issuer_of(certificate);
        let der = CertificateDer::from(certificate.der());
        let leaf = webpki::EndEntityCert::try_from(&der).map_err(|reason| TrustError::Invalid {
            issuer: issuer.clone(),
            reason,
        })?;
        let anchors: Vec<_> = self
            .anchors
            .iter()
            .filter_map(|anchor| webpki::anchor_from_trusted_cert(anchor).ok())
            .collect();
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let usage = webpki::KeyUsage::required(EK_CERTIFICATE_USE);
        match leaf.verify_for_usage(algorithms, &anchors, &[], now, usage, None, None) {
            Ok(_) => Ok(Vouched::Certificate { issuer }),
            Err(webpki::Error::UnknownIssuer)
                if !anchors
                    .iter()
                    .any(|anchor| *anchor.subject == *leaf.issuer()) =>
            {
                Err(TrustError::UnknownIssuer {
                    issuer,
                    store: self.directory.clone(),
                    skipped: self.skipped.clone(),
                })
            }
            Err(reason) => Err(TrustError::Invalid { issuer, reason }),
        }
    }
}

/// Judges an endorsement key by its certificate, if the registrar has one, and by what the operator demands.
///
/// # Errors
/// [`TrustError`]. A certificate of another key, and a hash that differs, are errors whatever is demanded.
pub fn judge(
    ek: &EkPublic,
    certificate: Option<&[u8]>,
    store: &Path,
    demands: &Demands,
    now: UnixTime,
) -> Result<Vouched, TrustError> {
    let hash = ek_hash(ek)?;
    let certificate = certificate.map(EkCertificate::parse).transpose()?;
    if let Some(certificate) = &certificate {
        certificate.must_certify(ek)?;
    }
    if let Some(want) = &demands.hash {
        if *want != hash {
            return Err(TrustError::AnotherHash {
                have: hash,
                want: want.clone(),
            });
        }
        return Ok(Vouched::Hash);
    }
    let result = match &certificate {
        Some(certificate) => {
            TrustStore::read(store).and_then(|store| store.check(certificate, ek, now))
        }
        None => Err(TrustError::NoCertificate { hash }),
    };
    match result {
        Err(error) if !demands.certificate => Ok(Vouched::Nobody {
            reason: error.to_string(),
        }),
        result => result,
    }
}

/// `hash_ek` of the key.
///
/// # Errors
/// [`TrustError::NoHash`] if the key can't be written.
pub fn ek_hash(ek: &EkPublic) -> Result<String, TrustError> {
    ek.hash_ek().ok_or(TrustError::NoHash)
}

/// The time for certificate checks.
#[must_use]
pub fn unix_time(now: time::OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        now.unix_timestamp().try_into().unwrap_or(0),
    ))
}

fn in_words(skipped: &[PathBuf]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let names = skipped.iter().map(|path| path.display().to_string());
    format!(
        ". No certificate was found in {}",
        names.collect::<Vec<_>>().join(", ")
    )
}

/// The issuer's name, as RFC 4514 writes it.
fn issuer_of(certificate: &EkCertificate) -> String {
    // It was parsed before, so there is a name.
    X509Certificate::from_der(certificate.der()).map_or_else(
        |_| String::new(),
        |(_, certificate)| certificate.issuer().to_string(),
    )
}

fn certificates_in(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    let pem: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .filter_map(Result::ok)
        .collect();
    if !pem.is_empty() {
        return pem;
    }
    match X509Certificate::from_der(bytes) {
        Ok(([], _)) => vec![CertificateDer::from(bytes.to_vec())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
