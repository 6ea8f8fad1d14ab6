//! A payload on its way in.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use agent_core::payload::sink::Sink;
use rustix::fs::{self, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath;
use super::{FRESH, LandingError, UNZIPPED, Zone};

/// A fresh directory that receives a payload; dropped without [`Unpacking::commit`], all of it goes.
pub struct Unpacking<'a> {
    zone: &'a Zone,
    root: OwnedFd,
    file: Option<(OwnedFd, String)>,
}

impl<'a> Unpacking<'a> {
    pub(super) fn begin(zone: &'a Zone) -> Result<Self, LandingError> {
        let fail = |errno| write_error(zone, FRESH, 0, errno);
        fs::mkdirat(&zone.root, FRESH, Mode::RWXU).map_err(fail)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = fs::openat(&zone.root, FRESH, flags, Mode::empty()).map_err(fail)?;
        Ok(Self {
            zone,
            root,
            file: None,
        })
    }

    /// Puts the payload in the place of the old one, in one step, and then removes the old one.
    ///
    /// # Errors
    /// [`LandingError`]; the old payload is then still there.
    pub fn commit(mut self) -> Result<(), LandingError> {
        self.file = None;
        let swap =
            |flags| fs::renameat_with(&self.zone.root, FRESH, &self.zone.root, UNZIPPED, flags);
        match swap(RenameFlags::EXCHANGE) {
            // What has been replaced now bears the fresh one's name, and goes when this value does.
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => {
                swap(RenameFlags::NOREPLACE).map_err(|errno| self.error(UNZIPPED, 0, errno))
            }
            Err(errno) => Err(self.error(UNZIPPED, 0, errno)),
        }
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        beneath::open(&self.root, path, flags)
    }

    /// Makes one directory, and those above it that have no entry of their own; one that is there stays.
    fn make_directory(&self, path: &str) -> Result<(), Errno> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let made = |place: &dyn Fn() -> Result<(), Errno>| match place() {
            Err(Errno::EXIST) => Ok(()),
            result => result,
        };
        if above.is_empty() {
            return made(&|| fs::mkdirat(&self.root, name, Mode::RWXU));
        }
        let parent = match self.open(above, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                self.make_directory(above)?;
                self.open(above, OFlags::PATH | OFlags::DIRECTORY)?
            }
            result => result?,
        };
        made(&|| fs::mkdirat(&parent, name, Mode::RWXU))
    }

    fn create(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        match (self.open(path, flags), path.rsplit_once('/')) {
            (Err(Errno::NOENT), Some((above, _))) => {
                self.make_directory(above)?;
                self.open(path, flags)
            }
            (result, _) => result,
        }
    }

    fn error(&self, path: &str, need: u64, errno: Errno) -> LandingError {
        write_error(self.zone, path, need, errno)
    }
}

impl Sink for Unpacking<'_> {
    type Error = LandingError;

    fn directory(&mut self, path: &str, mode: u32) -> Result<(), LandingError> {
        let path = path.trim_end_matches('/');
        let make = || {
            self.make_directory(path)?;
            let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            // Its owner must get in, whatever the archive says.
            fs::fchmod(directory, permissions(mode) | Mode::RWXU)
        };
        make().map_err(|errno| self.error(path, 0, errno))
    }

    fn file(&mut self, path: &str, mode: u32, size: u64) -> Result<(), LandingError> {
        self.file = None;
        let make = || {
            let file = self.create(path)?;
            fs::fchmod(&file, permissions(mode))?;
            // Takes the room now, so that a payload that doesn't fit fails before its bytes are written.
            if size > 0 {
                fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size)?;
            }
            Ok(file)
        };
        let file = make().map_err(|errno| self.error(path, size, errno))?;
        self.file = Some((file, path.to_owned()));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), LandingError> {
        let Some((file, path)) = &self.file else {
            return Err(LandingError::NoFile);
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(file.as_fd(), rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(self.error(
                        path,
                        u64::try_from(rest.len()).unwrap_or(u64::MAX),
                        errno,
                    ));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), LandingError> {
        self.file.take().map(drop).ok_or(LandingError::NoFile)
    }
}

impl Drop for Unpacking<'_> {
    fn drop(&mut self) {
        self.file = None;
        if let Err(error) = self.zone.remove_leftovers() {
            log::error!("a payload that didn't land, or an old one, is still there: {error}");
        }
    }
}

/// The permission bits alone: no setuid, setgid or sticky.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

fn write_error(zone: &Zone, path: &str, need: u64, errno: Errno) -> LandingError {
    let path = match path {
        FRESH | UNZIPPED => zone.path.join(path),
        inside => PathBuf::from(inside),
    };
    match errno {
        Errno::NOSPC | Errno::DQUOT => LandingError::NoRoom {
            path,
            need,
            size: zone.size,
        },
        errno => LandingError::Write { path, errno },
    }
}
