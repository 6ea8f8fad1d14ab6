//! The connection to the verifier: one, kept while it lasts, opened anew when it breaks.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use agent_core::drive::{
    self, Call, CallError, Download, DownloadError, Downloaded, Enclosed, EnclosedError, Logs,
};
use agent_core::http::Answer;
use agent_core::http::head::After;
use agent_core::outbound::{Fetch, Request};
use agent_core::wire::log::Attached;
use heapless::string::StringView;

use crate::net::stream::Io;

/// Opens connections to the verifier.
pub trait Connect {
    /// A connection, authenticated.
    type Stream: Read + Write;
    /// Why there is none.
    type Error: std::fmt::Display;

    /// Opens one; that has to be over at this time.
    ///
    /// # Errors
    /// The way's own: nobody answers, or not the verifier that is trusted.
    fn connect(&mut self, until: Instant) -> Result<Self::Stream, Self::Error>;

    /// Everything on a connection has to be over at this time, until another is set.
    fn limit(stream: &mut Self::Stream, until: Instant);

    /// Whom requests on the last connection are for, for their `Host` field.
    fn host(&self) -> &str;
}

/// A connection and its buffer.
pub struct Link<C: Connect> {
    connect: C,
    /// The one that was used last, and when.
    stream: Option<(Io<C::Stream>, Instant)>,
    host: String,
    buffer: Vec<u8>,
    logs: Logs<Io<File>>,
}

/// How a download ended.
pub(super) enum Pulled<'b, S> {
    Whole,
    Answered(Answer<'b>),
    Lost,
    Sink(S),
}

impl<C: Connect> Link<C> {
    /// Opened with the first request.
    #[must_use]
    pub fn new(connect: C) -> Self {
        Self {
            connect,
            stream: None,
            host: String::new(),
            buffer: vec![0; MAX_ANSWER_BYTES],
            logs: Logs::new(None, None),
        }
    }

    /// The same with these logs of the boot, which the verifier may ask for.
    #[must_use]
    pub fn with_logs(self, logs: Logs<Io<File>>) -> Self {
        Self { logs, ..self }
    }

