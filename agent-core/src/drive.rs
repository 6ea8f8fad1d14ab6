//! Drives the agent over a byte stream: the one module that knows `embedded_io`.
//!
//! The agent is held for a step at a time, never while bytes come or go, so a slow peer delays nobody else. How long a peer
//! may take is for the stream to say: its reads and writes fail when a deadline has passed.

mod answer;
mod call;
mod input;
mod logs;

use embedded_io::{Read, Seek, Write};
use heapless::string::StringView;

use crate::agent::{
    Agent, Duty, Lease, MAX_ANSWER_BYTES, Note, Outcome, Peer, Plan, Refusal, Request, refuse,
};
use crate::http::Status;
use crate::http::body::Body;
use crate::http::emit::CONTINUE;
use crate::http::head::{After, HeadError, Length, RequestHead};
use crate::revocation::{Act, NoticeForm};
use crate::tpm::Tpm;
use crate::wire::form::{FormError, UKeyForm, VKeyForm};
use crate::wire::log::{Attached, LogKind};
use crate::wire::route::Route;

use answer::{refuse_unread, write_answer, write_with_logs};

pub use crate::http::Answer;
pub use call::{
    Call, CallError, Download, DownloadError, Downloaded, Enclosed, EnclosedError, call,
    call_with_logs, download,
};
use input::{Input, Message};
pub use logs::{LogFault, Logs};

/// What surrounds the agent.
pub trait Shell: Act {
    /// Memory for a sealed payload, wiped when it is dropped.
    type Vault: AsRef<[u8]> + AsMut<[u8]>;
    /// The TPM.
    type Tpm: Tpm;
    /// A log of this boot, which reads from where it was left or sought to.
    type Log: Read + Seek;

    /// Runs one step on the agent and the TPM, which nobody else holds meanwhile.
    fn with_agent<R>(&self, step: impl FnOnce(&mut Agent<Self::Vault>, &mut Self::Tpm) -> R) -> R;

    /// A vault of this size, if there is room.
    fn vault(&self, bytes: usize) -> Option<Self::Vault>;

    /// Hands over work; it must not wait for its end.
    fn start(&self, duty: Duty<Self::Vault>);

    /// Writes to the log.
    fn note(&self, note: &Note);

    /// Lends a log of this boot; none if the node doesn't have it. It is read while a peer takes its time, so it is nobody
    /// else's until it is dropped.
    ///
    /// # Errors
    /// [`AllLent`].
    fn log(&self, kind: LogKind) -> Result<Option<Self::Log>, AllLent>;
}

/// Others read the log: one has to be dropped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllLent;

/// What one connection needs, about 48 KiB, and what of the next request has come already.
#[derive(Default)]
pub struct Buffers {
    input: Input,
    message: Message,
    answer: heapless::String<MAX_ANSWER_BYTES>,
}

impl Buffers {
    /// Whether bytes of the next request have come already.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.input.arrived().is_empty()
    }
}

/// What is left to do on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Serve the next request.
    Keep,
    /// Close it.
    Close,
    /// Close it, with bytes of the peer still unread: a peer that is still sending sees the answer only if they are read
    /// and thrown away for a while.
    CloseUnread,
    /// The peer has closed it, before a request or in the middle of one, or an answer broke off: drop it.
    Gone,
}

impl Served {
    const fn after(after: After) -> Self {
        match after {
            After::Keep => Self::Keep,
            After::Close => Self::Close,
        }
    }
}

