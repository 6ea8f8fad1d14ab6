//! A verifier that is played over plain connections: it gives a payload to one node whose TPM is in memory.

#[path = "archive.rs"]
mod archive;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::outbound::{Verify, VerifyError};
use agent_core::payload::halves::Key;
use agent_core::payload::release::{ReleaseKey, Terms, wrap};
use agent_core::payload::segment::{self, Binding, Segments};
use agent_core::secret::Secret;
use agent_core::tpm::{FakeTpm, Tpm, name_of};
use agent_core::wire::json::Value;
use agent_core::wire::manifest::{CapPcr, Deliver, Manifest, PayloadId};
use agent_core::wire::quote::HashAlg;
use agent_core::wire::receipt::Receipt;
use agent_core::wire::text::Uuid;
pub(crate) use archive::archive;

use agent_linux::net::stream::DeadlineStream;
use agent_linux::outbound::Connect;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

pub(crate) const SIGNER: &[u8] = b"certificate of the tenant";
const ID: PayloadId = PayloadId([7; 8]);
const U: [u8; 32] = [0x11; 32];
const V: [u8; 32] = [0x22; 32];

pub(crate) fn agent() -> Uuid {
    Uuid::parse("d432fbb3-d2f1-4a97-9ef7-75bd81c00000").unwrap()
}

/// A signature that a test can make: the hash of key and message.
pub(crate) struct Signatures;

impl Verify for Signatures {
    fn verify(&self, signer: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        match sha256(&[signer, message].concat()) == signature {
            true => Ok(()),
            false => Err(VerifyError::Mismatch),
        }
    }
}

/// Connects to the play.
pub(crate) struct ToPlay(pub(crate) u16);

impl Connect for ToPlay {
    type Stream = DeadlineStream;
    type Error = io::Error;

    fn connect(&mut self, until: Instant) -> io::Result<DeadlineStream> {
        let socket = TcpStream::connect(("127.0.0.1", self.0))?;
        DeadlineStream::new(socket, until.saturating_duration_since(Instant::now()))
    }

    fn limit(stream: &mut DeadlineStream, until: Instant) {
        stream.limit(until.saturating_duration_since(Instant::now()));
    }

    fn host(&self) -> &str {
        "verifier"
    }
}

/// What happens to one request of a kind, the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing.
    None,
    /// No answer comes to a request for this path's end, ever.
    Silence(&'static str),
    /// The sealed bytes break off in their middle.
    BrokenOff,
    /// The segments are sealed for another deposit, though their digest is the signed one.
    ForeignSegments,
    /// It asks for both logs, from line 1 on, and sends the evidence back, as Keylime's does.
    AsksForLogs,
}

/// The node's revocation log, as far as the verifier has it, and what it was told of it.
#[derive(Default)]
pub(crate) struct Revoked {
    /// Its name; a verifier without one doesn't know the routes.
    pub(crate) log_id: Option<String>,
    /// Bodies of entries, from number 1.
    pub(crate) entries: Vec<String>,
    /// Reports.
    pub(crate) outcomes: Vec<String>,
    /// A connection ends where entries are asked for.
    pub(crate) breaks: bool,
}

pub(crate) struct Play {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    pub(crate) receipts: Arc<Mutex<Vec<Receipt>>>,
    /// Bodies of attestations.
    pub(crate) attestations: Arc<Mutex<Vec<String>>>,
    pub(crate) revoked: Arc<Mutex<Revoked>>,
}

struct Server {
    manifest: String,
    u_blob: Vec<u8>,
    sealed: Vec<u8>,
    mishap: Mishap,
    requests: Arc<Mutex<Vec<String>>>,
    receipts: Arc<Mutex<Vec<Receipt>>>,
    attestations: Arc<Mutex<Vec<String>>>,
    revoked: Arc<Mutex<Revoked>>,
}

