//! The kernel's logs of this boot: opened while the agent is who it was started as, before fences, and read as often as
//! somebody asks.
//!
//! What is open grows like the log itself. A handle has one place in it, so it serves one reader at a time.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::drive::Logs;

use crate::net::stream::Io;

#[cfg(feature = "pull")]
pub use shelves::{Lent, Shelves};

/// Where the logs are; none of one that isn't to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPaths {
    /// IMA's list, as text.
    pub ima: Option<PathBuf>,
    /// The firmware's event log, as bytes.
    pub boot: Option<PathBuf>,
}

impl LogPaths {
    /// One handle of each log that is there. One that isn't is logged of, and does no harm: whoever needs it will say so.
    #[must_use]
    pub fn open(&self) -> Logs<Io<File>> {
        let open = |path: &Option<PathBuf>| open(path.as_deref()).map(Io);
        Logs::new(open(&self.ima), open(&self.boot))
    }
}

fn open(path: Option<&Path>) -> Option<File> {
    let path = path?;
    match File::open(path) {
        Ok(file) => return Some(file),
        // A machine without IMA, or without a firmware that keeps a log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::info!("{} isn't there, so it isn't sent", path.display());
        }
        Err(error) => log::warn!("{} isn't sent: {error}", path.display()),
    }
    None
}

#[cfg(feature = "pull")]
mod shelves {
    use std::io::{Read, Seek, SeekFrom};
    use std::sync::{Arc, Mutex, PoisonError};

    use agent_core::drive::AllLent;
    use agent_core::wire::log::LogKind;

    use super::{File, LogPaths, Path, io, open};

    /// Handles of the logs for requests that come side by side.
    #[derive(Default)]
    pub struct Shelves {
        ima: Option<Shelf>,
        boot: Option<Shelf>,
    }

    type Shelf = Arc<Mutex<Vec<File>>>;

    impl Shelves {
        /// So many handles of each log that is there.
        #[must_use]
        pub fn open(paths: &LogPaths, count: usize) -> Self {
            Self {
                ima: shelf(paths.ima.as_deref(), count),
                boot: shelf(paths.boot.as_deref(), count),
            }
        }

        /// A handle of this log, which comes back when it is dropped; none if there is no such log.
        ///
        /// # Errors
        /// [`AllLent`].
        pub fn lend(&self, kind: LogKind) -> Result<Option<Lent>, AllLent> {
            let shelf = match kind {
                LogKind::Ima => &self.ima,
                LogKind::Boot => &self.boot,
            };
            let Some(shelf) = shelf else {
                return Ok(None);
            };
            let mut files = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let file = files.pop().ok_or(AllLent)?;
            Ok(Some(Lent {
                file: Some(file),
                shelf: Arc::clone(shelf),
            }))
        }
    }

    fn shelf(path: Option<&Path>, count: usize) -> Option<Shelf> {
        let path = path?;
        let mut files = vec![open(Some(path))?];
        files.extend((1..count).map_while(|_| File::open(path).ok()));
        Some(Arc::new(Mutex::new(files)))
    }

    /// A handle that is lent.
    pub struct Lent {
        file: Option<File>,
        shelf: Shelf,
    }

    impl Lent {
        fn file(&mut self) -> io::Result<&mut File> {
            // It is there until it is dropped.
            self.file.as_mut().ok_or(io::ErrorKind::NotFound.into())
        }
    }

    impl Drop for Lent {
        fn drop(&mut self) {
            let mut files = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
            files.extend(self.file.take());
        }
    }

    impl Read for Lent {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.file()?.read(buffer)
        }
    }

    impl Seek for Lent {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file()?.seek(to)
        }
    }
}

#[cfg(all(test, feature = "pull"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::fs::OpenOptions;
    use std::io::{Read, Seek, Write};

    use agent_core::drive::AllLent;
    use agent_core::wire::log::LogKind;

    use super::*;

    #[test]
    fn handles_come_back_and_see_what_is_new() {
        let directory = tempfile::TempDir::new().unwrap();
        let list = directory.path().join("list");
        std::fs::write(&list, "one\n").unwrap();
        let paths = LogPaths {
            ima: Some(list.clone()),
            boot: Some(directory.path().join("none")),
        };
        let shelves = Shelves::open(&paths, 2);
        assert!(shelves.lend(LogKind::Boot).unwrap().is_none());
        let mut one = shelves.lend(LogKind::Ima).unwrap().unwrap();
        let other = shelves.lend(LogKind::Ima).unwrap().unwrap();
        assert!(matches!(shelves.lend(LogKind::Ima), Err(AllLent)));
        drop(other);
        let mut other = shelves.lend(LogKind::Ima).unwrap().unwrap();

        let mut text = String::new();
        one.read_to_string(&mut text).unwrap();
        let mut file = OpenOptions::new().append(true).open(&list).unwrap();
        file.write_all(b"two\n").unwrap();
        one.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
        // Each has its own place, and a name that is gone changes nothing.
        std::fs::remove_file(&list).unwrap();
        other.rewind().unwrap();
        assert_eq!(std::io::read_to_string(other).unwrap(), "one\ntwo\n");
    }
}
