//! The spool's file: opened beneath its directory's handle, ours alone, and nobody's link.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{SpoolError, u64_of};

/// An open spool file, and the directory that it lies in.
pub(super) struct SpoolFile {
    directory: OwnedFd,
    name: String,
    file: OwnedFd,
    path: PathBuf,
}

impl SpoolFile {
    /// Opens or makes the file of a deposit, removes this agent's others, and says how many bytes of it are there. A file
    /// that is longer than the deposit, or that this user alone didn't make, is started anew.
    pub(super) fn open(
        dir: &Path,
        agent: &Uuid,
        id: PayloadId,
        limit: u64,
    ) -> Result<(Self, u64), SpoolError> {
        let name = format!("{agent}.{id}{SUFFIX}");
        let directory = open_directory(dir)?;
        let path = dir.join(&name);
        remove_others(&directory, dir, agent, &name)?;
        let opened = open_ours(&directory, &name, limit);
        let (file, have) = opened.map_err(|errno| failed(&path, 0, errno))?;
        let spool = Self {
            directory,
            name,
            file,
            path,
        };
        Ok((spool, have))
    }

    /// Writes at `have`, which goes along.
    pub(super) fn write(&self, have: &mut u64, mut bytes: &[u8]) -> Result<(), SpoolError> {
        while !bytes.is_empty() {
            let written = match rustix::io::pwrite(&self.file, bytes, *have) {
                Ok(0) => Err(Errno::NOSPC),
                Err(Errno::INTR) => continue,
                written => written,
            };
            let written =
                written.map_err(|errno| failed(&self.path, u64_of(bytes.len()), errno))?;
            bytes = bytes.get(written..).unwrap_or_default();
            *have = have.saturating_add(u64_of(written));
        }
        Ok(())
    }

    /// Reads exactly as many bytes as there is room for.
    pub(super) fn read(&self, mut at: u64, mut room: &mut [u8]) -> Result<(), SpoolError> {
        while !room.is_empty() {
            let read = match rustix::io::pread(&self.file, &mut *room, at) {
                Ok(0) => return Err(SpoolError::Cut { at }),
                Err(Errno::INTR) => continue,
                read => read.map_err(|errno| failed(&self.path, 0, errno))?,
            };
            room = room.get_mut(read..).unwrap_or_default();
            at = at.saturating_add(u64_of(read));
        }
        Ok(())
    }

    /// Throws away all bytes.
    pub(super) fn empty(&self) -> Result<(), SpoolError> {
        fs::ftruncate(&self.file, 0).map_err(|errno| failed(&self.path, 0, errno))
    }

    /// Removes the file.
    pub(super) fn remove(self) -> Result<(), SpoolError> {
        match fs::unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => Err(failed(&self.path, 0, errno)),
            _ => Ok(()),
        }
    }
}

pub(super) fn open_directory(dir: &Path) -> Result<OwnedFd, SpoolError> {
    let fail = |errno| failed(dir, 0, errno);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
}

/// Opens the file if it is ours and not too long, with what it holds; or makes it.
fn open_ours(directory: &OwnedFd, name: &str, limit: u64) -> Result<(OwnedFd, u64), Errno> {
    // A pipe in its place must not make us wait.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => {
            let stat = fs::fstat(&file)?;
            let have = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if is_ours(&stat) && have <= limit {
                return Ok((file, have));
            }
        }
        Err(Errno::NOENT) => {}
        // A link, a directory, somebody else's: away with it.
        Err(Errno::LOOP | Errno::ISDIR | Errno::ACCESS | Errno::NXIO | Errno::NODEV) => {}
        Err(errno) => return Err(errno),
    }
    remove_at(directory, name)?;
    let new = flags | OFlags::CREATE | OFlags::EXCL;
    let file = fs::openat(directory, name, new, Mode::RUSR | Mode::WUSR)?;
    Ok((file, 0))
}

/// A plain file of this user that nobody else can open, and that has no second name: what is written goes nowhere else.
pub(super) fn is_ours(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o7777 == 0o600
        && stat.st_nlink == 1
}

/// Removes what this agent's other deposits left.
fn remove_others(
    directory: &OwnedFd,
    dir: &Path,
    agent: &Uuid,
    name: &str,
) -> Result<(), SpoolError> {
    let fail = |errno| failed(dir, 0, errno);
    for entry in Dir::read_from(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if let Some(other) = of_agent(entry.file_name(), agent)
            && other != name
        {
            remove_at(directory, other).map_err(|errno| failed(&dir.join(other), 0, errno))?;
        }
    }
    Ok(())
}

/// A name, if it is that of a deposit of this agent.
fn of_agent<'a>(name: &'a CStr, agent: &Uuid) -> Option<&'a str> {
    let name = name.to_str().ok()?;
    let rest = name.strip_prefix(agent.as_str())?.strip_prefix('.')?;
    PayloadId::parse(rest.strip_suffix(SUFFIX)?).map(|_| name)
}

pub(super) fn remove_at(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    let removed = match fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => fs::unlinkat(directory, name, AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Err(errno) if errno != Errno::NOENT => Err(errno),
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path, need: u64, errno: Errno) -> SpoolError {
    let path = path.to_owned();
    match errno {
        Errno::NOSPC | Errno::DQUOT => SpoolError::Full { path, need },
        errno => SpoolError::File { path, errno },
    }
}

const SUFFIX: &str = ".sealed";
