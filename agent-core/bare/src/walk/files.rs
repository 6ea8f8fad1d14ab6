//! The payload's archive, and a sink that takes nothing but its content.

use core::fmt;

use agent_core::payload::sink::Sink;

/// A stored file, a directory, a deflated file, as Info-ZIP wrote them.
pub const ARCHIVE: &[u8] = include_bytes!("../../../tests/vectors/zip/infozip.zip");

const CONTENT: &[Entry] = &[
    Entry {
        path: "autorun.sh",
        mode: 0o755,
        bytes: 18,
        repeats: b"#!/bin/sh\necho hi\n",
    },
    Entry {
        path: "sub",
        mode: 0o711,
        bytes: 0,
        repeats: b"",
    },
    Entry {
        path: "sub/text",
        mode: 0o644,
        bytes: 3200,
        repeats: b"infozip ",
    },
];

/// A file, or a directory if nothing repeats in it.
struct Entry {
    path: &'static str,
    mode: u32,
    bytes: u64,
    repeats: &'static [u8],
}

/// How much of [`CONTENT`] has come.
#[derive(Default)]
pub struct Files {
    entries: usize,
    /// Bytes of the file that comes.
    bytes: u64,
}

/// It isn't what comes next.
#[derive(Debug)]
pub struct Unexpected;

impl fmt::Display for Unexpected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("it isn't what comes next")
    }
}

impl Files {
    /// Whether everything has come.
    pub fn are_all(&self) -> bool {
        self.entries == CONTENT.len()
    }

    fn next(&self) -> Result<&'static Entry, Unexpected> {
        CONTENT.get(self.entries).ok_or(Unexpected)
    }

    fn begins(&self, path: &str, mode: u32, bytes: u64) -> Result<(), Unexpected> {
        let next = self.next()?;
        let is_next = (path, mode, bytes) == (next.path, next.mode, next.bytes);
        is_next.then_some(()).ok_or(Unexpected)
    }

    fn ends(&mut self) -> Result<(), Unexpected> {
        let is_whole = self.bytes == self.next()?.bytes;
        self.bytes = 0;
        self.entries = self.entries.saturating_add(1);
        is_whole.then_some(()).ok_or(Unexpected)
    }
}

impl Sink for Files {
    type Error = Unexpected;

    fn directory(&mut self, path: &str, mode: u32) -> Result<(), Unexpected> {
        self.begins(path, mode, 0)?;
        self.ends()
    }

    fn file(&mut self, path: &str, mode: u32, size: u64) -> Result<(), Unexpected> {
        self.begins(path, mode, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Unexpected> {
        #[cfg(feature = "should-fail-panic")]
        core::hint::black_box(bytes[core::hint::black_box(bytes.len())]);
        let wanted = self.next()?.repeats.iter().cycle();
        let done = usize::try_from(self.bytes).map_err(|_| Unexpected)?;
        if !bytes.iter().eq(wanted.skip(done).take(bytes.len())) {
            return Err(Unexpected);
        }
        let come = u64::try_from(bytes.len()).map_err(|_| Unexpected)?;
        self.bytes = self.bytes.saturating_add(come);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unexpected> {
        self.ends()
    }
}
