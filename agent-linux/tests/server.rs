//! The agent's server under clients that are slow, many, strange, or just ordinary.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/node.rs"]
mod node;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent_core::secret::Secret;
use agent_linux::identity::TlsIdentity;
use agent_linux::net::serve::{Deadlines, Door, Server};
use agent_linux::net::tls::{ClientAuthorities, server_config};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use tempfile::TempDir;

/// A server with its client authority.
struct World {
    address: SocketAddr,
    pki: TempDir,
}

impl World {
    fn new(deadlines: Deadlines) -> Self {
        Self::with_tenant(deadlines, None)
    }

    fn with_tenant(deadlines: Deadlines, tenant: Option<&str>) -> Self {
        let pki = TempDir::new().unwrap();
        for authority in ["ca", "other-ca"] {
            openssl(
                pki.path(),
                &[
                    "-subj",
                    &format!("/CN={authority}"),
                    "-keyout",
                    &format!("{authority}.key"),
                    "-out",
                    &format!("{authority}.crt"),
                ],
            );
        }
        for (name, authority) in [
            ("client", "ca"),
            ("verifier", "ca"),
            ("stranger", "other-ca"),
        ] {
            let (certificate, key) = (format!("{authority}.crt"), format!("{authority}.key"));
            openssl(
                pki.path(),
                &[
                    "-subj",
                    &format!("/CN={name}"),
                    "-CA",
                    &certificate,
                    "-CAkey",
                    &key,
                    "-addext",
                    "basicConstraints=critical,CA:FALSE",
                    "-keyout",
                    &format!("{name}.key"),
                    "-out",
                    &format!("{name}.crt"),
                ],
            );
        }
        let identity =
            TlsIdentity::derive(&Secret::copy_of(&[7; 32]), &node::uuid(), "127.0.0.1").unwrap();
        let clients = ClientAuthorities::read(&[pki.path().join("ca.crt")]).unwrap();
        let door = Door::MutualTls {
            tls: server_config(&identity, &clients).unwrap(),
            tenant: tenant.map(|name| certificate(pki.path(), name).to_vec()),
        };
        Self::behind(door, deadlines, pki)
    }

    fn behind(door: Door, deadlines: Deadlines, pki: TempDir) -> Self {
        let (node, _work) = node::node(None);
        let server = Server {
            door,
            shell: node,
            deadlines,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || server.run(&listener));
        Self { address, pki }
    }

    fn connect(&self, client: Option<&str>) -> StreamOwned<ClientConnection, TcpStream> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.pki.path().join(format!("{name}.key")));
                let chain = vec![certificate(self.pki.path(), name)];
                builder.with_client_auth_cert(chain, key.unwrap()).unwrap()
            }
        };
        let name = ServerName::try_from("agent").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, self.socket())
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    }

    /// One request over a new connection.
    fn get(&self, client: Option<&str>, path: &str) -> io::Result<String> {
        ask(
            &mut self.connect(client),
            &format!("GET {path} HTTP/1.1\r\n\r\n"),
        )
    }
}

/// Sends a request and reads its answer.
fn ask(stream: &mut (impl Read + Write), request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(char::from(byte[0]));
    }
    let length = answer
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body)?;
    Ok(answer + std::str::from_utf8(&body).unwrap())
}

fn certificate(pki: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(pki.join(format!("{name}.crt"))).unwrap()
}

fn openssl(directory: &Path, more: &[&str]) {
    let usual = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    let status = Command::new("openssl")
        .args(usual)
        .args(more)
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{more:?}");
}

/// A client that takes any server: whom it talks to isn't what is tried here.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const USUAL: Deadlines = Deadlines {
    handshake: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    request: Duration::from_secs(5),
};

#[test]
fn every_route_by_every_credential() {
    let world = World::new(USUAL);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n\r\n");
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}");
    let requests = [
        (get("/version"), "200"),
        (get("/v2.6/agent/info"), "200"),
        (get("/v2.6/quotes/identity?nonce=a"), "200"),
        (
            get("/v2.6/quotes/integrity?nonce=a&mask=0&partial=0"),
            "200",
        ),
        (get("/v2.6/keys/pubkey"), "200"),
        (get("/v2.6/keys/verify?challenge=a"), "400"),
        (get("/v2.6/payload/outcome"), "200"),
        (post("/v2.6/keys/ukey"), "400"),
        (post("/v2.6/keys/vkey"), "400"),
        (post("/v2.6/notifications/revocation"), "400"),
    ];
    for (request, status) in &requests {
        let answer = ask(&mut world.connect(Some("client")), request).unwrap();
        assert_eq!(&answer[9..12], *status, "{request}");
        for wrong in [None, Some("stranger")] {
            let answer = ask(&mut world.connect(wrong), request);
            assert!(answer.is_err(), "{request} by {wrong:?}");
        }
        assert!(
            ask(&mut world.socket(), request).is_err(),
            "{request} without TLS"
        );
    }
}

#[test]
fn only_the_tenant_may_deliver_where_one_is_named() {
    let world = World::with_tenant(USUAL, Some("client"));
    let request = "POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
    let status = |client| ask(&mut world.connect(Some(client)), request).unwrap()[9..12].to_owned();
    assert_eq!(
        (status("client"), status("verifier")),
        ("400".into(), "403".into())
    );
}

