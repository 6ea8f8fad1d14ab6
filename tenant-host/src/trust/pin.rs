//! Which endorsement key a deposit may be sealed to: one that the tenant knows as this node's.
//!
//! There is no agent to ask, and the registrar may be lying: a vendor's certificate shows some genuine TPM, not this node. So
//! the key was told (by certificate, by hash, or by a uuid that is the hash), or was known before, or a flag lets a first key
//! pass.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use verifier_host::evidence::certificate::{CertificateError, EkCertificate};
use verifier_host::evidence::public::EkPublic;

use super::known::Known;
use super::{TrustError, Vouched};

/// The largest file of a certificate.
const MAX_CERTIFICATE_BYTES: u64 = 64 << 10;

/// What the operator told of a node's endorsement key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its certificate; who issued it doesn't matter, since the operator gave it.
    pub certificate: Option<EkCertificate>,
    /// Its hash, as lowercase hex.
    pub hash: Option<String>,
    /// Whether a first key may be taken for the node's.
    pub first_use: bool,
}

/// Why a key counts as the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// It is the key of the certificate that was told.
    Certificate,
    /// It has the hash that was told.
    Hash,
    /// The node's identifier is its hash.
    Name,
    /// The node came with it before.
    Inventory,
    /// It is the node's first, and a flag lets it pass.
    FirstUse(Vouched),
}

impl Pinned {
    /// Its name for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Hash => "hash",
            Self::Name => "uuid",
            Self::Inventory => "inventory",
            Self::FirstUse(_) => "first-use",
        }
    }
}

/// Why nothing is sealed to a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The file of `--ek-cert` can't be read.
    #[error("can't read --ek-cert {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file of `--ek-cert` holds no certificate.
    #[error("--ek-cert {}: {source}; one certificate in PEM or DER is needed", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
    /// The node registered with another key than the certificate's.
    #[error(
        "this node registered with the EK {have}, which isn't the one of --ek-cert: another TPM than you expect"
    )]
    AnotherCertificate {
        /// The hash of the key that it has.
        have: String,
    },
    /// The node registered with another key than the hash's.
    #[error(
        "this node registered with the EK {have}, --ek-hash wants {want}: another TPM than you expect"
    )]
    AnotherHash {
        /// The hash of the key that it has.
        have: String,
        /// The hash that was told.
        want: String,
    },
    /// Nobody has told that this is the node's key.
    #[error(
        "nothing says that the EK {have} is this node's: a vendor's certificate shows some genuine TPM, and the registrar's word is all there is. If you know it, give --ek-hash {have} or --ek-cert FILE; --trust-new-ek takes it on the registrar's word, this once"
    )]
    Unknown {
        /// The hash of the key that it has.
        have: String,
    },
    /// A first key was to be trusted, and isn't.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Told {
    /// Reads what the options name.
    ///
    /// # Errors
    /// [`PinError::File`], [`PinError::NotACertificate`].
    pub fn read(
        certificate: Option<&Path>,
        hash: Option<String>,
        first_use: bool,
    ) -> Result<Self, PinError> {
        Ok(Self {
            certificate: certificate.map(read_certificate).transpose()?,
            hash,
            first_use,
        })
    }

    /// Whether it tells which key to wait for.
    #[must_use]
    pub const fn names_a_key(&self) -> bool {
        self.certificate.is_some() || self.hash.is_some()
    }
}

/// Decides whether a key is the node's. `known` is what the inventory says of it, `vouched` asks its vendor.
///
/// # Errors
/// [`PinError`]. Everything that was told must hold.
pub fn pin(
    uuid: &str,
    ek: &EkPublic,
    told: &Told,
    known: Known,
    vouched: impl FnOnce() -> Result<Vouched, TrustError>,
) -> Result<Pinned, PinError> {
    let have = super::ek_hash(ek)?;
    if let Some(certificate) = &told.certificate
        && certificate.must_certify(ek).is_err()
    {
        return Err(PinError::AnotherCertificate { have });
    }
    if let Some(want) = told.hash.as_ref().filter(|want| **want != have) {
        let want = want.clone();
        return Err(PinError::AnotherHash { have, want });
    }
    if told.certificate.is_some() {
        Ok(Pinned::Certificate)
    } else if told.hash.is_some() {
        Ok(Pinned::Hash)
    } else if uuid == have {
        Ok(Pinned::Name)
    } else if known == Known::Already {
        Ok(Pinned::Inventory)
    } else if told.first_use {
        Ok(Pinned::FirstUse(vouched()?))
    } else {
        Err(PinError::Unknown { have })
    }
}

fn read_certificate(path: &Path) -> Result<EkCertificate, PinError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_CERTIFICATE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| PinError::File {
            path: path.to_owned(),
            source,
        })?;
    let der = CertificateDer::from_pem_slice(&bytes).map_or(bytes, |der| der.to_vec());
    EkCertificate::parse(&der).map_err(|source| PinError::NotACertificate {
        path: path.to_owned(),
        source,
    })
}
