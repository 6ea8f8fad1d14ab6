//! A man in the middle with a certificate of his own: he passes requests and answers on, keeps them, and may lie.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Result;
use crate::machine::Machine;
use crate::raw::{Client, Reply};
use crate::servers::ca_file;

/// How a relay answers: given the request's path and what was said behind it.
pub type Lie = Box<dyn FnMut(&str, Reply) -> Reply + Send>;

/// Tells the truth.
pub fn honest() -> Lie {
    Box::new(|_, truth| truth)
}

/// A request and what was answered to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The request's body.
    pub body: String,
    /// The answer, as the asker got it.
    pub answer: Reply,
}

/// What a relay shows to those who connect.
pub struct Front(Option<Arc<ServerConfig>>);

impl Front {
    /// Plain HTTP.
    pub fn plain() -> Self {
        Self(None)
    }

    /// TLS with a certificate that vouches for itself, and that certificate in PEM.
    ///
    /// # Errors
    /// None that can be provoked.
    pub fn self_signed(address: Ipv4Addr) -> Result<(Self, String)> {
        let made = rcgen::generate_simple_self_signed(vec![address.to_string()])?;
        let front = Self::tls(made.cert.der().clone(), &made.signing_key)?;
        Ok((front, made.cert.pem()))
    }

    /// TLS with a server's certificate by the `cv_ca` that keyhalf made on this machine.
    ///
    /// # Errors
    /// There is none, or its key isn't in it.
    pub fn under_ca_of(machine: &Machine, address: Ipv4Addr) -> Result<Self> {
        let ca = fs::read_to_string(ca_file(machine, "cacert.crt"))?;
        let ca_key = KeyPair::from_pem(&fs::read_to_string(ca_file(machine, "ca-private.pem"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&ca, ca_key)?;
        let key = KeyPair::generate()?;
        let made = CertificateParams::new(vec![address.to_string()])?.signed_by(&key, &issuer)?;
        Self::tls(made.der().clone(), &key)
    }

    fn tls(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Self> {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())?;
        Ok(Self(Some(Arc::new(config))))
    }
}

/// A relay at work; it serves until the process ends.
pub struct Relay {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    lie: Lie,
    heard: Vec<Exchange>,
    connections: usize,
}

impl Relay {
    /// Listens, and passes on to the server that `behind` leads to.
    ///
    /// # Errors
    /// The place is taken.
    pub fn open(at: (Ipv4Addr, u16), front: Front, behind: Client, lie: Lie) -> Result<Self> {
        let listener = TcpListener::bind(at)?;
        let heard = Vec::new();
        let shared = Arc::new(Mutex::new(Shared {
            lie,
            heard,
            connections: 0,
        }));
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                lock(&serving).connections += 1;
                let (front, shared, behind) =
                    (front.0.clone(), Arc::clone(&serving), behind.clone());
                // What ends a connection is the peer's business: the scenario looks at what the peer concludes.
                thread::spawn(move || accept(peer, front, &behind, &shared));
            }
        });
        Ok(Self { shared })
    }

    /// From now on, tells another lie.
    pub fn now_tells(&self, lie: Lie) {
        lock(&self.shared).lie = lie;
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        lock(&self.shared).connections
    }

    /// What was asked and answered so far.
    pub fn heard(&self) -> Vec<Exchange> {
        lock(&self.shared).heard.clone()
    }
}

fn accept(
    peer: TcpStream,
    front: Option<Arc<ServerConfig>>,
    behind: &Client,
    shared: &Mutex<Shared>,
) -> Result {
    peer.set_nodelay(true)?;
    match front {
        None => serve(peer, behind, shared),
        Some(config) => {
            let wire = StreamOwned::new(ServerConnection::new(config)?, peer);
            serve(wire, behind, shared)
        }
    }
}

fn serve(wire: impl Read + Write, behind: &Client, shared: &Mutex<Shared>) -> Result {
    let mut wire = BufReader::new(wire);
    let mut server = behind.connect()?;
    while let Some(request) = Incoming::read(&mut wire)? {
        server.write(request.head.as_bytes())?;
        server.write(&request.body)?;
        let truth = server.reply()?;
        let mut shared = lock(shared);
        let answer = (shared.lie)(&request.path, truth);
        let (whole, is_cut) = (written(&answer), answer.cut_after.is_some());
        shared.heard.push(Exchange {
            method: request.method,
            path: request.path,
            body: String::from_utf8_lossy(&request.body).into_owned(),
            answer,
        });
        drop(shared);
        wire.get_mut().write_all(&whole)?;
        wire.get_mut().flush()?;
        if is_cut {
            return Ok(());
        }
    }
    Ok(())
}

/// An answer as it goes to the asker: the truth byte by byte, unless its text was changed.
fn written(answer: &Reply) -> Vec<u8> {
    let is_true = answer.body == String::from_utf8_lossy(&answer.bytes);
    let body = if is_true {
        answer.bytes.as_slice()
    } else {
        answer.body.as_bytes()
    };
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    let of_this_connection = ["content-length", "connection", "transfer-encoding"];
    for (name, value) in &answer.fields {
        if !of_this_connection.contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let until = answer.cut_after.unwrap_or(body.len()).min(body.len());
    [head.as_bytes(), &body[..until]].concat()
}

/// A request on its way through.
struct Incoming {
    head: String,
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Incoming {
    /// The next request of a connection, if the peer hasn't closed it.
    fn read(wire: &mut impl BufRead) -> Result<Option<Self>> {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if wire.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        wire.read_exact(&mut body)?;
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next(), words.next());
        Ok(Some(Self {
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            head,
            body,
        }))
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