/// Serves one request of a connection.
///
/// # Errors
/// The stream's; the connection can't be used any more. A payload that was coming is gone, the agent is as it was.
pub fn serve_one<S: Shell, C: Read + Write>(
    io: &mut C,
    shell: &S,
    peer: Peer,
    buffers: &mut Buffers,
) -> Result<Served, C::Error> {
    let Buffers {
        input,
        message,
        answer,
    } = buffers;
    let head = loop {
        match Head::parse(input.arrived(), shell, peer) {
            Ok(Some(head)) => break head,
            Ok(None) if input.is_full() => {
                let refusal = Refusal::Head(HeadError::TooLarge);
                return refuse_unread(io, refusal, answer);
            }
            Ok(None) => {
                if !input.fill(io)? {
                    return Ok(Served::Gone);
                }
            }
            Err(error) => return refuse_unread(io, Refusal::Head(error), answer),
        }
    };
    input.consume(head.size);
    let mut incoming = head.incoming;
    let collected = match head.planned {
        Planned::Answer(route) => Collected::Whole(Request::Ask(route)),
        Planned::Refuse(refusal) => Collected::Refused(refusal),
        Planned::VKey => incoming.vkey(io, input)?,
        Planned::Notice => incoming.notice(io, input, message)?,
        Planned::UKey(held) => incoming.ukey(io, input, held)?,
    };
    let status = match collected {
        Collected::Whole(request) => match finish(request, shell, answer) {
            (_, Some(logs)) => {
                return write_with_logs(io, shell, &logs, head.after, answer, &mut message.0);
            }
            (status, None) => status,
        },
        Collected::Refused(refusal) if incoming.body.left() > 0 => {
            return refuse_unread(io, refusal, answer);
        }
        Collected::Refused(refusal) => refuse(refusal, answer),
        Collected::Cut => return Ok(Served::Gone),
    };
    write_answer(io, status, head.after, answer)?;
    Ok(Served::after(head.after))
}

/// What is needed of a head once its bytes are gone.
struct Head<'s, S: Shell> {
    planned: Planned<'s, S>,
    size: usize,
    incoming: Incoming,
    after: After,
}

/// A plan whose lease can't get lost.
enum Planned<'s, S: Shell> {
    Answer(Route),
    VKey,
    Notice,
    UKey(Held<'s, S>),
    Refuse(Refusal),
}

impl<'s, S: Shell> Head<'s, S> {
    /// Reads a head and asks the agent for its plan; `None` if it hasn't come whole yet.
    fn parse(bytes: &[u8], shell: &'s S, peer: Peer) -> Result<Option<Self>, HeadError> {
        let Some((head, size)) = RequestHead::parse(bytes)? else {
            return Ok(None);
        };
        let planned = match shell.with_agent(|agent, _| agent.plan(&head, peer)) {
            Plan::Answer(route) => Planned::Answer(route),
            Plan::VKey => Planned::VKey,
            Plan::Notice => Planned::Notice,
            Plan::Refuse(refusal) => Planned::Refuse(refusal),
            Plan::UKey(lease) => Planned::UKey(Held {
                shell,
                lease: Some(lease),
            }),
        };
        let length = match head.length {
            Length::Bytes(length) => length,
            Length::Unsaid => 0,
        };
        Ok(Some(Self {
            planned,
            size,
            incoming: Incoming {
                body: Body::new(length),
                expects_continue: head.expects_continue,
            },
            after: head.after,
        }))
    }
}

/// A lease that goes back to the agent on every way out.
struct Held<'s, S: Shell> {
    shell: &'s S,
    lease: Option<Lease>,
}

impl<S: Shell> Drop for Held<'_, S> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.shell.with_agent(|agent, _| agent.give_up(lease));
        }
    }
}

/// What became of a body.
#[expect(
    clippy::large_enum_variant,
    reason = "one exists at a time, and nothing can be boxed without an allocator"
)]
enum Collected<'b, V> {
    /// It has come, and is what it should be.
    Whole(Request<'b, V>),
    /// It isn't what it should be.
    Refused(Refusal),
    /// The peer has gone in the middle of it.
    Cut,
}

impl<'b, V> Collected<'b, V> {
    /// A body that was read to `end`, whose form then gave `request`.
    fn new(end: BodyEnd, request: impl FnOnce() -> Result<Request<'b, V>, FormError>) -> Self {
        match end {
            BodyEnd::Cut => Self::Cut,
            BodyEnd::Bad(error) => Self::Refused(error.into()),
            BodyEnd::Whole => match request() {
                Ok(request) => Self::Whole(request),
                Err(error) => Self::Refused(error.into()),
            },
        }
    }
}

