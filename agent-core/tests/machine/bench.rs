//! A shell around the agent's machine without socket, clock or TPM.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use agent_core::agent::{Agent, AgentConfig, Duty, Note, OpenedPayload, Peer};
use agent_core::drive::{AllLent, Buffers, Served, Shell, serve_one};
use agent_core::payload::halves::{Half, Key};
use agent_core::payload::seal::seal_single;
use agent_core::revocation::{
    Act, ActError, ActionEnd, ActionOutcome, Each, Full, Ledger, LogId, Message, Offer, Standing,
    Taken, Verify, VerifyError,
};
use agent_core::tpm::FakeTpm;
use agent_core::wire::log::LogKind;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersions;
use agent_core::wire::text::{Hex, Uuid};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use embedded_io::{ErrorKind, SeekFrom};

pub(crate) const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";
pub(crate) const MAX_SEALED: usize = 1024;
/// The name of the notifier's key, and how many messages wait for a payload.
pub(crate) const ANCHOR: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const MAX_KEPT: usize = 4;

/// A vault that is counted while it lives.
pub(crate) struct CountedVault {
    bytes: Vec<u8>,
    alive: Rc<Cell<usize>>,
}

impl AsRef<[u8]> for CountedVault {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for CountedVault {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for CountedVault {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// The shell.
pub(crate) struct Bench {
    parts: RefCell<(Agent<CountedVault>, FakeTpm)>,
    pub(crate) duties: RefCell<Vec<OpenedPayload<CountedVault>>>,
    pub(crate) notes: RefCell<Vec<Note>>,
    /// What was taken of revocations, the texts to act on, and how many more there is room for.
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) notices: RefCell<Vec<String>>,
    pub(crate) room: Cell<usize>,
    /// Messages that wait for a payload, and whether the notifier's certificate is there.
    pub(crate) kept: RefCell<Vec<(String, Vec<u8>)>>,
    pub(crate) has_anchor: Cell<bool>,
    /// Entries whose actions have ended: log, number, and how many there were.
    pub(crate) ended: RefCell<Vec<(LogId, u64, usize)>>,
    pub(crate) vaults: Rc<Cell<usize>>,
    pub(crate) most_vaults: Cell<usize>,
    /// The logs that the node has, if any.
    pub(crate) logs: Option<Lend>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::speaking(ApiVersions::all())
    }

    pub(crate) fn speaking(versions: ApiVersions) -> Self {
        let config = AgentConfig {
            uuid: Uuid::parse(UUID).unwrap(),
            versions,
            bank: HashAlg::Sha256,
            scheme: SignAlg::Ecdsa,
            ak_handle: 0,
            max_sealed_bytes: MAX_SEALED,
            max_unpacked_bytes: 4096,
        };
        Self {
            parts: RefCell::new((Agent::new(config), FakeTpm::new(1))),
            duties: RefCell::default(),
            notes: RefCell::default(),
            ledger: RefCell::new({
                let mut ledger = Ledger::new();
                ledger.land(None);
                ledger
            }),
            notices: RefCell::default(),
            room: Cell::new(usize::MAX),
            kept: RefCell::default(),
            has_anchor: Cell::new(true),
            ended: RefCell::default(),
            vaults: Rc::default(),
            most_vaults: Cell::default(),
            logs: None,
        }
    }

    pub(crate) fn tpm<R>(&self, step: impl FnOnce(&mut FakeTpm) -> R) -> R {
        step(&mut self.parts.borrow_mut().1)
    }

    /// One connection: everything that a peer sends, everything that it gets.
    pub(crate) fn connection(&self, sent: &[u8]) -> (Vec<Answer>, Served) {
        self.connection_of(Peer::Tenant, sent, usize::MAX)
    }

    pub(crate) fn connection_of(
        &self,
        peer: Peer,
        sent: &[u8],
        piece: usize,
    ) -> (Vec<Answer>, Served) {
        let mut wire = Wire {
            sent,
            piece,
            got: Vec::new(),
        };
        let mut buffers = Buffers::default();
        loop {
            let served = serve_one(&mut wire, self, peer, &mut buffers).unwrap();
            if served != Served::Keep {
                return (Answer::all(&wire.got), served);
            }
        }
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        one(self.connection(request.as_bytes()).0)
    }

    pub(crate) fn post(&self, target: &str, body: &str) -> Answer {
        one(self.connection(post(target, body).as_bytes()).0)
    }

    pub(crate) fn ukey(&self, delivery: &Delivery) -> Answer {
        self.post("/v2.6/keys/ukey", &self.ukey_body(delivery))
    }