impl Play {
    /// A verifier with this payload, an archive, for the node with this TPM.
    pub(crate) fn with(tpm: &FakeTpm, script: &str, archive: &[u8], mishap: Mishap) -> Self {
        let key: Vec<u8> = U.iter().zip(V).map(|(u, v)| u ^ v).collect();
        let key = Key::from_slice(&key).unwrap();
        let sealed = seal(&key, archive, mishap);
        let u_blob = tpm.wrap(&U).to_vec();
        let agent = agent();
        let manifest = Manifest {
            ek_name: name_of(&tpm.identity().ek_public),
            ak_name: name_of(&tpm.identity().ak_public),
            payload_id: ID,
            floor: None,
            sealed_sha256: sha256(&sealed),
            sealed_bytes: u64::try_from(sealed.len()).unwrap(),
            auth_tag: key.auth_tag(agent.as_str().as_bytes()),
            u_blob_sha256: sha256(&u_blob),
            policy_sha256: [0; 32],
            cap: CapPcr::at_zero(15, HashAlg::Sha256),
            deliver: Deliver::PerBoot,
            script: Some(script.try_into().unwrap()),
            sealed_at: 0,
            last_good_seconds: None,
            agent,
        };
        let mut text = String::new();
        manifest.write(&mut text).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let play = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            requests: Arc::default(),
            receipts: Arc::default(),
            attestations: Arc::default(),
            revoked: Arc::default(),
        };
        let mut server = Server {
            manifest: text,
            u_blob,
            sealed,
            mishap,
            requests: Arc::clone(&play.requests),
            receipts: Arc::clone(&play.receipts),
            attestations: Arc::clone(&play.attestations),
            revoked: Arc::clone(&play.revoked),
        };
        let connections = Arc::clone(&play.connections);
        thread::spawn(move || {
            for socket in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                // It ends with the connection.
                let _ = server.serve(socket.unwrap());
            }
        });
        play
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Server {
    fn serve(&mut self, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        loop {
            let (line, head, body) = request(&mut socket)?;
            self.requests.lock().unwrap().push(line.clone());
            let path = line.split(' ').nth(1).unwrap();
            if matches!(self.mishap, Mishap::Silence(end) if path.ends_with(end)) {
                thread::sleep(Duration::from_secs(60));
            }
            if path.ends_with("/sealed") {
                self.send_sealed(&mut socket, &head)?;
                continue;
            }
            if path.contains("/revocations?") && self.revoked.lock().unwrap().breaks {
                return Ok(());
            }
            let (status, location, answer) = self.answer(&line, path, &body);
            let length = answer.len();
            write!(
                socket,
                "HTTP/1.1 {status} X\r\n{location}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{answer}"
            )?;
        }
    }

    fn send_sealed(&mut self, socket: &mut TcpStream, head: &str) -> io::Result<()> {
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("Range: bytes="));
        let from: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let whole = self.sealed.len();
        let rest = &self.sealed[from..];
        let status = if from > 0 { 206 } else { 200 };
        let length = rest.len();
        write!(
            socket,
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nContent-Range: bytes {from}-{}/{whole}\r\n\r\n",
            whole - 1
        )?;
        if self.mishap == Mishap::BrokenOff {
            self.mishap = Mishap::None;
            socket.write_all(&rest[..length / 2])?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        socket.write_all(rest)
    }

    fn answer(&self, line: &str, path: &str, body: &str) -> (u16, String, String) {
        let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
        let plain = |status, body: String| (status, String::new(), body);
        let challenge = base64(&[1; 16]);
        if line.starts_with("POST /v3.0/sessions ") {
            return plain(
                200,
                format!(
                    r#"{{"data":{{"id":"s1","attributes":{{"authentication_requested":[{{"authentication_type":"tpm_pop","chosen_parameters":{{"challenge":"{challenge}"}}}}]}}}}}}"#
                ),
            );
        }
        if path == "/v3.0/sessions/s1" {
            let pass = r#"{"data":{"attributes":{"evaluation":"pass","token":"t"}}}"#;
            return plain(200, pass.to_owned());
        }
        if path.ends_with("/payload") {
            let signature = sha256(&[SIGNER, self.manifest.as_bytes()].concat());
            return plain(
                200,
                format!(
                    r#"{{"payload_id":"{ID}","manifest":"{}","signature":"{}","signer":"{}","u_blob":"{}"}}"#,
                    base64(self.manifest.as_bytes()),
                    base64(&signature),
                    base64(SIGNER),
                    base64(&self.u_blob)
                ),
            );
        }
        if path.contains("/revocations") {
            let (status, body) = self.revoked.lock().unwrap().answer(path, body);
            return plain(status, body);
        }
        if path.contains("/attestations") {
            self.attestations.lock().unwrap().push(body.to_owned());
        }
        if path.ends_with("/attestations") {
            let logs = match self.mishap {
                Mishap::AsksForLogs => LOGS,
                _ => "",
            };
            let body = format!(
                r#"{{"data":{{"attributes":{{"evidence_requested":[{{"evidence_type":"tpm_quote","chosen_parameters":{{"challenge":"{challenge}","signature_scheme":"ecdsa","hash_algorithm":"sha256","selected_subjects":{{"sha256":[0]}}}}}}{logs}]}}}}}}"#
            );
            return (201, format!("Location: {path}/0\r\n"), body);
        }
        if path.ends_with("/attestations/0") {
            let echo = match self.mishap {
                Mishap::AsksForLogs => body,
                _ => "null",
            };
            let meta = r#"{"seconds_to_next_attestation":1}"#;
            return plain(202, format!(r#"{{"data":{echo},"meta":{meta}}}"#));
        }
        let root = Value::parse(body.as_bytes()).unwrap();
        let part = |name: &str| {
            let text = root.member(name).and_then(Value::text).unwrap();
            STANDARD.decode(text).unwrap()
        };
        if path.ends_with("/release") {
            let ephemeral = ReleaseKey::from_random(&Secret::zeroed(), &Secret::zeroed());
            let terms = Terms {
                agent: &agent(),
                challenge: &[1; 16],
                manifest: self.manifest.as_bytes(),
            };
            let release_key: [u8; 32] = part("release_key").try_into().unwrap();
            let v = wrap(&ephemeral, &release_key, &terms, &Secret::copy_of(&V)).unwrap();
            let v = base64(&v);
            return plain(200, format!(r#"{{"payload_id":"{ID}","v":"{v}"}}"#));
        }
        let receipt = Receipt::parse(&part("receipt")).unwrap();
        self.receipts.lock().unwrap().push(receipt);
        plain(201, "{}".to_owned())
    }
}

impl Revoked {
    fn answer(&mut self, path: &str, body: &str) -> (u16, String) {
        let Some(log_id) = &self.log_id else {
            return (404, "{}".to_owned());
        };
        if path.ends_with("/outcomes") {
            self.outcomes.push(body.to_owned());
            return (204, String::new());
        }
        let after = path.split_once("after=").unwrap().1;
        let from: usize = match path.contains(log_id) {
            true => after.parse().unwrap(),
            false => 0,
        };
        let last = self.entries.len();
        // Few at a time.
        let entries = self.entries[from.min(last)..last.min(from + 2)].join(",");
        let attributes = format!(r#"{{"log_id":"{log_id}","last":{last},"entries":[{entries}]}}"#);
        let data = format!(r#"{{"type":"revocations","attributes":{attributes}}}"#);
        (200, format!(r#"{{"data":{data}}}"#))
    }
}

const LOGS: &str = r#",{"evidence_type":"uefi_log","chosen_parameters":{"format":"application/octet-stream"}},{"evidence_type":"ima_log","chosen_parameters":{"starting_offset":1,"format":"text/plain"}}"#;

fn request(socket: &mut TcpStream) -> io::Result<(String, String, String)> {
    let mut head = String::new();
    let mut byte = [0];
    while !head.ends_with("\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(char::from(byte[0]));
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body)?;
    let line = head.lines().next().unwrap().to_owned();
    Ok((line, head, String::from_utf8(body).unwrap()))
}

fn seal(key: &Key, archive: &[u8], mishap: Mishap) -> Vec<u8> {
    let segments = Segments::of_plain(u64::try_from(archive.len()).unwrap()).unwrap();
    let agent = agent();
    let binding = Binding {
        agent: &agent,
        payload_id: match mishap {
            Mishap::ForeignSegments => PayloadId([8; 8]),
            _ => ID,
        },
        count: segments.count(),
    };
    let mut sealed = Vec::new();
    for (number, plain) in (0..).zip(archive.chunks(segment::SEGMENT_BYTES)) {
        let mut body = plain.to_vec();
        let tag = segment::seal(key, &binding, number, &mut body).unwrap();
        sealed.extend([&body[..], &tag].concat());
    }
    sealed
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
