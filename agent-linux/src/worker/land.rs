//! How an opened payload becomes files.

use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::thread;

use agent_core::agent::OpenedPayload;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{self, Limits, UnpackError};

use crate::landing::{LandingError, Zone};
use crate::memory::{Vault, wipe_stack};

/// Where a payload's files go, and as what.
pub(super) struct Landing<'a> {
    pub(super) zone: &'a mut Zone,
    pub(super) archives: Option<&'a Limits>,
    pub(super) plain_file: &'a str,
}

impl Landing<'_> {
    /// Writes a payload into the landing zone, all or nothing; its vault is wiped on every way out. The thread that does it
    /// can touch nothing but the zone, however the archive was made.
    pub(super) fn land(mut self, payload: OpenedPayload<Vault>) -> Result<(), PayloadError> {
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("unpack".to_owned());
            let landing = builder.stack_size(STACK_BYTES).spawn_scoped(scope, || {
                self.zone.fence().report();
                let landed = self.unpack(payload);
                wipe_stack();
                landed
            });
            match landing.map_err(PayloadError::Thread)?.join() {
                Ok(landed) => landed,
                Err(panic) => resume_unwind(panic),
            }
        })
    }

    fn unpack(&mut self, payload: OpenedPayload<Vault>) -> Result<(), PayloadError> {
        let plaintext = payload.plaintext();
        let mut unpacking = self.zone.begin()?;
        match self.archives {
            Some(limits) if zip::is_archive(plaintext) => {
                let mut inflater = Box::<Inflater>::default();
                zip::unpack(plaintext, limits, &mut inflater, &mut unpacking)
                    .map_err(PayloadError::Unpack)?;
            }
            _ => {
                let size = u64::try_from(plaintext.len()).unwrap_or(u64::MAX);
                unpacking.file(self.plain_file, 0o600, size)?;
                unpacking.data(plaintext)?;
                unpacking.end()?;
            }
        }
        drop(payload);
        Ok(unpacking.commit()?)
    }
}

/// Why a payload didn't become files.
#[derive(Debug)]
pub(super) enum PayloadError {
    Unpack(UnpackError<LandingError>),
    Landing(LandingError),
    Thread(io::Error),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpack(error) => error.fmt(f),
            Self::Landing(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "no thread for it: {error}"),
        }
    }
}

impl From<LandingError> for PayloadError {
    fn from(error: LandingError) -> Self {
        Self::Landing(error)
    }
}

/// Stack of the thread that unpacks; what isn't touched takes no memory.
const STACK_BYTES: usize = 512 * 1024;
