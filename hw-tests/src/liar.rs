//! An agent that lies: it stands before a real one, and changes what that answers.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Result;
use crate::node;
use crate::raw::{Client, Reply};
use crate::site::fresh_address;

/// How the liar answers: given the request's path and what the real agent said.
pub type Lie = Box<dyn FnMut(&str, Reply) -> Reply + Send>;

/// A man in the middle whose certificate the verifier was told to expect.
pub struct Liar {
    address: Ipv4Addr,
    certificate: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    lie: Lie,
    heard: VecDeque<String>,
}

impl Liar {
    /// Stands before the agent that `behind` leads to.
    ///
    /// # Errors
    /// No address or certificate for it.
    pub fn before(behind: Client, lie: Lie) -> Result<Self> {
        let address = fresh_address();
        let listener = TcpListener::bind((address, node::PORT))?;
        let made = rcgen::generate_simple_self_signed(vec![address.to_string()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        let config = Arc::new(config);
        let shared = Arc::new(Mutex::new(Shared {
            lie,
            heard: VecDeque::new(),
        }));
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                let (config, shared, behind) =
                    (Arc::clone(&config), Arc::clone(&serving), behind.clone());
                // What ends a connection is the peer's business: the scenario looks at what the peer concludes.
                thread::spawn(move || serve(peer, config, &behind, &shared));
            }
        });
        Ok(Self {
            address,
            certificate: made.cert.pem(),
            shared,
        })
    }

    /// Where it listens, on the agent's port.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// From now on, tells another lie.
    pub fn now_tells(&self, lie: Lie) {
        lock(&self.shared).lie = lie;
    }

    /// Method and path of each request so far.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.shared).heard.iter().cloned().collect()
    }
}

fn serve(
    peer: TcpStream,
    config: Arc<ServerConfig>,
    behind: &Client,
    shared: &Mutex<Shared>,
) -> Result {
    peer.set_nodelay(true)?;
    let mut wire = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, peer));
    let mut agent = behind.connect()?;
    loop {
        let mut head = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if wire.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
            let end = line == "\r\n";
            head.push(line);
            if end {
                break;
            }
        }
        let mut body = vec![0; length];
        wire.read_exact(&mut body)?;
        let request = head
            .first()
            .map(|line| line.trim_end().trim_end_matches(" HTTP/1.1").to_owned());
        let request = request.unwrap_or_default();
        lock(shared).heard.push_back(request.clone());
        agent.write(head.concat().as_bytes())?;
        agent.write(&body)?;
        let truth = agent.reply()?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let Reply { status, body } = (lock(shared).lie)(&path, truth);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.get_mut()
            .write_all(format!("{head}{body}").as_bytes())?;
        wire.get_mut().flush()?;
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
