//! How an opened payload becomes files.

use std::fmt;
use std::io;

use agent_core::agent::OpenedPayload;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{self, Limits, UnpackError};

use crate::landing::{LandingError, Zone};
use crate::memory::Vault;

/// Where a payload's files go, and as what.
pub(super) struct Landing<'a> {
    pub(super) zone: &'a mut Zone,
    pub(super) archives: Option<&'a Limits>,
    pub(super) plain_file: &'a str,
}

impl Landing<'_> {
    /// Writes a payload into the landing zone, all or nothing; its vault is wiped on every way out. The thread that does it
    /// can touch nothing but the zone, however the archive was made.
    pub(super) fn land(self, payload: OpenedPayload<Vault>) -> Result<(), PayloadError> {
        let Self {
            zone,
            archives,
            plain_file,
        } = self;
        zone.fenced(|zone| unpack(zone, archives, plain_file, payload))
            .map_err(PayloadError::Thread)?
    }
}

fn unpack(
    zone: &mut Zone,
    archives: Option<&Limits>,
    plain_file: &str,
    payload: OpenedPayload<Vault>,
) -> Result<(), PayloadError> {
    let plaintext = payload.plaintext();
    let mut unpacking = zone.begin()?;
    match archives {
        Some(limits) if zip::is_archive(plaintext) => {
            let mut inflater = Box::<Inflater>::default();
            zip::unpack(plaintext, limits, &mut inflater, &mut unpacking)
                .map_err(PayloadError::Unpack)?;
        }
        _ => {
            let size = u64::try_from(plaintext.len()).unwrap_or(u64::MAX);
            unpacking.file(plain_file, 0o600, size)?;
            unpacking.data(plaintext)?;
            unpacking.end()?;
        }
    }
    drop(payload);
    Ok(unpacking.commit()?)
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
