//! What surrounds agent-core here: a shell without sockets or threads, a stream in memory, a TPM in memory.

use core::cell::{Cell, RefCell};
use core::fmt::{Display, Write};

use agent_core::agent::{Agent, AgentConfig, Duty, Note, OpenedPayload, Peer};
use agent_core::drive::{AllLent, Buffers, Served, Shell, serve_one};
use agent_core::http::emit::{self, Asking, Media, Verb};
use agent_core::http::head::AnswerHead;
use agent_core::outbound::{Mode, Outbound, OutboundConfig, Pace};
use agent_core::payload::halves::{Half, Key};
use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::TAG_BYTES;
use agent_core::revocation::{
    Act, ActError, ActionEnd, ActionOutcome, Each, Full, Ledger, LogId, MAX_MESSAGE_BYTES, Message,
    Offer, Standing, Taken, Verify, VerifyError,
};
use agent_core::tpm::FakeTpm;
use agent_core::wire::log::LogKind;
use agent_core::wire::push::MAX_BODY_BYTES;
use agent_core::wire::quote::{HashAlg, QuoteBuffer, SignAlg};
use agent_core::wire::register::MAX_BLOB_BYTES;
use agent_core::wire::route::ApiVersions;
use agent_core::wire::text::Uuid;
use embedded_io::{ErrorKind, SeekFrom};

/// The node that all this is about.
pub const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

/// Segments so short that headers straddle them.
pub const SEGMENT_BYTES: usize = 64;

/// Room for the payloads of a whole walk: none of it is used twice.
pub const VAULT_BYTES: usize = 8 * 1024;

/// An agent, its peers, and the memory that they lend.
pub struct World<'m> {
    pub node: Node<'m>,
    pub buffers: Buffers,
    pub inflater: Inflater,
    pub quote: QuoteBuffer,
    pub blob: [u8; MAX_BLOB_BYTES],
    /// Nonce, ciphertext and tag of the payload, or its segments.
    pub sealed: heapless::Vec<u8, 2048>,
    /// Where a segment is opened.
    pub vault: [u8; SEGMENT_BYTES + TAG_BYTES],
    /// Where an archive's directory lies.
    pub room: [u8; 1024],
    /// The body that is sent next.
    pub body: heapless::String<4096>,
    /// Where a revocation is read to.
    pub message: [u8; MAX_MESSAGE_BYTES],
    /// An agent that calls, its TPM, and its next body.
    pub outbound: Outbound,
    pub tpm: FakeTpm,
    pub outgoing: heapless::String<MAX_BODY_BYTES>,
    sent: heapless::String<8192>,
    pub got: heapless::Vec<u8, { 12 * 1024 }>,
}

impl<'m> World<'m> {
    /// A world in which nothing has happened yet.
    pub fn new(memory: &'m mut [u8]) -> Option<Self> {
        Some(Self {
            node: Node::new(memory)?,
            buffers: Buffers::default(),
            inflater: Inflater::new(),
            quote: QuoteBuffer::default(),
            blob: [0; MAX_BLOB_BYTES],
            sealed: heapless::Vec::new(),
            vault: [0; SEGMENT_BYTES + TAG_BYTES],
            room: [0; 1024],
            body: heapless::String::new(),
            message: [0; MAX_MESSAGE_BYTES],
            outbound: Outbound::new(outbound_config()?),
            tpm: FakeTpm::new(1),
            outgoing: heapless::String::new(),
            sent: heapless::String::new(),
            got: heapless::Vec::new(),
        })
    }

    /// A request without a body, and the status of its answer.
    pub fn get(&mut self, target: &str, status: u16) -> Option<()> {
        self.body.clear();
        self.ask(Verb::Get, target, status)
    }

    /// A request with the body that stands ready.
    pub fn post(&mut self, target: &str, status: u16) -> Option<()> {
        self.ask(Verb::Post, target, status)
    }

    fn ask(&mut self, verb: Verb, target: &str, status: u16) -> Option<()> {
        self.sent.clear();
        self.got.clear();
        let asking = Asking {
            verb,
            path: target,
            host: "node",
            token: None,
            media: Media::Json,
            from: 0,
            length: self.body.len(),
        };
        emit::request_head(&mut self.sent, &asking).ok()?;
        self.sent.push_str(&self.body).ok()?;
        let mut wire = Wire {
            coming: self.sent.as_bytes(),
            got: &mut self.got,
        };
        let served = serve_one(&mut wire, &self.node, Peer::Tenant, &mut self.buffers).ok()?;
        let (head, _) = AnswerHead::parse(&self.got).ok()??;
        (served == Served::Keep && head.status == status).then_some(())
    }

