//! How sealed bytes become files.

use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::thread;

use agent_core::outbound::Unpack;
use agent_core::payload::zip::Limits;

use crate::landing::{LandingError, Zone};
use crate::memory::wipe_stack;
use crate::spool::{Spool, SpoolUnpackError};

/// Opens and unpacks a payload into the landing zone, all or nothing. The thread that does it can touch nothing but the zone
/// and the open spool, however the archive was made; the key is wiped on every way out.
pub(super) fn land(
    zone: &mut Zone,
    spool: Option<Spool>,
    unpack: Unpack<'_>,
    limits: &Limits,
) -> Result<(), LandError> {
    let mut spool = spool.ok_or(LandError::NoSpool)?;
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("unpack".to_owned());
        let spool = &mut spool;
        let landing = builder
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                zone.fence().report();
                let landed = write(zone, spool, unpack, limits);
                wipe_stack();
                landed
            });
        match landing.map_err(LandError::Thread)?.join() {
            Ok(landed) => landed,
            Err(panic) => resume_unwind(panic),
        }
    })
}

fn write(
    zone: &mut Zone,
    spool: &mut Spool,
    unpack: Unpack<'_>,
    limits: &Limits,
) -> Result<(), LandError> {
    let mut unpacking = zone.begin()?;
    spool
        .unpack(&unpack.key, &unpack.binding, limits, &mut unpacking)
        .map_err(LandError::Unpack)?;
    drop(unpack);
    Ok(unpacking.commit()?)
}

/// Why a payload didn't become files.
#[derive(Debug)]
pub(super) enum LandError {
    NoSpool,
    Unpack(SpoolUnpackError<LandingError>),
    Landing(LandingError),
    Thread(io::Error),
}

impl fmt::Display for LandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpool => f.write_str("its sealed bytes are gone"),
            Self::Unpack(error) => error.fmt(f),
            Self::Landing(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "no thread for it: {error}"),
        }
    }
}

impl From<LandingError> for LandError {
    fn from(error: LandingError) -> Self {
        Self::Landing(error)
    }
}

/// Stack of the thread that unpacks; what isn't touched takes no memory.
const STACK_BYTES: usize = 512 * 1024;
