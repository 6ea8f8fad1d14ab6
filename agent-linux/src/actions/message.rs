//! The notice's message as a file, which an action gets as its first argument and as its standard input.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that only its owner reads; it goes with the value.
pub(super) struct MessageFile(PathBuf);

impl MessageFile {
    /// Writes the message into a directory that nobody else writes to; what a killed agent left there is replaced.
    pub(super) fn write(directory: &Path, message: &str) -> io::Result<Self> {
        let path = directory.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let written = Self(path);
        file.write_all(message.as_bytes())?;
        Ok(written)
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
        let _ = fs::remove_file(&self.0);
    }
}

/// One is enough: actions run one after the other.
const NAME: &str = ".revocation.json";