    /// Sends a request and waits for its answer; none if that failed, for a reason that is logged. One with logs may take as
    /// long as bytes go, until the deadline.
    pub(super) fn exchange(
        &mut self,
        request: &Request<'_>,
        body: &mut StringView,
        until: Instant,
        deadline: Option<Instant>,
    ) -> Option<Answer<'_>> {
        let has_none = self.logs.ima.is_none() && self.logs.boot.is_none();
        match &request.logs {
            Some(attached) if !(has_none && *attached == Attached::Supported) => {
                self.exchange_logs(request, attached, body, deadline)
            }
            _ => self.exchange_body(request, body, until),
        }
    }

    fn exchange_logs(
        &mut self,
        request: &Request<'_>,
        attached: &Attached,
        body: &mut StringView,
        deadline: Option<Instant>,
    ) -> Option<Answer<'_>> {
        let io = self.open(soon(deadline))?;
        let mut patient = Patient {
            io,
            limit: C::limit,
            deadline,
        };
        let call = asked(request, &self.host, "");
        let enclosed = Enclosed {
            attached,
            body,
            logs: &mut self.logs,
        };
        let done = drive::call_with_logs(&mut patient, &call, enclosed, &mut self.buffer);
        if let Some(fault) = self.logs.left_out.take() {
            log::warn!("{fault}: it isn't offered");
        }
        match done {
            Ok(answer) => {
                if answer.after == After::Keep {
                    self.stream = Some((patient.io, Instant::now()));
                }
                Some(answer)
            }
            Err(EnclosedError::Call(error)) => {
                log::warn!("{} had no answer: {}", request.path, text(&error));
                None
            }
            Err(EnclosedError::Log(fault)) => {
                log::warn!("{} was not sent: {fault}", request.path);
                None
            }
            Err(_) => None,
        }
    }

    fn exchange_body(
        &mut self,
        request: &Request<'_>,
        body: &str,
        until: Instant,
    ) -> Option<Answer<'_>> {
        let mut io = self.open(until)?;
        C::limit(&mut io.0, until);
        let call = asked(request, &self.host, body);
        match drive::call(&mut io, &call, &mut self.buffer) {
            Ok(answer) => {
                if answer.after == After::Keep {
                    self.stream = Some((io, Instant::now()));
                }
                Some(answer)
            }
            Err(error) => {
                log::warn!("{} had no answer: {}", request.path, text(&error));
                None
            }
        }
    }

    /// Fetches sealed bytes, from this one on. It may take as long as bytes come.
    pub(super) fn pull<S>(
        &mut self,
        fetch: &Fetch<'_>,
        from: u64,
        deadline: Option<Instant>,
        sink: impl FnMut(&[u8]) -> Result<(), S>,
    ) -> Pulled<'_, S> {
        let Some(io) = self.open(soon(deadline)) else {
            return Pulled::Lost;
        };
        let wanted = Download {
            path: fetch.path,
            host: &self.host,
            token: fetch.token,
            from,
            whole: fetch.segments.sealed_bytes(),
        };
        let mut patient = Patient {
            io,
            limit: C::limit,
            deadline,
        };
        let done = drive::download(&mut patient, &wanted, &mut self.buffer, sink);
        let after = match &done {
            Ok(Downloaded::Whole(after)) => *after,
            Ok(Downloaded::Answered(answer)) => answer.after,
            Err(_) => After::Close,
        };
        if after == After::Keep {
            self.stream = Some((patient.io, Instant::now()));
        }
        match done {
            Ok(Downloaded::Whole(_)) => Pulled::Whole,
            Ok(Downloaded::Answered(answer)) => Pulled::Answered(answer),
            Err(DownloadError::Sink(error)) => Pulled::Sink(error),
            Err(DownloadError::Call(error)) => {
                log::warn!("the sealed payload broke off: {}", text(&error));
                Pulled::Lost
            }
            Err(_) => {
                log::warn!("the verifier sends another part of the payload than it was asked for");
                Pulled::Lost
            }
        }
    }

    fn open(&mut self, until: Instant) -> Option<Io<C::Stream>> {
        // A server ends what rests: a request on that would be lost.
        if let Some((io, used)) = self.stream.take()
            && used.elapsed() < REST
        {
            return Some(io);
        }
        match self.connect.connect(until) {
            Ok(stream) => {
                self.connect.host().clone_into(&mut self.host);
                Some(Io(stream))
            }
            Err(error) => {
                log::warn!("no connection to the verifier: {error}");
                None
            }
        }
    }
}

fn asked<'a>(request: &Request<'a>, host: &'a str, body: &'a str) -> Call<'a> {
    Call {
        verb: request.verb,
        path: request.path,
        host,
        token: request.token,
        media: request.media,
        body,
    }
}

/// A stream that may take long, as long as something comes.
struct Patient<S> {
    io: Io<S>,
    limit: fn(&mut S, Instant),
    deadline: Option<Instant>,
}

impl<S> Patient<S> {
    fn renew(&mut self) {
        (self.limit)(&mut self.io.0, soon(self.deadline));
    }
}

impl<S> embedded_io::ErrorType for Patient<S> {
    type Error = std::io::Error;
}

impl<S: Read> embedded_io::Read for Patient<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.renew();
        self.io.read(buffer)
    }
}

impl<S: Write> embedded_io::Write for Patient<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.renew();
        self.io.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.io.flush()
    }
}

/// Until when a verifier that says nothing is waited for.
pub(super) fn soon(deadline: Option<Instant>) -> Instant {
    let soon = Instant::now() + SILENCE;
    deadline.map_or(soon, |deadline| deadline.min(soon))
}

fn text(error: &CallError<std::io::Error>) -> String {
    match error {
        CallError::Io(error) => error.to_string(),
        CallError::Cut => "the connection ended in the middle".to_owned(),
        CallError::Head(error) => error.text().to_owned(),
        _ => "the answer is too large".to_owned(),
    }
}

/// How long a verifier may send nothing in the middle of a payload.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a connection may rest between two requests.
const REST: Duration = Duration::from_secs(5);
/// Room for an answer, head and body: revocations take up to 48 KiB, a deposit 9, evidence that is echoed about as much.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
