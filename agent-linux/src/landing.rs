//! The landing zone: a tmpfs of its own at `secure/`, in which a payload appears whole or not at all.
//!
//! Whoever isn't root can't look in; nothing in it is swapped where the kernel allows that, nor survives a power cut. A
//! payload is written to a fresh directory beneath an open handle, and takes the place of the old one in one rename.

mod beneath;
mod error;
mod mount;
mod spooled;
mod unpacking;

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, fchown, lchown};
use std::path::{Path, PathBuf};

use agent_core::payload::zip::Limits;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use crate::fence::Fence;
pub use error::{LandingError, Occupant};
pub use spooled::SpoolLandingError;
pub use unpacking::Unpacking;

/// Whose the landing zone is: this user's, who alone looks in, and this group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// The user that this process is.
    #[must_use]
    pub fn current() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// Whether this process may use what belongs to this user: it is its own, or will be when the process becomes that user.
    fn is_ours(self, uid: u32) -> bool {
        uid == self.uid || uid == Self::current().uid
    }
}

/// An open landing zone.
pub struct Zone {
    root: OwnedFd,
    path: PathBuf,
    size: u64,
}

impl Zone {
    /// Opens `secure/` in `keylime_dir`, or in another directory such as `/run/keyhalf`, and mounts its tmpfs of `size` bytes
    /// if it isn't there yet. What a killed agent left half unpacked is removed; a payload that was complete stays.
    ///
    /// # Errors
    /// [`LandingError`], among them that something else is mounted or stored at that place.
    pub fn open(keylime_dir: &Path, size: u64) -> Result<Self, LandingError> {
        Self::open_for(Owner::current(), keylime_dir, size)
    }

    /// As [`Zone::open`], for the user that this process is going to be. A zone of this process's own user, with all that is
    /// in it, is given to that user.
    ///
    /// # Errors
    /// As [`Zone::open`].
    pub fn open_for(owner: Owner, keylime_dir: &Path, size: u64) -> Result<Self, LandingError> {
        let parent = open_parent(keylime_dir, owner)?;
        let path = keylime_dir.join(SECURE);
        let root = mount::open_or_mount(&parent, &path, size, owner)?;
        let zone = Self { root, path, size };
        zone.remove_leftovers()?;
        zone.hand_over(owner)?;
        Ok(zone)
    }

    /// The size of a zone for payloads within these limits: an old and a new one exist together, and each file takes whole
    /// pages.
    #[must_use]
    pub fn size_for(limits: &Limits) -> u64 {
        let pages = u64::try_from(limits.entries)
            .unwrap_or(u64::MAX)
            .saturating_mul(PAGE_BYTES);
        limits.bytes.saturating_add(pages).saturating_mul(2)
    }

    /// Whether the zone's path leads to it for the user that this process is now.
    ///
    /// # Errors
    /// [`LandingError::Unreachable`].
    pub fn check_path(&self) -> Result<(), LandingError> {
        let place = |stat: fs::Stat| (stat.st_dev, stat.st_ino);
        let found = fs::stat(&self.path).map(place);
        let own = fs::fstat(&self.root).map(place);
        let reason = match (found, own) {
            (Ok(found), Ok(own)) if found == own => return Ok(()),
            (Err(errno), _) | (_, Err(errno)) => errno,
            _ => Errno::STALE,
        };
        Err(LandingError::Unreachable {
            path: self.path.clone(),
            errno: reason,
        })
    }

    /// Lets the calling thread touch nothing but this zone from now on.
    pub fn fence(&self) -> Fence {
        Fence::but_beneath(&self.root)
    }

    /// Where the payload's files are once they are unpacked.
    #[must_use]
    pub fn unzipped(&self) -> PathBuf {
        self.path.join(UNZIPPED)
    }

    /// The zone itself: nobody but the agent's user can look in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the whole zone in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A fresh directory for a payload: gone again unless it is committed.
    ///
    /// # Errors
    /// [`LandingError::Write`], [`LandingError::NoRoom`].
    pub fn begin(&mut self) -> Result<Unpacking<'_>, LandingError> {
        self.remove_leftovers()?;
        Unpacking::begin(self)
    }

    /// Gives everything in the zone, and at last the zone itself, to another user. Until then only this one can get in.
    fn hand_over(&self, owner: Owner) -> Result<(), LandingError> {
        if owner == Owner::current() {
            return Ok(());
        }
        let fail = |error: io::Error| LandingError::Write {
            path: self.path.clone(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        };
        let stat = fs::fstat(&self.root).map_err(|errno| fail(errno.into()))?;
        if stat.st_uid == owner.uid {
            return Ok(());
        }
        let (uid, gid) = (Some(owner.uid), Some(owner.gid));
        let mut directories = vec![self.root_path()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                lchown(entry.path(), uid, gid).map_err(fail)?;
                if entry.file_type().map_err(fail)?.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
        fchown(&self.root, uid, gid).map_err(fail)
    }

    /// A path that leads to our handle and no other place.
    fn root_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    /// Removes what an interrupted unpacking left.
    fn remove_leftovers(&self) -> Result<(), LandingError> {
        // The standard library removes a tree without following links.
        match std::fs::remove_dir_all(self.root_path().join(FRESH)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(LandingError::Remove {
                path: self.path.join(FRESH),
                reason: error.kind(),
            }),
            _ => Ok(()),
        }
    }
}

/// Opens the directory that the zone lies in, made if it isn't there, with mode 0700, or 0711 if another user has to pass
/// through. Nobody but the zone's owner may be able to write to it: who can, could put another `secure/` there.
fn open_parent(path: &Path, owner: Owner) -> Result<OwnedFd, LandingError> {
    let fail = |errno| LandingError::Write {
        path: path.to_owned(),
        errno,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(if owner == Owner::current() {
            0o700
        } else {
            0o711
        })
        .create(path)
        .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let parent =
        fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = fs::fstat(&parent).map_err(fail)?;
    if !owner.is_ours(stat.st_uid) || stat.st_mode & 0o022 != 0 {
        return Err(LandingError::Exposed {
            path: path.to_owned(),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        });
    }
    Ok(parent)
}

/// The most that a file's last page wastes.
const PAGE_BYTES: u64 = 4096;
/// The zone's name in the Keylime directory.
const SECURE: &str = "secure";
/// The payload's name in the zone.
const UNZIPPED: &str = "unzipped";
/// The name of a payload on its way in, and of the one that it has replaced.
const FRESH: &str = ".unpacking";
