//! TLS configurations: who is trusted for what.
//!
//! Session resumption is off in servers: a certificate is checked on each connection, also one that has expired since.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::{Credentials, PkiError, provider};

/// Which servers a client believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTrust {
    /// The server with exactly this certificate, whatever it says: a node, whose certificate the registrar keeps.
    Pinned(CertificateDer<'static>),
    /// Servers with a certificate under one of these CAs, issued for the host that is called or for the role
    /// [`SERVER_ROLE`]: registrar and verifier.
    Ca(Vec<CertificateDer<'static>>),
}

/// The DNS name in the certificates that Keylime's CA and ours issue to servers. It tells them from the other certificates of
/// that CA, which holds for any address; Keylime's have no other name.
pub const SERVER_ROLE: &str = "server";

/// A server that asks for a client certificate under one of `client_cas`. A client may come without; one that comes with
/// another CA's or an expired certificate is turned away.
///
/// # Errors
/// [`PkiError`]: certificates that can't be used.
pub fn server_config(
    credentials: &Credentials,
    client_cas: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, PkiError> {
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_cas)?), provider())
            .allow_unauthenticated()
            .build()?;
    let (chain, key) = credentials.parts();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A client that believes servers by `trust`, and shows `credentials` to those that ask.
///
/// # Errors
/// [`PkiError`]: certificates that can't be used.
pub fn client_config(
    trust: &ServerTrust,
    credentials: Option<&Credentials>,
) -> Result<Arc<ClientConfig>, PkiError> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        ServerTrust::Pinned(certificate) => Arc::new(Pinned {
            certificate: certificate.clone(),
            algorithms: provider.signature_verification_algorithms,
        }),
        ServerTrust::Ca(cas) => Arc::new(UnderCa::new(cas, Arc::clone(&provider))?),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match credentials {
        Some(credentials) => {
            let (chain, key) = credentials.parts();
            config.with_client_auth_cert(chain, key)?
        }
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn roots(cas: &[CertificateDer<'static>]) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone())?;
    }
    Ok(roots)
}

/// Compares the certificate's bytes: no name, no date, no chain. The handshake proves that the server has its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            let other = rustls::OtherError(Arc::new(AnotherCertificate));
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(
                other,
            )))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The server shows another certificate than the one it registered.
#[derive(Debug)]
struct AnotherCertificate;

impl fmt::Display for AnotherCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is not the one that this node registered")
    }
}

impl std::error::Error for AnotherCertificate {}

/// Checks the chain and the dates, then the host's name or the role.
#[derive(Debug)]
struct UnderCa {
    chain: Arc<WebPkiServerVerifier>,
    role: ServerName<'static>,
}

impl UnderCa {
    fn new(
        cas: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, PkiError> {
        let role = ServerName::try_from(SERVER_ROLE)
            .map_err(|_| rustls::Error::General("the role is no DNS name".to_owned()))?;
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(cas)?), provider).build()?;
        Ok(Self { chain, role })
    }
}

impl ServerCertVerifier for UnderCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |name: &ServerName<'_>| {
            self.chain
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        let by_name = check(server_name);
        match &by_name {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => check(&self.role).or(by_name),
            _ => by_name,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
