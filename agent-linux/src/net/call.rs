//! The agent's client: plain HTTP to the registrar.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use agent_core::drive::{self, Answer, Call};
use agent_core::http::emit::{Media, Verb};
use agent_core::http::head::{After, HeadError};

use super::address::{connect, left, resolve};
use super::stream::{DeadlineStream, Io};

/// A server that requests go to, one after the other, over one connection while it lasts.
pub struct Caller {
    host: String,
    port: u16,
    authority: String,
    connection: Option<Io<DeadlineStream>>,
    deadline: Option<Instant>,
    buffer: Vec<u8>,
}

/// Why a request has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The host's name means nothing.
    Resolve(io::Error),
    /// Nobody answers there.
    Connect(io::Error),
    /// The connection broke, or took too long.
    Io(io::Error),
    /// The connection ended before the answer did.
    Cut,
    /// The answer isn't HTTP as it is spoken here.
    Head(HeadError),
    /// The answer is larger than any that is expected.
    TooLarge,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "the name can't be resolved: {error}"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Cut => f.write_str("the connection ended in the middle of the answer"),
            Self::Head(error) => write!(f, "the answer is malformed: {}", error.text()),
            Self::TooLarge => f.write_str("the answer is too large"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve(error) | Self::Connect(error) | Self::Io(error) => Some(error),
            Self::Cut | Self::Head(_) | Self::TooLarge => None,
        }
    }
}

impl From<drive::CallError<io::Error>> for CallError {
    fn from(error: drive::CallError<io::Error>) -> Self {
        match error {
            drive::CallError::Io(error) => Self::Io(error),
            drive::CallError::Cut => Self::Cut,
            drive::CallError::Head(error) => Self::Head(error),
            _ => Self::TooLarge,
        }
    }
}

impl Caller {
    /// A server at this address; nothing is sent yet.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self {
            host: host.to_owned(),
            port,
            authority,
            connection: None,
            deadline: None,
            buffer: vec![0; MAX_ANSWER_BYTES],
        }
    }

    /// Everything from now on has to be over by this moment.
    pub fn until(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Where requests go.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends a request (an empty body is none) and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]; the next request opens a new connection.
    pub fn call(&mut self, verb: Verb, path: &str, body: &str) -> Result<Answer<'_>, CallError> {
        let limit = Instant::now() + REQUEST;
        let until = self.deadline.map_or(limit, |deadline| deadline.min(limit));
        let mut io = match self.connection.take() {
            Some(io) => io,
            None => self.connect(until)?,
        };
        io.0.limit(left(until).map_err(CallError::Io)?);
        let call = Call {
            verb,
            path,
            host: &self.authority,
            token: None,
            media: Media::Json,
            body,
        };
        let answer = drive::call(&mut io, &call, &mut self.buffer)?;
        if answer.after == After::Keep {
            self.connection = Some(io);
        }
        Ok(answer)
    }

    fn connect(&self, until: Instant) -> Result<Io<DeadlineStream>, CallError> {
        let addresses = resolve(&self.host, self.port, until).map_err(CallError::Resolve)?;
        let socket = connect(&addresses, until).map_err(CallError::Connect)?;
        let limit = left(until).map_err(CallError::Io)?;
        let stream = DeadlineStream::new(socket, limit).map_err(CallError::Io)?;
        Ok(Io(stream))
    }
}

/// How long a request may take, its connection and its answer included.
const REQUEST: Duration = Duration::from_secs(30);
/// Room for an answer, head and body: a credential blob takes 600 bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
