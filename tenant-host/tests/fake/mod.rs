//! A verifier that is played: TLS, HTTP/1.1, one answer for each request, and a log that is signed as a verifier signs it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::pss::Pss;
use rsa::traits::PublicKeyParts as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// What is answered.
pub(crate) struct Answer {
    code: u16,
    status: String,
    results: Value,
}

impl Answer {
    pub(crate) fn done(results: Value) -> Self {
        Self {
            code: 200,
            status: "Success".to_owned(),
            results,
        }
    }

    pub(crate) fn no(code: u16, status: &str) -> Self {
        Self {
            code,
            status: status.to_owned(),
            results: json!({}),
        }
    }

    fn text(&self) -> String {
        let (code, status, results) = (self.code, &self.status, &self.results);
        let body = json!({ "code": code, "status": status, "results": results }).to_string();
        format!(
            "HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// A server on a port of its own, until it is dropped.
pub(crate) struct Fake {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

type Decide = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

impl Fake {
    /// Starts it, with a certificate under the CA in `tls`, which is made if there is none, with files for a client.
    pub(crate) fn start(
        tls: &Path,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(server_config(tls));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let over: Arc<AtomicBool> = Arc::default();
        let answer: Decide = Arc::new(answer);
        let (seen, ended) = (Arc::clone(&requests), Arc::clone(&over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = StreamOwned::new(connection, stream.unwrap());
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &answer));
            }
        });
        Self {
            port,
            requests,
            over,
        }
    }

    /// Its port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// How the tenant reaches it as its verifier.
    pub(crate) fn options(&self) -> String {
        format!("-v 127.0.0.1 -vp {}", self.port())
    }

    /// How the tenant reaches it as its registrar.
    pub(crate) fn registrar_options(&self) -> String {
        format!("-r 127.0.0.1 -rp {}", self.port())
    }

    /// The bodies of the requests of that kind.
    pub(crate) fn bodies(&self, method: &str, path: &str) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .filter(|request| request.method == method && request.path == path)
            .map(|request| request.body.clone())
            .collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the one that waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Answers one connection's requests until it ends.
fn serve(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    seen: &Mutex<Vec<Request>>,
    answer: &Decide,
) {
    while let Some(request) = read_request(&mut stream) {
        seen.lock().unwrap().push(request.clone());
        if stream
            .write_all(answer(&request).text().as_bytes())
            .is_err()
        {
            return;
        }
        let _ = stream.flush();
    }
}

fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = head.to_ascii_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |text| text.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn server_config(tls: &Path) -> ServerConfig {
    std::fs::create_dir_all(tls).unwrap();
    let file = |name: &str| tls.join(name);
    if !file("cacert.crt").exists() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(file("ca-private.pem"), key.serialize_pem()).unwrap();
        std::fs::write(file("cacert.crt"), certificate.pem()).unwrap();
        let (certificate, key) = leaf(tls);
        std::fs::write(file("client-cert.crt"), certificate.pem()).unwrap();
        std::fs::write(file("client-private.pem"), key.serialize_pem()).unwrap();
    }
    let (certificate, key) = leaf(tls);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap()
}

fn leaf(tls: &Path) -> (rcgen::Certificate, KeyPair) {
    let read = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("ca-private.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("cacert.crt"), ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap(), key)
}

/// A revocation log, signed by the notifier of a CA's directory.
pub(crate) struct Log {
    pub(crate) log_id: String,
    pub(crate) anchor: String,
    pub(crate) entries: Vec<Value>,
    /// How often somebody asked what came of an entry.
    pub(crate) asked: AtomicUsize,
    previous: String,
    key: rsa::PrivateKey,
}

impl Log {
    pub(crate) fn of(ca: &Path, anchor: &str) -> Self {
        let pem = std::fs::read_to_string(ca.join("RevocationNotifier-private.pem")).unwrap();
        Self {
            log_id: format!("{anchor}-0123456789abcdef"),
            anchor: anchor.to_owned(),
            entries: Vec::new(),
            asked: AtomicUsize::new(0),
            previous: "0".repeat(64),
            key: rsa::PrivateKey::from_pkcs8_pem(&pem).unwrap(),
        }
    }

    pub(crate) fn add(&mut self, node: &str, serial: &str, reason: &str) {
        let (number, time) = (self.entries.len() + 1, "2026-11-26T02:17:00Z");
        let msg = json!({
            "type": "revocation", "log_id": self.log_id, "number": number, "previous": self.previous, "time": time,
            "agent_id": node, "reason": reason, "cert_serial": serial,
        })
        .to_string();
        let digest = Sha256::digest(&msg);
        self.previous = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let padding = Pss::<Sha256>::new_with_salt(self.key.size() - 34);
        let mut rng = rand::rngs::SysRng;
        let signature = self.key.sign_with_rng(&mut rng, padding, &digest).unwrap();
        self.entries.push(json!({
            "number": number, "agent_id": node, "type": "revocation", "time": time, "reason": reason,
            "cert_serial": serial, "msg": msg, "signature": BASE64.encode(signature),
        }));
    }

    /// An entry as it will look once there is one.
    pub(crate) fn shape(&self) -> Value {
        json!({
            "number": 1, "agent_id": null, "type": "revocation", "time": "", "reason": "", "cert_serial": null,
            "msg": "", "signature": "",
        })
    }
}