#[test]
fn slow_client_blocks_nobody() {
    let world = World::new(USUAL);
    // More than there are places: some say nothing, some begin a handshake.
    let mut silent: Vec<_> = (0..40).map(|_| world.socket()).collect();
    for socket in silent.iter_mut().step_by(2) {
        let _ = socket.write_all(&[0x16, 3, 1]);
    }
    let start = Instant::now();
    for _ in 0..5 {
        world.get(Some("client"), "/version").unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn resting_clients_make_room() {
    let world = World::new(USUAL);
    let mut resting = Vec::new();
    for _ in 0..40 {
        let mut stream = world.connect(Some("client"));
        ask(&mut stream, "GET /version HTTP/1.1\r\n\r\n").unwrap();
        resting.push(stream);
    }
    // The last to come is still served.
    let last = resting.last_mut().unwrap();
    ask(last, "GET /version HTTP/1.1\r\n\r\n").unwrap();
}

#[test]
fn deadlines_end_what_is_slow() {
    let short = Duration::from_millis(150);
    let head = "POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
    let cases = [
        (
            "handshake",
            Deadlines {
                handshake: short,
                ..USUAL
            },
            None,
        ),
        (
            "idle",
            Deadlines {
                idle: short,
                ..USUAL
            },
            Some(""),
        ),
        (
            "half a head",
            Deadlines {
                request: short,
                ..USUAL
            },
            Some("GET /ver"),
        ),
        (
            "half a body",
            Deadlines {
                request: short,
                ..USUAL
            },
            Some(head),
        ),
    ];
    for (name, deadlines, sent) in cases {
        let world = World::new(deadlines);
        let start = Instant::now();
        match sent {
            None => assert_eq!(world.socket().read(&mut [0]).unwrap(), 0, "{name}"),
            Some(sent) => {
                let mut stream = world.connect(Some("client"));
                stream.write_all(sent.as_bytes()).unwrap();
                stream.flush().unwrap();
                // A payload that never came whole leaves the place for the next.
                let end = stream.read(&mut [0]);
                assert!(matches!(end, Ok(0)) || end.is_err(), "{name}");
            }
        }
        assert!(start.elapsed() < Duration::from_secs(4), "{name}");
        // On a busy machine an honest client may be too slow for these deadlines as well: it tries again.
        let request = "POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        let next = (0..20).find_map(|_| ask(&mut world.connect(Some("client")), request).ok());
        assert!(next.unwrap().contains("is missing"), "{name}");
    }
}

#[test]
fn a_refused_body_is_answered_not_reset() {
    let world = World::new(USUAL);
    let mut stream = world.connect(Some("client"));
    let length = 8 << 20;
    let head = format!("POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let piece = [b'a'; 64 * 1024];
    for _ in 0..length / piece.len() {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let answer = ask(&mut stream, "").unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn answers_without_delayed_ack() {
    let world = World::new(USUAL);
    let mut stream = world.connect(Some("client"));
    ask(&mut stream, "GET /version HTTP/1.1\r\n\r\n").unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        ask(
            &mut stream,
            "GET /v2.6/quotes/identity?nonce=abc HTTP/1.1\r\n\r\n",
        )
        .unwrap();
    }
    // One delayed acknowledgement would be 40 ms.
    assert!(
        start.elapsed() < Duration::from_millis(20 * 40),
        "{:?}",
        start.elapsed()
    );
}

#[cfg(feature = "plain-http")]
mod plain_http {
    use agent_core::agent::Peer;

    use super::*;

    fn open_to(peer: Peer, deadlines: Deadlines) -> World {
        World::behind(Door::Open(peer), deadlines, TempDir::new().unwrap())
    }

    #[test]
    fn payloads_take_a_switch_of_their_own() {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\n\r\n");
        let post = |path: &str| format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}");
        let rows = [
            (get("/version"), "200", "200"),
            (get("/v2.6/quotes/identity?nonce=a"), "200", "200"),
            (get("/v2.6/payload/outcome"), "200", "200"),
            (post("/v2.6/keys/ukey"), "403", "400"),
            (post("/v2.6/keys/vkey"), "400", "400"),
        ];
        let without = open_to(Peer::Unknown, USUAL);
        let with = open_to(Peer::Tenant, USUAL);
        for (request, refused, taken) in &rows {
            for (world, status) in [(&without, refused), (&with, taken)] {
                let answer = ask(&mut world.socket(), request).unwrap();
                assert_eq!(&answer[9..12], *status, "{request}: {answer}");
                let says_why = answer.contains("enable_insecure_payload");
                assert_eq!(says_why, *status == "403", "{request}: {answer}");
            }
        }
    }

    #[test]
    fn a_refused_payload_is_answered_not_reset() {
        let mut socket = open_to(Peer::Unknown, USUAL).socket();
        let length = 256 * 1024;
        let head = format!("POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let _ = socket.write_all(&vec![b'a'; length]);
        let answer = ask(&mut socket, "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }

    #[test]
    fn connections_are_kept_and_end_when_they_rest_too_long() {
        let idle = Duration::from_millis(150);
        let mut socket = open_to(Peer::Unknown, Deadlines { idle, ..USUAL }).socket();
        for _ in 0..3 {
            ask(&mut socket, "GET /version HTTP/1.1\r\n\r\n").unwrap();
        }
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn silent_clients_make_room() {
        let world = open_to(Peer::Unknown, USUAL);
        let _silent: Vec<_> = (0..40).map(|_| world.socket()).collect();
        ask(&mut world.socket(), "GET /version HTTP/1.1\r\n\r\n").unwrap();
    }
}
