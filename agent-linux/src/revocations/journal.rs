//! The journal's files: lines that are appended to one, and a file for each message.
//!
//! Its directory is its owner's alone, in memory. A line that isn't whole was being written when the agent was killed, and
//! nothing had come of it yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_core::revocation::MAX_MESSAGE_BYTES;

use super::line::Line;
use crate::files;

/// An open journal.
pub(super) struct Journal {
    path: PathBuf,
    directory: File,
    lines: File,
    /// Bytes of lines now, and when they were written anew.
    bytes: u64,
    anew: u64,
    /// Messages that are there, and their bytes.
    messages: Vec<(u64, u64)>,
    room: u64,
}

impl Journal {
    /// Opens the journal in this directory, which is made if it isn't there, with the lines that it has.
    pub(super) fn open(path: &Path, room: u64) -> io::Result<(Self, Vec<u8>)> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut messages = Vec::new();
        for file in fs::read_dir(path)? {
            let file = file?;
            if let Some(seq) = file.file_name().to_str().and_then(|name| name.parse().ok()) {
                messages.push((seq, file.metadata()?.len()));
            }
        }
        let text = match files::read(&path.join(LINES), MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            text => text?,
        };
        // What follows the last end of a line goes.
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        let text = text.get(..whole.map_or(0, |at| at + 1)).unwrap_or_default();
        let lines = open_lines(path)?;
        let bytes = length(text);
        lines.set_len(bytes)?;
        let journal = Self {
            directory: File::open(path)?,
            path: path.to_owned(),
            lines,
            bytes,
            anew: 0,
            messages,
            room,
        };
        Ok((journal, text.to_vec()))
    }

    /// Its directory.
    pub(super) const fn directory(&self) -> &File {
        &self.directory
    }

    /// Appends a line, whole or not at all.
    pub(super) fn append(&mut self, line: &Line) -> io::Result<()> {
        let text = format!("{line}\n");
        if let Err(error) = self.lines.write_all(text.as_bytes()) {
            let _ = self.lines.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += length(text.as_bytes());
        Ok(())
    }

    /// Whether it has grown so much that it is to be written anew.
    pub(super) const fn is_long(&self) -> bool {
        self.bytes > LONG && self.bytes / 2 > self.anew
    }

    /// Puts these lines in the place of all.
    pub(super) fn rewrite(&mut self, lines: &[Line]) -> io::Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        files::replace(&self.path.join(LINES), text.as_bytes(), 0o600)?;
        self.lines = open_lines(&self.path)?;
        self.bytes = length(text.as_bytes());
        self.anew = self.bytes;
        Ok(())
    }

    /// Keeps a message.
    pub(super) fn put(&mut self, seq: u64, text: &str) -> io::Result<()> {
        let taken: u64 = self.messages.iter().map(|(_, bytes)| bytes).sum();
        let need = length(text.as_bytes());
        if taken.saturating_add(need) > self.room {
            return Err(ErrorKind::StorageFull.into());
        }
        files::create(&self.message(seq), text.as_bytes())?;
        self.messages.push((seq, need));
        Ok(())
    }

    /// A message's text.
    pub(super) fn get(&self, seq: u64) -> io::Result<String> {
        let text = files::read(&self.message(seq), MAX_MESSAGE_BYTES)?;
        String::from_utf8(text).map_err(|_| ErrorKind::InvalidData.into())
    }

    /// Removes the messages that nobody waits for any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u64) -> bool) {
        let path = &self.path;
        self.messages.retain(|(seq, _)| {
            is_wanted(*seq) || {
                let removed = files::remove(&path.join(seq.to_string()));
                removed.is_err()
            }
        });
    }

    /// The highest number of a message that is there.
    pub(super) fn last(&self) -> u64 {
        self.messages.iter().map(|(seq, _)| *seq).max().unwrap_or(0)
    }

    fn message(&self, seq: u64) -> PathBuf {
        self.path.join(seq.to_string())
    }
}

fn open_lines(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    options.open(path.join(LINES))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The file with the lines.
const LINES: &str = "journal";
/// Above this it is written anew, with what still counts.
const LONG: u64 = 64 * 1024;
/// More than it ever has: 80 messages with the most actions, and as much again before it is written anew.
const MAX_BYTES: usize = 8 << 20;
