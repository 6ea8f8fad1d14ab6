//! Certificates that are trusted for themselves: a tenant's signer, a verifier. Nobody vouches for them, their dates don't
//! count, and no name is compared.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use agent_core::wire::text::parse_hex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

use crate::net::crypto::P256_SHA256;

/// Which certificate is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Each one in this PEM file.
    File(PathBuf),
    /// The one whose DER has this SHA-256.
    Sha256([u8; 32]),
}

impl Pin {
    /// The pin of 64 hex digits.
    #[must_use]
    pub fn digest(hex: &str) -> Option<Self> {
        parse_hex(hex.to_ascii_lowercase().as_bytes()).map(Self::Sha256)
    }
}

/// The certificates that pins mean: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned(Vec<[u8; 32]>);

impl Pinned {
    /// Reads the files among the pins.
    ///
    /// # Errors
    /// [`PinError`]: a file can't be read, isn't PEM, or holds no certificate; there are no pins.
    pub fn read(pins: &[Pin]) -> Result<Self, PinError> {
        let mut digests = Vec::new();
        for pin in pins {
            match pin {
                Pin::Sha256(digest) => digests.push(*digest),
                Pin::File(path) => {
                    let certificates = certificates(path).map_err(|fault| PinError {
                        path: path.clone(),
                        fault,
                    })?;
                    digests.extend(certificates.iter().map(|der| digest(der)));
                }
            }
        }
        if digests.is_empty() {
            return Err(PinError {
                path: PathBuf::new(),
                fault: PinFault::Empty,
            });
        }
        Ok(Self(digests))
    }

    /// SHA-256 of each one's DER.
    #[must_use]
    pub fn digests(&self) -> &[[u8; 32]] {
        &self.0
    }

    /// Whether this certificate, in DER, is one of them.
    #[must_use]
    pub fn has(&self, certificate: &[u8]) -> bool {
        self.0.contains(&digest(certificate))
    }
}

/// Whether this is the certificate's owner's signature (ECDSA P-256 with SHA-256, DER) of these bytes. Whether the certificate
/// counts is [`Pinned::has`]'s to say.
#[must_use]
pub fn verify_manifest(signer_der: &[u8], manifest: &[u8], signature: &[u8]) -> bool {
    let signer = CertificateDer::from(signer_der);
    EndEntityCert::try_from(&signer).is_ok_and(|signer| {
        signer
            .verify_signature(P256_SHA256, manifest, signature)
            .is_ok()
    })
}

fn digest(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PinFault> {
    let mut pem = Vec::new();
    let file = File::open(path).map_err(PinFault::Read)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut pem)
        .map_err(PinFault::Read)?;
    if u64::try_from(pem.len()).is_ok_and(|len| len > MAX_FILE_BYTES) {
        return Err(PinFault::TooLarge);
    }
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| PinFault::NotPem)?;
    if certificates.is_empty() {
        return Err(PinFault::Empty);
    }
    Ok(certificates)
}

/// A pin that can't be used.
#[derive(Debug)]
pub struct PinError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: PinFault,
}

/// What is wrong with a file of certificates.
#[derive(Debug)]
#[non_exhaustive]
pub enum PinFault {
    /// It can't be read.
    Read(io::Error),
    /// It is larger than any sensible one.
    TooLarge,
    /// It isn't PEM throughout.
    NotPem,
    /// It holds no certificate.
    Empty,
    /// It holds a certificate that can't be an authority.
    NotAnAuthority,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate file {} {}", self.path.display(), self.fault)
    }
}

impl fmt::Display for PinFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "can't be read: {error}"),
            Self::TooLarge => write!(f, "is larger than {MAX_FILE_BYTES} bytes"),
            Self::NotPem => f.write_str("isn't PEM"),
            Self::Empty => f.write_str("holds no certificate"),
            Self::NotAnAuthority => f.write_str("holds no authority's certificate"),
        }
    }
}

impl std::error::Error for PinError {}

const MAX_FILE_BYTES: u64 = 1 << 20;
