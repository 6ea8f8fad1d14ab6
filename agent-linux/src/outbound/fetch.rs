//! The sealed bytes: fetched into a spool, from where a broken link left off.

use std::path::PathBuf;
use std::time::Instant;

use agent_core::http::Answer;
use agent_core::outbound::{Fetch, Fetched, Reread};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;

use super::link::{Connect, Link, Pulled};
use crate::spool::{Spool, SpoolError};

/// Where sealed bytes wait.
pub(super) struct Store {
    directory: Option<PathBuf>,
    agent: Uuid,
    spool: Option<(PayloadId, Spool)>,
}

/// How a fetch ended.
pub(super) enum Got<'b> {
    Whole,
    Lost,
    Digest,
    NoRoom(SpoolError),
    Answered(Answer<'b>),
}

impl Got<'_> {
    pub(super) fn as_fetched(&self) -> Fetched<'_> {
        match self {
            Self::Whole => Fetched::Whole,
            Self::Lost => Fetched::Lost,
            Self::Digest => Fetched::Digest,
            Self::NoRoom(error) => Fetched::NoRoom(error),
            Self::Answered(answer) => Fetched::Answered(*answer),
        }
    }
}

impl Store {
    pub(super) fn new(directory: Option<PathBuf>, agent: Uuid) -> Self {
        Self {
            directory,
            agent,
            spool: None,
        }
    }

    /// The whole and checked bytes.
    pub(super) fn take(&mut self) -> Option<Spool> {
        self.spool.take().map(|(_, spool)| spool)
    }

    /// Fetches what is missing, and checks all of it.
    pub(super) fn fetch<'b, C: Connect>(
        &mut self,
        link: &'b mut Link<C>,
        fetch: &Fetch<'_>,
        deadline: Option<Instant>,
    ) -> Got<'b> {
        let mut spool = match self.spool.take() {
            Some((id, spool)) if id == fetch.payload_id => spool,
            _ => match self.begin(fetch) {
                Ok(spool) => spool,
                Err(error) => return Got::NoRoom(error),
            },
        };
        let have = spool.have();
        if have > 0 {
            log::info!("{have} bytes of the sealed payload are there already");
        }
        if have < fetch.segments.sealed_bytes() {
            let pulled = link.pull(fetch, have, deadline, |bytes| spool.append(bytes));
            let got = match pulled {
                Pulled::Whole => None,
                Pulled::Lost => Some(Got::Lost),
                Pulled::Answered(answer) => Some(Got::Answered(answer)),
                Pulled::Sink(error) => Some(Got::NoRoom(error)),
            };
            if let Some(got) = got {
                self.spool = Some((fetch.payload_id, spool));
                return got;
            }
        }
        if let Err(error) = spool.check(fetch.sha256) {
            log::warn!("{error}");
            spool.remove();
            return Got::Digest;
        }
        self.spool = Some((fetch.payload_id, spool));
        Got::Whole
    }

    /// Checks what is there; nothing is fetched.
    pub(super) fn reread(&mut self, reread: &Reread<'_>) -> Got<'static> {
        let Some(directory) = &self.directory else {
            return Got::Lost;
        };
        let opened =
            Spool::in_directory(directory, &self.agent, reread.payload_id, reread.segments);
        let mut spool = match opened {
            Ok(spool) => spool,
            Err(error) => return Got::NoRoom(error),
        };
        match spool.check(reread.sha256) {
            Ok(()) => {
                self.spool = Some((reread.payload_id, spool));
                Got::Whole
            }
            Err(error) => {
                log::warn!("{error}");
                Got::Digest
            }
        }
    }

    fn begin(&self, fetch: &Fetch<'_>) -> Result<Spool, SpoolError> {
        match &self.directory {
            Some(directory) => {
                Spool::in_directory(directory, &self.agent, fetch.payload_id, fetch.segments)
            }
            None => Spool::in_memory(fetch.segments),
        }
    }
}