    /// A text of the last answer's body, as it stands.
    pub fn answered(&self, name: &str) -> Option<&str> {
        text_of(&self.got, name)
    }
}

fn outbound_config() -> Option<OutboundConfig> {
    Some(OutboundConfig {
        mode: Mode::Provision,
        agent: Uuid::parse(UUID)?,
        sign: SignAlg::Ecdsa,
        hash: HashAlg::Sha256,
        signers: heapless::Vec::new(),
        counter: None,
        max_sealed_bytes: 2048,
        boot_time: 0,
        last_good: true,
        pace: Pace {
            first_ms: 10,
            last_ms: 100,
        },
    })
}

/// The first text with this name in an answer, as it stands.
pub fn text_of<'a>(answer: &'a [u8], name: &str) -> Option<&'a str> {
    let found = |at| {
        answer
            .get(at..)?
            .strip_prefix(name.as_bytes())?
            .strip_prefix(b"\":\"")
    };
    let rest = (0..answer.len()).find_map(found)?;
    let value = rest.split(|byte| *byte == b'"').next()?;
    core::str::from_utf8(value).ok()
}

/// Replaces what stands in a buffer.
pub fn put<const N: usize>(out: &mut heapless::String<N>, text: impl Display) -> Option<()> {
    out.clear();
    write!(out, "{text}").ok()
}

/// The key of this walk and its halves.
pub fn halves() -> Option<(Half, Half, Key)> {
    let key = Key::from_slice(&[0xA5; 32]).ok()?;
    let v = Half::from_slice(&[0x0F; 32]).ok()?;
    Some((key.other_half(&v).ok()?, v, key))
}

/// The shell.
pub struct Node<'m> {
    parts: RefCell<(Agent<&'m mut [u8]>, FakeTpm)>,
    memory: Cell<&'m mut [u8]>,
    opened: Cell<Option<OpenedPayload<&'m mut [u8]>>>,
    /// Notes that an operator should see, and notices that were acted on.
    pub warnings: Cell<usize>,
    pub notices: Cell<usize>,
    ledger: RefCell<Ledger>,
    /// Whether it has logs.
    pub logs: Cell<bool>,
}

impl<'m> Node<'m> {
    fn new(memory: &'m mut [u8]) -> Option<Self> {
        let config = AgentConfig {
            uuid: Uuid::parse(UUID)?,
            versions: ApiVersions::all(),
            bank: HashAlg::Sha256,
            scheme: SignAlg::Ecdsa,
            ak_handle: 0,
            max_sealed_bytes: 2048,
            max_unpacked_bytes: 4096,
        };
        let mut ledger = Ledger::new();
        ledger.land(None);
        Some(Self {
            parts: RefCell::new((Agent::new(config), FakeTpm::new(1))),
            memory: Cell::new(memory),
            opened: Cell::new(None),
            warnings: Cell::new(0),
            notices: Cell::new(0),
            ledger: RefCell::new(ledger),
            logs: Cell::new(false),
        })
    }

    /// A look into its ledger, or a change of it.
    pub fn ledger<R>(&self, step: impl FnOnce(&mut Ledger) -> R) -> Option<R> {
        Some(step(&mut *self.ledger.try_borrow_mut().ok()?))
    }

    /// The work that was handed over.
    pub fn opened(&self) -> Option<OpenedPayload<&'m mut [u8]>> {
        self.opened.take()
    }
}

impl<'m> Shell for Node<'m> {
    type Vault = &'m mut [u8];
    type Tpm = FakeTpm;
    type Log = Log;

    fn log(&self, kind: LogKind) -> Result<Option<Log>, AllLent> {
        Ok(self.logs.get().then(|| Log::new(kind)))
    }

    fn with_agent<R>(&self, step: impl FnOnce(&mut Agent<Self::Vault>, &mut FakeTpm) -> R) -> R {
        // A lock that nobody else ever holds.
        loop {
            if let Ok(mut parts) = self.parts.try_borrow_mut() {
                let (agent, tpm) = &mut *parts;
                return step(agent, tpm);
            }
        }
    }

