//! Why a sealed payload can't be kept, or not opened.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use agent_core::payload::zip::{SegmentError, UnpackError};
use agent_core::wire::text::Hex;
use rustix::io::Errno;

/// What is wrong with a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolError {
    /// There is no memory for it.
    Memory {
        /// Bytes that it takes.
        need: u64,
        /// Why not.
        reason: ErrorKind,
    },
    /// The directory or the file can't be made, opened, read, written or removed.
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// The file system is full.
    Full {
        /// The file.
        path: PathBuf,
        /// Bytes that found no room.
        need: u64,
    },
    /// More came than was announced.
    TooMuch {
        /// What there would be.
        have: u64,
        /// What was announced.
        limit: u64,
    },
    /// Not everything is there yet.
    Incomplete {
        /// What is there.
        have: u64,
        /// What was announced.
        need: u64,
    },
    /// The file has become shorter than what was written to it.
    Cut {
        /// From here on it lacks bytes.
        at: u64,
    },
    /// It isn't what the manifest says. Nothing of it was kept.
    Digest {
        /// The manifest's SHA-256.
        want: [u8; 32],
        /// What was found; `None` if somebody has cut it meanwhile.
        have: Option<[u8; 32]>,
    },
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { need, reason } => {
                write!(
                    f,
                    "no {need} bytes of memory for the sealed payload: {reason}"
                )
            }
            Self::File { path, errno } => {
                write!(f, "the spool {} can't be used: {errno}", path.display())
            }
            Self::Full { path, need } => write!(
                f,
                "the file system is full: no room for {need} more bytes of {}",
                path.display()
            ),
            Self::TooMuch { have, limit } => {
                write!(
                    f,
                    "the sealed payload has {have} bytes, {limit} were announced"
                )
            }
            Self::Incomplete { have, need } => {
                write!(f, "of {need} bytes of the sealed payload {have} are there")
            }
            Self::Cut { at } => write!(f, "somebody has cut the spooled payload at {at}"),
            Self::Digest {
                want,
                have: Some(have),
            } => write!(
                f,
                "the sealed payload has the SHA-256 {}, the manifest says {}; it was thrown away",
                Hex(have),
                Hex(want)
            ),
            Self::Digest { .. } => {
                f.write_str("somebody has cut the spooled payload; it was thrown away")
            }
        }
    }
}

impl std::error::Error for SpoolError {}

/// Why a spooled payload wasn't unpacked; `E` is the sink's error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolUnpackError<E> {
    /// The spool isn't complete, or there is no memory to open it in.
    Spool(SpoolError),
    /// A segment, the archive, or the sink.
    Unpack(UnpackError<E, SegmentError<SpoolError>>),
}

impl<E> From<SpoolError> for SpoolUnpackError<E> {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl<E: fmt::Display> fmt::Display for SpoolUnpackError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spool(error) => error.fmt(f),
            Self::Unpack(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for SpoolUnpackError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spool(_) => None,
            Self::Unpack(error) => error.source(),
        }
    }
}
