//! The last good copy's file, beside the spooled payload: one for an agent, replaced as a whole, of bounded size.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_core::outbound::MAX_COPY_HEAD_BYTES;
use agent_core::wire::text::Uuid;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::file::{failed, is_ours, open_directory, remove_at};
use super::{SpoolError, u64_of};

/// The most bytes that a copy has: its head, and a deposit's answer.
pub const MAX_COPY_BYTES: usize = MAX_COPY_HEAD_BYTES + 32 * 1024;

/// Where an agent's copy lies.
pub struct CopyFile {
    dir: PathBuf,
    name: String,
}

impl CopyFile {
    /// The place of this agent's copy in a spool's directory; nothing is opened yet.
    #[must_use]
    pub fn new(dir: &Path, agent: &Uuid) -> Self {
        Self {
            dir: dir.to_owned(),
            name: format!("{agent}.last-good"),
        }
    }

    /// The copy's bytes, if there is one.
    ///
    /// # Errors
    /// [`SpoolError::File`], also for a link, or a file that others than this user can open; [`SpoolError::TooMuch`].
    pub fn read(&self) -> Result<Option<Vec<u8>>, SpoolError> {
        let directory = open_directory(&self.dir)?;
        // A pipe in its place must not make us wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match fs::openat(&directory, &self.name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file.map_err(|errno| self.failed(errno))?,
        };
        let stat = fs::fstat(&file).map_err(|errno| self.failed(errno))?;
        if !is_ours(&stat) {
            return Err(self.failed(Errno::PERM));
        }
        let have = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        let limit = u64_of(MAX_COPY_BYTES);
        let room = usize::try_from(have).ok().filter(|_| have <= limit);
        let mut bytes = vec![0; room.ok_or(SpoolError::TooMuch { have, limit })?];
        self.read_all(&file, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Puts a copy in place of the one that there is, as a whole and on the disk, or not at all.
    ///
    /// # Errors
    /// [`SpoolError`]; an earlier copy may still be there.
    pub fn write(&self, parts: [&[u8]; 2]) -> Result<(), SpoolError> {
        let bytes = parts.concat();
        if bytes.len() > MAX_COPY_BYTES {
            let (have, limit) = (u64_of(bytes.len()), u64_of(MAX_COPY_BYTES));
            return Err(SpoolError::TooMuch { have, limit });
        }
        let directory = open_directory(&self.dir)?;
        let new = self.new_name();
        let need = u64_of(bytes.len());
        self.put(&directory, &new, &bytes)
            .map_err(|errno| failed(&self.path(), need, errno))
    }

    /// Removes the copy: whether there was one.
    ///
    /// # Errors
    /// [`SpoolError::File`].
    pub fn remove(&self) -> Result<bool, SpoolError> {
        // Where there is no directory, nothing is in it.
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match fs::open(&self.dir, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            directory => directory.map_err(|errno| self.failed(errno))?,
        };
        let fail = |errno| self.failed(errno);
        let was = fs::statat(&directory, &self.name, fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
        remove_at(&directory, &self.new_name()).map_err(fail)?;
        remove_at(&directory, &self.name).map_err(fail)?;
        if was {
            fs::fsync(&directory).map_err(fail)?;
        }
        Ok(was)
    }

    fn put(&self, directory: &OwnedFd, new: &str, mut bytes: &[u8]) -> Result<(), Errno> {
        remove_at(directory, new)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(directory, new, flags, Mode::RUSR | Mode::WUSR)?;
        while !bytes.is_empty() {
            match rustix::io::write(&file, bytes) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        fs::fsync(&file)?;
        fs::renameat(directory, new, directory, &self.name)?;
        fs::fsync(directory)
    }

    fn read_all(&self, file: &OwnedFd, mut room: &mut [u8]) -> Result<(), SpoolError> {
        let mut at = 0;
        while !room.is_empty() {
            match rustix::io::read(file, &mut *room) {
                Ok(0) => return Err(SpoolError::Cut { at }),
                Ok(read) => {
                    room = room.get_mut(read..).unwrap_or_default();
                    at = at.saturating_add(u64_of(read));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        Ok(())
    }

    fn new_name(&self) -> String {
        format!("{}.new", self.name)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    fn failed(&self, errno: Errno) -> SpoolError {
        failed(&self.path(), 0, errno)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn file() -> (tempfile::TempDir, CopyFile) {
        let dir = tempfile::tempdir().unwrap();
        let copy = CopyFile::new(&dir.path().join("spool"), &Uuid::parse("node").unwrap());
        (dir, copy)
    }

    #[test]
    fn replaced_as_a_whole_and_removed() {
        let (_dir, copy) = file();
        assert!(!copy.remove().unwrap());
        assert_eq!(copy.read(), Ok(None));
        for body in [&b"one"[..], b"", b"three"] {
            copy.write([b"head ", body]).unwrap();
            assert_eq!(copy.read().unwrap().unwrap(), [b"head ", body].concat());
            assert_eq!(copy.path().metadata().unwrap().mode() & 0o7777, 0o600);
            assert_eq!(std::fs::read_dir(&copy.dir).unwrap().count(), 1);
        }
        assert!(copy.remove().unwrap());
        assert_eq!(copy.read(), Ok(None));
    }

    #[test]
    fn neither_links_nor_others_files_nor_large_ones_are_read() {
        let (dir, copy) = file();
        copy.write([b"a", b"b"]).unwrap();
        std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(copy.read().is_err(), "others can open it");
        let large = vec![0; MAX_COPY_BYTES + 1];
        assert!(copy.write([&large, b""]).is_err());
        std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(copy.path(), &large).unwrap();
        assert!(copy.read().is_err(), "large");
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "untouched").unwrap();
        std::fs::remove_file(copy.path()).unwrap();
        symlink(&elsewhere, copy.path()).unwrap();
        symlink(&elsewhere, copy.dir.join(copy.new_name())).unwrap();
        assert!(copy.read().is_err(), "a link");
        copy.write([b"a", b"b"]).unwrap();
        assert_eq!(copy.read().unwrap().unwrap(), b"ab");
        assert_eq!(std::fs::read(elsewhere).unwrap(), b"untouched");
    }
}
