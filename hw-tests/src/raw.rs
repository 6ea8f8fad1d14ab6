//! Requests that no honest client would send, and honest ones by hand.
//!
//! The client checks nothing about the server: it is here to attack it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;

use crate::Result;

/// How long a server may leave a request without a byte of answer before the scenario fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// With what a client comes.
#[derive(Debug)]
pub struct Credential(Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>);

impl Credential {
    /// Nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// A certificate and its key, in PEM files.
    ///
    /// # Errors
    /// They can't be read.
    pub fn files(certificate: &Path, key: &Path) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(&fs::read(certificate)?)?;
        Ok(Self(Some((
            vec![certificate],
            PrivateKeyDer::from_pem_slice(&fs::read(key)?)?,
        ))))
    }

    /// A certificate that nobody here has signed: its own CA says it is a client.
    ///
    /// # Errors
    /// None that can be provoked.
    pub fn stranger() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self(Some((vec![made.cert.der().clone()], key.into()))))
    }
}

impl Credential {
    /// A client certificate by the CA of these files, but of the year 2000.
    ///
    /// # Errors
    /// They can't be read.
    pub fn expired(ca: &Path, ca_key: &Path) -> Result<Self> {
        let ca_key = KeyPair::from_pem(&fs::read_to_string(ca_key)?)?;
        let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(ca)?, ca_key)?;
        let mut leaf = CertificateParams::new(vec![])?;
        leaf.not_before = date_time_ymd(2000, 1, 1);
        leaf.not_after = date_time_ymd(2001, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Self(Some((vec![certificate.der().clone()], key.into()))))
    }
}

/// A way to one server.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// What a server answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The head's fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body's text; of a body that is none, what can be read of it.
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
    /// A relay breaks the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
}

impl Reply {
    /// The same with another body.
    #[must_use]
    pub fn with_bytes(self, bytes: Vec<u8>) -> Self {
        Self {
            body: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            ..self
        }
    }

    /// The value of a field of the head; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(one, value)| (one == name).then_some(value.as_str()))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It isn't.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body)
            .map_err(|error| format!("{error} in {:?}", self.body).into())
    }

    /// `results` of Keylime's envelope.
    ///
    /// # Errors
    /// The status isn't 200, or the body isn't JSON.
    pub fn results(&self) -> Result<Value> {
        if self.status != 200 {
            return Err(format!("status {}: {}", self.status, self.body).into());
        }
        Ok(self.json()?["results"].clone())
    }
}

/// A connection that can carry several requests.
pub struct Session {
    wire: Box<dyn ReadWrite>,
    host: SocketAddr,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

impl Client {
    /// Plain HTTP.
    pub fn plain(address: Ipv4Addr, port: u16) -> Self {
        Self {
            address: (address, port).into(),
            tls: None,
        }
    }

    /// TLS, with `credential`.
    ///
    /// # Errors
    /// Certificate and key don't fit.
    pub fn tls(address: Ipv4Addr, port: u16, credential: Credential) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
        let config = match credential.0 {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => builder.with_client_auth_cert(certificates, key)?,
        };
        Ok(Self {
            address: (address, port).into(),
            tls: Some(Arc::new(config)),
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// The server doesn't let us.
    pub fn connect(&self) -> Result<Session> {
        let tcp = self.connect_tcp()?;
        let wire: Box<dyn ReadWrite> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                Box::new(StreamOwned::new(
                    ClientConnection::new(Arc::clone(config), name)?,
                    tcp,
                ))
            }
        };
        Ok(Session {
            wire,
            host: self.address,
        })
    }

    /// Connects, and says nothing: not even a TLS hello.
    ///
    /// # Errors
    /// The server doesn't accept.
    pub fn connect_tcp(&self) -> Result<TcpStream> {
        let tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        Ok(tcp)
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// No answer came.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        self.connect()?.send(method, path, body)
    }

    /// `GET`.
    ///
    /// # Errors
    /// No answer came.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.send("GET", path, None)
    }

    /// Sends bytes as they are, and returns the first answer.
    ///
    /// # Errors
    /// None came.
    pub fn bytes(&self, request: &[u8]) -> Result<Reply> {
        let mut session = self.connect()?;
        // A server that refuses early may close before it has read everything: its answer still counts.
        let _refused_early = session.write(request);
        session.reply()
    }
}

impl Session {
    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer isn't HTTP.
    pub fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let body = body.map(Value::to_string).unwrap_or_default();
        // Keylime's servers read a body as soon as its type is named, and an empty one is no JSON.
        let content_type = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{content_type}Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.write(format!("{head}{body}").as_bytes())?;
        self.reply()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        self.wire.write_all(bytes)?;
        Ok(self.wire.flush()?)
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// The connection broke, or the answer isn't HTTP.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.wire.read_exact(&mut byte)?;
            head.push(byte[0]);
            if head.len() > 64 * 1024 {
                return Err("an answer's head without end".into());
            }
        }
        let head = String::from_utf8(head)?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or("no status in the answer")?;
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        let mut reply = Reply {
            status,
            fields: fields
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            ..Reply::default()
        };
        let length = reply.field("content-length").map_or(Ok(0), str::parse)?;
        reply.bytes = vec![0; length];
        self.wire.read_exact(&mut reply.bytes)?;
        reply.body = String::from_utf8_lossy(&reply.bytes).into_owned();
        Ok(reply)
    }

    /// Waits until the server closes the connection; what it still says is dropped.
    ///
    /// # Errors
    /// It doesn't, for a minute.
    pub fn wait_until_closed(&mut self) -> Result {
        let mut rest = [0; 1024];
        loop {
            match self.wire.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err("the server keeps the connection".into());
                }
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Takes any server for what it says it is.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
