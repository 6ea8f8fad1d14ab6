//! How an opened payload becomes files.

use std::fmt;

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
    /// Writes a payload into the landing zone, all or nothing; its vault is wiped on every way out.
    pub(super) fn land(self, payload: OpenedPayload<Vault>) -> Result<(), PayloadError> {
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
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpack(error) => error.fmt(f),
            Self::Landing(error) => error.fmt(f),
        }
    }
}

impl From<LandingError> for PayloadError {
    fn from(error: LandingError) -> Self {
        Self::Landing(error)
    }
}