/// How the reading of a body has ended.
enum BodyEnd {
    Whole,
    Bad(FormError),
    Cut,
}

/// A body that is still to come.
struct Incoming {
    body: Body,
    expects_continue: bool,
}

/// Its functions are never inlined: their forms are off the stack when the agent's work begins.
impl Incoming {
    #[inline(never)]
    fn vkey<V, C: Read + Write>(
        &mut self,
        io: &mut C,
        input: &mut Input,
    ) -> Result<Collected<'static, V>, C::Error> {
        let mut form = VKeyForm::new();
        let end = self.read(io, input, |chunk| form.feed(chunk))?;
        Ok(Collected::new(end, || form.finish().map(Request::VKey)))
    }

    #[inline(never)]
    fn notice<'b, V, C: Read + Write>(
        &mut self,
        io: &mut C,
        input: &mut Input,
        message: &'b mut Message,
    ) -> Result<Collected<'b, V>, C::Error> {
        let mut form = NoticeForm::new(&mut message.0);
        let end = self.read(io, input, |chunk| form.feed(chunk))?;
        Ok(Collected::new(end, || form.finish().map(Request::Notice)))
    }

    #[inline(never)]
    fn ukey<S: Shell, C: Read + Write>(
        &mut self,
        io: &mut C,
        input: &mut Input,
        mut held: Held<'_, S>,
    ) -> Result<Collected<'static, S::Vault>, C::Error> {
        let bytes = held.lease.as_ref().map_or(0, Lease::vault_bytes);
        let Some(vault) = held.shell.vault(bytes) else {
            return Ok(Collected::Refused(Refusal::NoVault));
        };
        let mut form = UKeyForm::new(vault);
        let end = self.read(io, input, |chunk| form.feed(chunk))?;
        Ok(match (end, held.lease.take()) {
            (BodyEnd::Whole, Some(lease)) => match form.finish() {
                Ok(ukey) => Collected::Whole(Request::UKey(lease, ukey)),
                Err(error) => {
                    held.lease = Some(lease);
                    Collected::Refused(error.into())
                }
            },
            (end, lease) => {
                held.lease = lease;
                Collected::new(end, || Err(FormError::Json))
            }
        })
    }

    /// Reads the body in pieces, each of which is shown to `feed`.
    fn read<C: Read + Write>(
        &mut self,
        io: &mut C,
        input: &mut Input,
        mut feed: impl FnMut(&[u8]) -> Result<(), FormError>,
    ) -> Result<BodyEnd, C::Error> {
        if self.expects_continue && input.arrived().is_empty() {
            io.write_all(CONTINUE)?;
            io.flush()?;
        }
        loop {
            let mine = self.body.take(input.arrived().len());
            let fed = feed(input.arrived().get(..mine).unwrap_or_default());
            input.consume(mine);
            if let Err(error) = fed {
                return Ok(BodyEnd::Bad(error));
            }
            if self.body.left() == 0 {
                return Ok(BodyEnd::Whole);
            }
            if !input.fill(io)? {
                return Ok(BodyEnd::Cut);
            }
        }
    }
}

/// Gives the agent a whole request; hands on what it leaves to the shell. The logs that belong to the answer are still missing
/// in it.
fn finish<S: Shell>(
    request: Request<'_, S::Vault>,
    shell: &S,
    answer: &mut StringView,
) -> (Status, Option<Attached>) {
    let Outcome {
        status,
        logs,
        duty,
        notes,
    } = shell.with_agent(|agent, tpm| agent.finish(request, tpm, shell, answer));
    for note in &notes {
        shell.note(note);
    }
    if let Some(duty) = duty {
        shell.start(duty);
    }
    (status, logs)
}
