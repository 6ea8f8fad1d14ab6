//! The agent's TLS client: one of several verifiers, tried in turn, all within a deadline.
//!
//! A verifier is who has a certificate under an authority for its name, or one certificate that is trusted for itself. Builds
//! without the feature `pull` speak TLS 1.3 alone.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};

pub use super::address::ServerAddress;
use super::address::{connect, left, resolve};
pub use super::clock::Clock;
use super::crypto::provider;
use super::stream::DeadlineStream;
use crate::trust::{Pin, PinError, PinFault, Pinned, certificates};

/// Whose certificate a verifier's is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTrust {
    /// One that these authorities vouch for by the verifier's name: PEM files.
    Authorities(Vec<PathBuf>),
    /// One of these, whatever its name and dates.
    Pinned(Vec<Pin>),
}

/// The verifiers, and how they are told from others.
pub struct Reach {
    servers: Vec<ServerAddress>,
    tls: Arc<ClientConfig>,
    /// Which one answered last: it is asked first.
    first: usize,
}

impl Reach {
    /// Reads what is trusted; nothing is sent yet. `servers` has at least one.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(
        servers: Vec<ServerAddress>,
        trust: &ServerTrust,
        clock: Clock,
    ) -> Result<Self, TrustError> {
        Ok(Self {
            servers,
            tls: client_config(trust, clock)?,
            first: 0,
        })
    }

    /// A connection to the first verifier that answers as one: TLS is up, its certificate is right. Each of them is tried once;
    /// one that refuses or is silent costs a bounded time.
    ///
    /// # Errors
    /// [`ReachError`]: what was wrong with each, or that the deadline came first.
    pub fn connect(&mut self, deadline: Instant) -> Result<VerifierStream, ReachError> {
        let mut failures = Vec::new();
        let count = self.servers.len();
        for index in (self.first..count).chain(0..self.first) {
            let Some(server) = self.servers.get(index) else {
                continue;
            };
            match open(&self.tls, server, deadline) {
                Ok(stream) => {
                    self.first = index;
                    return Ok(stream);
                }
                Err(failure) => {
                    log::info!("verifier {server}: {failure}");
                    failures.push((server.clone(), failure));
                }
            }
            if left(deadline).is_err() {
                break;
            }
        }
        Err(ReachError {
            is_late: left(deadline).is_err(),
            failures,
        })
    }
}

/// A connection to a verifier. It is over when the deadline comes, whatever the other side does.
pub struct VerifierStream {
    stream: StreamOwned<ClientConnection, DeadlineStream>,
    server: ServerAddress,
}

impl VerifierStream {
    /// Everything from now on has to be over by this moment.
    pub fn until(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.stream.sock.limit(left);
    }

    /// Who is at the other end: `Display` gives what a request's `Host` says.
    #[must_use]
    pub fn server(&self) -> &ServerAddress {
        &self.server
    }

    /// Says goodbye. A verifier that doesn't listen any more is no failure.
    pub fn close(mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
    }
}

impl Read for VerifierStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for VerifierStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn open(
    tls: &Arc<ClientConfig>,
    server: &ServerAddress,
    deadline: Instant,
) -> Result<VerifierStream, ServerFailure> {
    let until = deadline.min(Instant::now() + RESOLVE);
    let addresses = resolve(server.host(), server.port(), until).map_err(ServerFailure::Name)?;
    let socket = connect(&addresses, deadline).map_err(ServerFailure::Connect)?;
    let limit = left(deadline)
        .map_err(ServerFailure::Handshake)?
        .min(HANDSHAKE);
    let mut socket = DeadlineStream::new(socket, limit).map_err(ServerFailure::Connect)?;
    let name = ServerName::try_from(server.host().to_owned())
        .map_err(|error| ServerFailure::Name(io::Error::other(error)))?;
    let mut connection = ClientConnection::new(Arc::clone(tls), name)
        .map_err(|error| ServerFailure::Handshake(io::Error::other(error)))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut socket)
            .map_err(ServerFailure::Handshake)?;
    }
    let mut stream = VerifierStream {
        stream: StreamOwned::new(connection, socket),
        server: server.clone(),
    };
    stream.until(deadline);
    Ok(stream)
}

/// The client's side of TLS: no resumption, no certificate of its own.
fn client_config(trust: &ServerTrust, clock: Clock) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(provider());
    let library = |error: rustls::Error| TrustError::Library(error.to_string());
    let (verifier, clock): (Arc<dyn ServerCertVerifier>, _) = match trust {
        ServerTrust::Pinned(pins) => {
            let pinned = Pinned::read(pins).map_err(TrustError::Certificate)?;
            let provider = Arc::clone(&provider);
            (Arc::new(PinnedServer { pinned, provider }), clock)
        }
        ServerTrust::Authorities(files) => {
            let clock = files
                .iter()
                .fold(clock, |clock, file| clock.not_before(file));
            let roots = Arc::new(authorities(files)?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|error| TrustError::Library(error.to_string()))?;
            (verifier, clock)
        }
    };
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_protocol_versions(VERSIONS)
        .map_err(library)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(feature = "pull")]
static VERSIONS: &[&rustls::SupportedProtocolVersion] = rustls::ALL_VERSIONS;
#[cfg(not(feature = "pull"))]
static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn authorities(files: &[PathBuf]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for path in files {
        let fault = |fault| {
            TrustError::Certificate(PinError {
                path: path.clone(),
                fault,
            })
        };
        for certificate in certificates(path).map_err(fault)? {
            roots
                .add(certificate)
                .map_err(|_| fault(PinFault::NotAnAuthority))?;
        }
    }
    Ok(roots)
}

/// Takes a server whose certificate is one of these, if it has the key.
#[derive(Debug)]
struct PinnedServer {
    pinned: Pinned,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.has(certificate) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    #[cfg(feature = "pull")]
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    #[cfg(not(feature = "pull"))]
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2 here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Why nobody can be trusted.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrustError {
    /// A file can't be used.
    Certificate(PinError),
    /// rustls refuses the configuration.
    Library(String),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(
                f,
                "{error}; name the verifier's certificate with --verifier-cert, or its authority's with --verifier-tls-ca-cert"
            ),
            Self::Library(text) => write!(f, "TLS can't be set up: {text}"),
        }
    }
}

impl std::error::Error for TrustError {}

/// No verifier could be reached.
#[derive(Debug)]
pub struct ReachError {
    /// Whether the deadline has come.
    pub is_late: bool,
    /// What was wrong with those that were tried, in that order.
    pub failures: Vec<(ServerAddress, ServerFailure)>,
}

/// What is wrong with one.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerFailure {
    /// Its name means nothing.
    Name(io::Error),
    /// Nobody answers there.
    Connect(io::Error),
    /// TLS doesn't come up: it is silent, or its certificate isn't one that is trusted.
    Handshake(io::Error),
}

impl fmt::Display for ReachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no verifier can be reached")?;
        for (server, failure) in &self.failures {
            write!(f, "; {server}: {failure}")?;
        }
        if self.is_late {
            f.write_str("; the deadline has come")?;
        }
        Ok(())
    }
}

impl std::error::Error for ReachError {}

impl fmt::Display for ServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "its name can't be resolved: {error}"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Handshake(error) => write!(f, "no TLS: {error}"),
        }
    }
}

/// How long a name may take.
const RESOLVE: Duration = Duration::from_secs(5);
/// How long a verifier may take for its part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
