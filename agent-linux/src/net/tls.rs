//! Mutual TLS towards verifier and tenant: only who has a certificate under the trusted authorities gets to say a word.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::clock::Clock;
use super::crypto::provider;
use crate::identity::TlsIdentity;

/// The certificate authorities whose clients may talk to the agent (`trusted_client_ca`).
#[derive(Clone, Debug)]
pub struct ClientAuthorities(Arc<RootCertStore>);

impl ClientAuthorities {
    /// Reads PEM files of one or more certificates each.
    ///
    /// # Errors
    /// [`TlsError`] if one can't be read, is too large, holds no certificate, or one that can't be an authority.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for path in paths {
            let path = path.as_ref();
            pem(path)
                .and_then(|pem| add(&mut roots, &pem))
                .map_err(|reason| TlsError::Authorities {
                    path: path.to_owned(),
                    reason,
                })?;
        }
        Ok(Self(Arc::new(roots)))
    }
}

fn pem(path: &Path) -> Result<Vec<u8>, AuthoritiesFault> {
    let mut pem = Vec::new();
    let file = File::open(path).map_err(AuthoritiesFault::Read)?;
    file.take(MAX_AUTHORITIES_BYTES + 1)
        .read_to_end(&mut pem)
        .map_err(AuthoritiesFault::Read)?;
    if u64::try_from(pem.len()).is_ok_and(|len| len > MAX_AUTHORITIES_BYTES) {
        return Err(AuthoritiesFault::TooLarge);
    }
    Ok(pem)
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), AuthoritiesFault> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| AuthoritiesFault::NotPem)?;
        roots
            .add(certificate)
            .map_err(AuthoritiesFault::NotAnAuthority)?;
    }
    if roots.len() == before {
        return Err(AuthoritiesFault::Empty);
    }
    Ok(())
}

/// The agent's side of TLS 1.2 and 1.3: its own certificate, and a demand for the client's.
///
/// There is no resumption: each connection shows its certificate anew, and no state of past clients is kept.
///
/// # Errors
/// [`TlsError::Library`] if rustls refuses the authorities.
pub fn server_config(
    identity: &TlsIdentity,
    clients: &ClientAuthorities,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&clients.0), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Library(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Clock::system()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Library(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The DER of the certificate that the client proved to own: what `tenant_cert` is compared with. `None` before the
/// handshake is over.
#[must_use]
pub fn peer_certificate(connection: &ServerConnection) -> Option<&[u8]> {
    if connection.is_handshaking() {
        return None;
    }
    connection.peer_certificates()?.first().map(AsRef::as_ref)
}

/// Why there can be no TLS.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The file of trusted authorities can't be used.
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: AuthoritiesFault,
    },
    /// rustls refuses the configuration.
    Library(String),
}

/// What is wrong with a file of trusted authorities.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuthoritiesFault {
    /// It can't be read.
    Read(io::Error),
    /// It is larger than any sensible one.
    TooLarge,
    /// It isn't PEM throughout.
    NotPem,
    /// It holds no certificate.
    Empty,
    /// It holds a certificate that can't be an authority.
    NotAnAuthority(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities { path, reason } => {
                let path = path.display();
                write!(f, "trusted_client_ca {path} ")?;
                match reason {
                    AuthoritiesFault::Read(error) => write!(f, "can't be read: {error}")?,
                    AuthoritiesFault::TooLarge => {
                        write!(f, "is larger than {MAX_AUTHORITIES_BYTES} bytes")?
                    }
                    AuthoritiesFault::NotPem => write!(f, "isn't PEM")?,
                    AuthoritiesFault::Empty => write!(f, "holds no certificate")?,
                    AuthoritiesFault::NotAnAuthority(error) => {
                        write!(f, "holds no authority's certificate: {error}")?
                    }
                }
                write!(
                    f,
                    "; copy the verifier's cv_ca/cacert.crt there, or name it with --trusted-client-ca"
                )
            }
            Self::Library(text) => write!(f, "TLS can't be set up: {text}"),
        }
    }
}

impl std::error::Error for TlsError {}

const MAX_AUTHORITIES_BYTES: u64 = 1 << 20;
