//! Certificates: the directory `cv_ca` that the verifier makes, and the TLS configurations of servers and clients.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

mod authority;
mod tls;

pub use authority::{Authority, Place};
pub use tls::{SERVER_ROLE, ServerTrust, client_config, server_config};

/// Why there are no certificates to work with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file or directory can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory has some of the files of a CA, but not all.
    #[error(
        "{dir} lacks {missing}: it is no complete cv_ca; restore the file, or move the directory away to have a new one made \
         (nodes and tenants then need the new cacert.crt)"
    )]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// The first file that isn't there.
        missing: &'static str,
    },
    /// A file has no PEM block of the kind that it should have.
    #[error("{path}: no usable {kind} in it: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        kind: &'static str,
        /// What the parser says.
        source: rustls::pki_types::pem::Error,
    },
    /// A private key is encrypted.
    #[error(
        "{path}: the private key is encrypted, which is not supported; give a key without a password"
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key don't fit each other, or TLS can't use them.
    #[error("these certificates can't be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A CA certificate can't be used as a trust anchor.
    #[error("this CA certificate can't be used to check others: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate can't be made.
    #[error("can't make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate with its chain and its private key. Never printed.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads both from PEM files; the key may be PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// [`PkiError`]: a file that can't be read, that has no certificate or key in it, or an encrypted key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        Ok(Self {
            chain: read_certificates(certificate)?,
            key: read_key(key)?,
        })
    }

    /// What is there already, leaf first.
    #[must_use]
    pub const fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// [`PkiError::File`], [`PkiError::Pem`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let text = read(path)?;
    let pem = |source| PkiError::Pem {
        path: path.to_owned(),
        kind: "certificate",
        source,
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    if certificates.is_empty() {
        return Err(pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| {
        let path = path.to_owned();
        if text
            .windows(ENCRYPTED.len())
            .any(|window| window == ENCRYPTED)
        {
            return PkiError::EncryptedKey { path };
        }
        PkiError::Pem {
            path,
            kind: "private key",
            source,
        }
    })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PkiError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| file(path, source))
}

fn file(path: &Path, source: io::Error) -> PkiError {
    PkiError::File {
        path: path.to_owned(),
        source,
    }
}

/// The one set of algorithms that this program uses.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";
