//! One command and its answer.

use std::io;
use std::time::Instant;

use tpm2_protocol::data::TpmsAuthCommand;
use tpm2_protocol::frame::{TpmFrame, TpmHeader};
use zeroize::Zeroize;

use super::frame::{self, Answer};
use super::transport::{Frame, MAX_FRAME_BYTES, Transport};
use crate::tpm::code::until_ready;
use crate::tpm::commands::Commands;
use crate::tpm::error::{Cause, TpmError};
use crate::tpm::name::TctiName;

/// A TPM behind a device or a socket.
pub struct Raw {
    transport: Transport,
    pub(super) shared: bool,
    command: Box<Frame>,
    answer: Box<Frame>,
}

impl Raw {
    /// The way that a name leads.
    pub(super) fn over(name: &TctiName) -> Result<Self, TpmError> {
        Ok(Self {
            transport: Transport::open(name)?,
            shared: name.is_shared(),
            command: Box::new([0; MAX_FRAME_BYTES]),
            answer: Box::new([0; MAX_FRAME_BYTES]),
        })
    }

    /// Sends one command, again while the TPM says that it is only busy, has the answer read, and wipes both.
    pub(super) fn ask<C: TpmFrame + TpmHeader, T>(
        &mut self,
        name: &'static str,
        command: &C,
        sessions: &[TpmsAuthCommand],
        handles: usize,
        read: impl FnOnce(Answer<'_>) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let result = frame::write(name, command, sessions, self.command.as_mut_slice())
            .and_then(|len| self.send(name, len))
            .and_then(|len| {
                let answer = self.answer.get(..len).unwrap_or_default();
                Answer::of::<C>(name, sessions.is_empty(), handles, answer).and_then(read)
            });
        self.command.zeroize();
        self.answer.zeroize();
        result
    }

    /// Sends the first `len` bytes of the command buffer and returns the length of the answer.
    fn send(&mut self, name: &'static str, len: usize) -> Result<usize, TpmError> {
        let began = log::log_enabled!(log::Level::Debug).then(Instant::now);
        let Self {
            transport,
            command,
            answer,
            ..
        } = self;
        let command = command.get(..len).unwrap_or_default();
        let len = until_ready(|| {
            let len = transport
                .exchange(command, answer)
                .map_err(|error| Cause::System(error.kind()))?;
            let code = answer.get(..len).and_then(frame::code);
            code.unwrap_or(Err(CUT_SHORT)).map(|()| len)
        });
        if let Some(began) = began {
            log::debug!("{name}: {} us", began.elapsed().as_micros());
        }
        len.map_err(|cause| TpmError::of(name, cause))
    }

    /// The same for a command that loads something: what it loaded is flushed if the rest of the answer is malformed.
    pub(super) fn load<C: TpmFrame + TpmHeader, T>(
        &mut self,
        name: &'static str,
        command: &C,
        sessions: &[TpmsAuthCommand],
        read: impl FnOnce(Answer<'_>) -> Result<T, TpmError>,
    ) -> Result<(u32, T), TpmError> {
        let (handle, rest) = self.ask(name, command, sessions, 1, |answer| {
            Ok((answer.handle()?, read(answer)))
        })?;
        match rest {
            Ok(value) => Ok((handle, value)),
            Err(error) => {
                self.flush(handle)?;
                Err(error)
            }
        }
    }

    /// The same for an answer that has nothing to say.
    pub(super) fn tell<C: TpmFrame + TpmHeader>(
        &mut self,
        name: &'static str,
        command: &C,
        sessions: &[TpmsAuthCommand],
    ) -> Result<(), TpmError> {
        self.ask(name, command, sessions, 0, |answer| {
            match answer.parameters() {
                [] => Ok(()),
                _ => Err(TpmError::Malformed { what: name }),
            }
        })
    }
}

const CUT_SHORT: Cause = Cause::System(io::ErrorKind::UnexpectedEof);
