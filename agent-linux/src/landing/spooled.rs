//! A spooled payload on its way in, and the fence around whatever unpacks.

use std::fmt;
use std::io;

use agent_core::payload::halves::Key;
use agent_core::payload::segment::Binding;
use agent_core::payload::zip::{Limits, Summary};

use super::{LandingError, Zone};
use crate::memory::wipe_stack;
use crate::spool::{Spool, SpoolUnpackError};
use crate::threads;

impl Zone {
    /// Unpacks a spooled payload into the zone, all or nothing. The thread that does it can touch nothing but the zone and
    /// the spool, which is open already, however the archive was made.
    ///
    /// # Errors
    /// [`SpoolLandingError`]; an earlier payload is then still there.
    pub fn land(
        &mut self,
        spool: &mut Spool,
        key: &Key,
        binding: &Binding<'_>,
        limits: &Limits,
    ) -> Result<Summary, SpoolLandingError> {
        self.fenced(|zone| {
            let mut unpacking = zone.begin().map_err(SpoolLandingError::Landing)?;
            let summary = spool
                .unpack(key, binding, limits, &mut unpacking)
                .map_err(SpoolLandingError::Unpack)?;
            unpacking.commit().map_err(SpoolLandingError::Landing)?;
            Ok(summary)
        })
        .map_err(SpoolLandingError::Thread)?
    }

    /// Works in a thread of its own, which can touch nothing but the zone and whose stack is wiped at its end.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn fenced<T: Send>(
        &mut self,
        work: impl FnOnce(&mut Self) -> T + Send,
    ) -> io::Result<T> {
        let mut done = None;
        let task = || {
            self.fence().report();
            done = Some(work(self));
            wipe_stack();
        };
        threads::apart("unpack", Box::new(task))?;
        // A task that came to no end has panicked, and so has this.
        done.ok_or_else(|| io::ErrorKind::Other.into())
    }
}

/// Why a spooled payload didn't become files.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolLandingError {
    /// The spool, a segment, the archive, or writing its files.
    Unpack(SpoolUnpackError<LandingError>),
    /// The landing zone.
    Landing(LandingError),
    /// There is no thread for it.
    Thread(io::Error),
}

impl fmt::Display for SpoolLandingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpack(error) => error.fmt(f),
            Self::Landing(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "no thread for it: {error}"),
        }
    }
}

impl std::error::Error for SpoolLandingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unpack(error) => error.source(),
            Self::Landing(error) => error.source(),
            Self::Thread(error) => error.source(),
        }
    }
}
