//! The notice's message as a file, which an action gets as its first argument and as its standard input.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// A file that only its owner reads; it goes with the value.
pub(super) struct MessageFile(PathBuf);

impl MessageFile {
    /// Writes the message into a directory that nobody else writes to; what a killed agent left there is replaced.
    pub(super) fn write(directory: &Path, message: &str) -> io::Result<Self> {
        let path = directory.join(NAME);
        files::remove(&path)?;
        files::create(&path, message.as_bytes())?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The file to read from, at its beginning.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.0)
    }
}

impl Drop for MessageFile {
    fn drop(&mut self) {
        // One that stays is in nobody's way: the next replaces it, or says that it can't.
        let _ = files::remove(&self.0);
    }
}

/// One is enough: actions run one after the other.
const NAME: &str = ".revocation.json";