    fn vault(&self, bytes: usize) -> Option<&'m mut [u8]> {
        let (vault, rest) = self.memory.take().split_at_mut_checked(bytes)?;
        self.memory.set(rest);
        Some(vault)
    }

    fn start(&self, Duty::Unpack(opened): Duty<Self::Vault>) {
        self.opened.set(Some(opened));
    }

    fn note(&self, note: &Note) {
        let mut line = heapless::String::<256>::new();
        if note.is_warning() && put(&mut line, note).is_some() {
            self.warnings.set(self.warnings.get().saturating_add(1));
        }
    }
}

impl Verify for Node<'_> {
    fn verify(&self, _: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        if signature == b"good" {
            Ok(())
        } else {
            Err(VerifyError::Mismatch)
        }
    }
}

impl Act for Node<'_> {
    fn act(&self, message: &Message, _: &str) -> Result<Taken, ActError> {
        let shown = self.ledger(|ledger| {
            let offer = ledger.offer(ANCHOR, message).map_err(ActError::Refused)?;
            Ok(match offer {
                Offer::Take => {
                    ledger.take(message);
                    self.notices.set(self.notices.get().saturating_add(1));
                    Taken::Acting
                }
                Offer::Known => Taken::Known,
                Offer::Ahead => Taken::Ahead,
                Offer::Early => Taken::Early,
            })
        });
        shown.unwrap_or(Err(ActError::Full))
    }

    fn keep(&self, _: &str, _: &[u8]) -> Result<(), Full> {
        Err(Full)
    }

    fn standing(&self, of: Option<&LogId>) -> Standing {
        let standing = self.ledger(|ledger| ledger.standing(of));
        standing.unwrap_or(Standing {
            log_id: None,
            position: 0,
            wanted: 1,
        })
    }

    fn outcomes(&self, _: &LogId, after: u64, each: &mut Each<'_>) {
        let action = ActionOutcome {
            name: "update-crl",
            end: ActionEnd::Exited { code: 0 },
            duration_ms: 2,
        };
        if after == 0 {
            each(1, &mut core::iter::once(action));
        }
    }
}

/// The name of the notifier's key.
const ANCHOR: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A log in memory.
pub struct Log {
    bytes: &'static [u8],
    at: usize,
}

impl Log {
    pub const fn new(kind: LogKind) -> Self {
        let bytes: &[u8] = match kind {
            LogKind::Ima => {
                b"10 aa ima-ng sha256:bb boot_aggregate\n10 cc ima-ng sha256:dd /g\xC3\xBCn\xFF\n"
            }
            LogKind::Boot => b"events",
        };
        Self { bytes, at: 0 }
    }
}

impl embedded_io::ErrorType for Log {
    type Error = ErrorKind;
}

impl embedded_io::Read for Log {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        buffer
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        let read = rest.len().min(buffer.len());
        self.at = self.at.saturating_add(read);
        Ok(read)
    }
}

impl embedded_io::Seek for Log {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, ErrorKind> {
        let SeekFrom::Start(at) = to else {
            return Err(ErrorKind::Unsupported);
        };
        self.at = usize::try_from(at).map_err(|_| ErrorKind::InvalidInput)?;
        Ok(at)
    }
}

/// A connection: what comes, and what went.
pub struct Wire<'a, const N: usize> {
    pub coming: &'a [u8],
    pub got: &'a mut heapless::Vec<u8, N>,
}

impl<const N: usize> embedded_io::ErrorType for Wire<'_, N> {
    type Error = ErrorKind;
}

impl<const N: usize> embedded_io::Read for Wire<'_, N> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let bytes = self.coming.len().min(buffer.len());
        let (Some((now, later)), Some(room)) =
            (self.coming.split_at_checked(bytes), buffer.get_mut(..bytes))
        else {
            return Err(ErrorKind::Other);
        };
        room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        self.coming = later;
        Ok(bytes)
    }
}

impl<const N: usize> embedded_io::Write for Wire<'_, N> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let written = self.got.extend_from_slice(bytes);
        written.map_err(|_| ErrorKind::OutOfMemory)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