    pub(crate) fn ukey_body(&self, delivery: &Delivery) -> String {
        let u = self.tpm(|tpm| tpm.encrypt(&[delivery.u; 32]));
        let u = STANDARD.encode(u);
        let tag = delivery.key().auth_tag(UUID.as_bytes());
        let payload = match &delivery.payload {
            Some(_) => format!(r#","payload":"{}""#, STANDARD.encode(delivery.sealed())),
            None => String::new(),
        };
        format!(
            r#"{{"encrypted_key":"{u}","auth_tag":"{}"{payload}}}"#,
            Hex(&tag)
        )
    }

    pub(crate) fn vkey(&self, delivery: &Delivery) -> Answer {
        let v = self.tpm(|tpm| tpm.encrypt(&[delivery.v; 32]));
        let v = STANDARD.encode(v);
        self.post("/v2.6/keys/vkey", &format!(r#"{{"encrypted_key":"{v}"}}"#))
    }

    /// A V half of 16 bytes, where all others have 32.
    pub(crate) fn short_vkey(&self) -> Answer {
        let v = self.tpm(|tpm| tpm.encrypt(&[1; 16]));
        let v = STANDARD.encode(v);
        self.post("/v2.6/keys/vkey", &format!(r#"{{"encrypted_key":"{v}"}}"#))
    }

    /// The stage that the outcome route tells.
    pub(crate) fn stage(&self) -> String {
        self.get("/v2.6/payload/outcome").text("stage")
    }

    /// Whether a key check answers for this delivery's key.
    pub(crate) fn verifies(&self, delivery: &Delivery) -> bool {
        let answer = self.get("/v2.6/keys/verify?challenge=abc");
        let right = Hex(&delivery.key().auth_tag(b"abc")).to_string();
        answer.status == 200 && answer.text("hmac") == right
    }

    /// The work that was handed over, as plaintexts.
    pub(crate) fn opened(&self) -> Vec<Vec<u8>> {
        let duties = self.duties.borrow();
        duties
            .iter()
            .map(|duty| duty.plaintext().to_vec())
            .collect()
    }

    /// Does the work: everything is unpacked, no script.
    pub(crate) fn work(&self) {
        self.end_work(true);
    }

    /// Does the work, or fails at it.
    pub(crate) fn end_work(&self, succeeds: bool) {
        for duty in self.duties.take() {
            self.with_agent(|agent, _| {
                agent.unpacked(duty.number());
                if succeeds {
                    agent.finished(duty.number(), None);
                } else {
                    agent.failed(duty.number(), "no script");
                }
            });
        }
    }
}

impl Verify for Bench {
    fn verify(&self, _: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        match signature {
            _ if !self.has_anchor.get() => Err(VerifyError::NoAnchor),
            b"good" => Ok(()),
            _ => Err(VerifyError::Mismatch),
        }
    }
}

impl Act for Bench {
    fn act(&self, message: &Message, text: &str) -> Result<Taken, ActError> {
        let mut ledger = self.ledger.borrow_mut();
        Ok(
            match ledger.offer(ANCHOR, message).map_err(ActError::Refused)? {
                Offer::Take => {
                    let room = self.room.get().checked_sub(1);
                    self.room.set(room.ok_or(ActError::Full)?);
                    ledger.take(message);
                    self.notices.borrow_mut().push(text.to_owned());
                    Taken::Acting
                }
                Offer::Known => Taken::Known,
                Offer::Ahead => Taken::Ahead,
                Offer::Early => Taken::Early,
            },
        )
    }

    fn keep(&self, text: &str, signature: &[u8]) -> Result<(), Full> {
        let mut kept = self.kept.borrow_mut();
        let one = (text.to_owned(), signature.to_owned());
        if kept.contains(&one) {
            return Ok(());
        }
        if kept.len() == MAX_KEPT {
            return Err(Full);
        }
        kept.push(one);
        Ok(())
    }

    fn standing(&self, of: Option<&LogId>) -> Standing {
        self.ledger.borrow().standing(of)
    }

    fn outcomes(&self, of: &LogId, after: u64, each: &mut Each<'_>) {
        for (log_id, number, actions) in self.ended.borrow().iter() {
            let action = ActionOutcome {
                name: "local_action_x",
                end: ActionEnd::Exited { code: 0 },
                duration_ms: 2,
            };
            let mut actions = std::iter::repeat_n(action, *actions);
            if log_id == of && *number > after && !each(*number, &mut actions) {
                return;
            }
        }
    }
}

impl Shell for Bench {
    type Vault = CountedVault;
    type Tpm = FakeTpm;
    type Log = Log;

    fn log(&self, kind: LogKind) -> Result<Option<Log>, AllLent> {
        let Some(lend) = &self.logs else {
            return Ok(None);
        };
        Ok(lend(kind)?.map(Log))
    }

    fn with_agent<R>(&self, step: impl FnOnce(&mut Agent<CountedVault>, &mut FakeTpm) -> R) -> R {
        let (agent, tpm) = &mut *self.parts.borrow_mut();
        step(agent, tpm)
    }

    fn vault(&self, bytes: usize) -> Option<CountedVault> {
        assert!(bytes <= MAX_SEALED);
        self.vaults.set(self.vaults.get() + 1);
        self.most_vaults
            .set(self.most_vaults.get().max(self.vaults.get()));
        Some(CountedVault {
            bytes: vec![0; bytes],
            alive: Rc::clone(&self.vaults),
        })
    }

    fn start(&self, duty: Duty<CountedVault>) {
        let Duty::Unpack(opened) = duty;
        self.duties.borrow_mut().push(opened);
    }

    fn note(&self, note: &Note) {
        self.notes.borrow_mut().push(note.clone());
    }
}

/// A log that a test has made.
pub(crate) trait Scripted {
    fn seek(&mut self, at: u64);
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind>;
}

/// What the node lends when it is asked for a log.
pub(crate) type Lend = Box<dyn Fn(LogKind) -> Result<Option<Box<dyn Scripted>>, AllLent>>;

pub(crate) struct Log(pub(crate) Box<dyn Scripted>);

impl embedded_io::ErrorType for Log {
    type Error = ErrorKind;
}

impl embedded_io::Read for Log {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(buffer)
    }
}

impl embedded_io::Seek for Log {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, ErrorKind> {
        let SeekFrom::Start(at) = to else {
            panic!("{to:?}");
        };
        self.0.seek(at);
        Ok(at)
    }
}

/// What a tenant delivers: K is 32 times u ^ v.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) u: u8,
    pub(crate) v: u8,
    pub(crate) payload: Option<Vec<u8>>,
}

impl Delivery {
    pub(crate) fn new(n: u8) -> Self {
        Self {
            u: n,
            v: n ^ n.wrapping_mul(7).wrapping_add(101),
            payload: Some(format!("payload {n}").into_bytes()),
        }
    }

    pub(crate) fn key(&self) -> Key {
        let half = |byte| Half::from_slice(&[byte; 32]).unwrap();
        half(self.u).combine(&half(self.v)).unwrap()
    }

    pub(crate) fn sealed(&self) -> Vec<u8> {
        let nonce = [9; 16];
        let mut text = self.payload.clone().unwrap();
        let tag = seal_single(&self.key(), &nonce, &mut text).unwrap();
        [&nonce[..], &text, &tag].concat()
    }
}

pub(crate) fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A body with a message that the notifier has signed.
pub(crate) fn notice(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(r#"{{"msg":"{text}","signature":"Z29vZA=="}}"#)
}

/// A log of the notifier.
pub(crate) fn log_id(log: u8) -> LogId {
    LogId::parse(&format!("{ANCHOR}-{log:016x}")).unwrap()
}

/// An entry that follows those before it.
pub(crate) fn entry(log: u8, number: u64) -> String {
    let log_id = log_id(log);
    let previous = Hex(&digest(log, number - 1)).to_string();
    format!(
        r#"{{"type":"revocation","agent_id":"node","log_id":"{log_id}","number":{number},"previous":"{previous}"}}"#
    )
}

/// SHA-256 of an entry.
pub(crate) fn digest(log: u8, number: u64) -> [u8; 32] {
    if number == 0 {
        return [0; 32];
    }
    match Message::read(&entry(log, number)) {
        Ok(Message::Entry(entry)) => entry.digest,
        other => panic!("{other:?}"),
    }
}

/// An answer as a peer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) closes: bool,
    pub(crate) body: String,
}

impl Answer {
    /// All answers of a connection; `100 Continue` is one without a body, and one that broke off is none.
    fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut answers = Vec::new();
        while !bytes.is_empty() {
            let end = find(bytes, b"\r\n\r\n").expect("a whole head") + 4;
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            let length = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() < end + length {
                break;
            }
            answers.push(Self {
                status: head[9..12].parse().unwrap(),
                closes: head.contains("Connection: close\r\n"),
                body: String::from_utf8(bytes[end..end + length].to_vec()).unwrap(),
            });
            bytes = &bytes[end + length..];
        }
        answers
    }

    /// A string of the body, unescaped as far as `\n` goes.
    pub(crate) fn text(&self, name: &str) -> String {
        let start = format!("\"{name}\":\"");
        let (_, rest) = self
            .body
            .split_once(&start)
            .unwrap_or_else(|| panic!("{name} in {}", self.body));
        rest.split('"').next().unwrap().replace("\\n", "\n")
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

fn one(mut answers: Vec<Answer>) -> Answer {
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

/// What goes over a connection, in pieces.
struct Wire<'a> {
    sent: &'a [u8],
    piece: usize,
    got: Vec<u8>,
}

impl embedded_io::ErrorType for Wire<'_> {
    type Error = Infallible;
}

impl embedded_io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let length = self.sent.len().min(buffer.len()).min(self.piece);
        let (now, later) = self.sent.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.sent = later;
        Ok(length)
    }
}

impl embedded_io::Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.got.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
