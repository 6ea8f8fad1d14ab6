//! Why a payload can't land.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use rustix::io::Errno;

/// What is wrong with the landing zone, or with writing to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LandingError {
    /// The directory that the zone lies in can be written by others.
    Exposed {
        /// The directory.
        path: PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Something else stands at the zone's place.
    Occupied {
        /// The place.
        path: PathBuf,
        /// What stands there.
        by: Occupant,
    },
    /// The tmpfs can't be mounted.
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A file or directory can't be made or written.
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The zone is there, but its path doesn't lead this user to it.
    Unreachable {
        /// The zone's path.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// A directory can't be removed.
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: ErrorKind,
    },
    /// The zone is full.
    NoRoom {
        /// The file or directory that had no room.
        path: PathBuf,
        /// Bytes that it wanted.
        need: u64,
        /// Bytes of the whole zone.
        size: u64,
    },
    /// A file's bytes came before the file.
    NoFile,
}

/// What stands where the landing zone should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Occupant {
    /// A file, a symbolic link, a device.
    NotADirectory,
    /// A directory with something in it, on the disk.
    FullDirectory,
    /// A file system that isn't a tmpfs.
    OtherFileSystem,
    /// A tmpfs that others may enter, or of another user.
    OpenToOthers,
    /// A tmpfs without `nosuid` and `nodev`.
    LooseFlags,
}

impl fmt::Display for LandingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed { path, owner, mode } => write!(
                f,
                "{} belongs to user {owner} with mode {mode:04o}: others could write to it; \
                 make it this user's own, chmod go-w",
                path.display()
            ),
            Self::Occupied { path, by } => {
                let what = match by {
                    Occupant::NotADirectory => "isn't a directory; remove it",
                    Occupant::FullDirectory => {
                        "isn't a tmpfs and isn't empty: payloads don't go to a disk; move it away"
                    }
                    Occupant::OtherFileSystem => "is another file system; unmount it",
                    Occupant::OpenToOthers => {
                        "is a tmpfs of another user, or one that others may enter; unmount it"
                    }
                    Occupant::LooseFlags => {
                        "is a tmpfs without nosuid and nodev; unmount it, the agent mounts its own"
                    }
                };
                write!(f, "the landing zone {} {what}", path.display())
            }
            Self::Mount {
                path,
                errno: Errno::PERM,
            } => write!(
                f,
                "the landing zone's tmpfs can't be mounted at {}: that needs root (CAP_SYS_ADMIN)",
                path.display()
            ),
            Self::Mount { path, errno } => {
                write!(
                    f,
                    "the landing zone's tmpfs can't be mounted at {}: {errno}",
                    path.display()
                )
            }
            Self::Write { path, errno } => {
                write!(f, "{} can't be written: {errno}", path.display())
            }
            Self::Unreachable { path, errno } => write!(
                f,
                "the agent's user can't get to the landing zone {}: {errno}; let it pass through the directories above (chmod o+x)",
                path.display()
            ),
            Self::Remove { path, reason } => {
                write!(f, "{} can't be removed: {reason}", path.display())
            }
            Self::NoRoom { path, need, size } => write!(
                f,
                "the landing zone of {size} bytes is full: no room for {} ({need} bytes); \
                 make it larger (--secure-size), it has to hold the old and the new payload",
                path.display()
            ),
            Self::NoFile => f.write_str("bytes came for a file that wasn't begun"),
        }
    }
}

impl std::error::Error for LandingError {}
