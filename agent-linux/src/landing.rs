//! The landing zone: a tmpfs of its own at `secure/`, in which a payload appears whole or not at all.
//!
//! Whoever isn't root can't look in; nothing in it is swapped where the kernel allows that, nor survives a power cut. A
//! payload is written to a fresh directory beneath an open handle, and takes the place of the old one in one rename.

mod error;
mod mount;
mod unpacking;

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

pub use error::{LandingError, Occupant};
pub use unpacking::Unpacking;

/// An open landing zone.
pub struct Zone {
    root: OwnedFd,
    path: PathBuf,
    size: u64,
}

impl Zone {
    /// Opens `secure/` in `keylime_dir` and mounts its tmpfs of `size` bytes if it isn't there yet. What a killed agent left
    /// half unpacked is removed; a payload that was complete stays.
    ///
    /// # Errors
    /// [`LandingError`], among them that something else is mounted or stored at that place.
    pub fn open(keylime_dir: &Path, size: u64) -> Result<Self, LandingError> {
        let parent = open_parent(keylime_dir)?;
        let path = keylime_dir.join(SECURE);
        let root = mount::open_or_mount(&parent, &path, size)?;
        let zone = Self { root, path, size };
        zone.remove_leftovers()?;
        Ok(zone)
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

    /// Removes what an interrupted unpacking left.
    fn remove_leftovers(&self) -> Result<(), LandingError> {
        // The standard library removes a tree without following links; this path leads it to our handle and no other place.
        let path = format!("/proc/self/fd/{}/{FRESH}", self.root.as_raw_fd());
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(LandingError::Remove {
                path: self.path.join(FRESH),
                reason: error.kind(),
            }),
            _ => Ok(()),
        }
    }
}

/// Opens the directory that the zone lies in, made with mode 0700 if it isn't there. Nobody else may be able to write to it:
/// who can, could put another `secure/` there.
fn open_parent(path: &Path) -> Result<OwnedFd, LandingError> {
    let fail = |errno| LandingError::Write {
        path: path.to_owned(),
        errno,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let parent =
        fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = fs::fstat(&parent).map_err(fail)?;
    let own = stat.st_uid == rustix::process::geteuid().as_raw();
    if !own || stat.st_mode & 0o022 != 0 {
        return Err(LandingError::Exposed {
            path: path.to_owned(),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        });
    }
    Ok(parent)
}

/// The zone's name in the Keylime directory.
const SECURE: &str = "secure";
/// The payload's name in the zone.
const UNZIPPED: &str = "unzipped";
/// The name of a payload on its way in, and of the one that it has replaced.
const FRESH: &str = ".unpacking";
