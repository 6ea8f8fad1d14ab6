//! Lines of a list: which are wanted, and how much that is.

use core::fmt::{self, Write};

use super::text::TextWriter;
use crate::wire::json::Escaper;

/// Lines that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The first of them; the list's first is 0.
    pub from: u64,
    /// How many at most.
    pub count: u64,
}

impl Lines {
    /// All from this one on.
    #[must_use]
    pub const fn from(from: u64) -> Self {
        Self {
            from,
            count: u64::MAX,
        }
    }

    fn has(self, line: u64) -> bool {
        line.checked_sub(self.from)
            .is_some_and(|index| index < self.count)
    }
}

/// A part of a log, and what becomes of it in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes before it.
    pub start: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of the string that they become.
    pub written: u64,
    /// Its first entry.
    pub first: u64,
    /// Its entries.
    pub entries: u64,
    /// Entries of the whole log.
    pub total: u64,
}

impl Extent {
    /// The whole of a log of so many bytes, which becomes base64. Its entries aren't counted.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        Self {
            start: 0,
            bytes,
            written: bytes.div_ceil(3).saturating_mul(4),
            first: 0,
            entries: 0,
            total: 0,
        }
    }
}

/// Finds lines in a list that comes in pieces. A last line without an end isn't one yet.
#[derive(Debug)]
pub struct LineSurvey {
    wanted: Lines,
    found: Extent,
    text: TextWriter,
    /// Bytes of the line that is open, and of what they become.
    bytes: u64,
    written: Written,
}

impl LineSurvey {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(wanted: Lines) -> Self {
        Self {
            wanted,
            found: Extent {
                first: wanted.from,
                ..Extent::default()
            },
            text: TextWriter::default(),
            bytes: 0,
            written: Written(0),
        }
    }

    /// The next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.bytes = self.bytes.saturating_add(u64_of(piece.len()));
            if self.wanted.has(self.found.total) {
                // A count takes everything.
                let _ = self.text.feed(piece, &mut Escaper(&mut self.written));
            }
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let found = &mut self.found;
        let bytes = core::mem::take(&mut self.bytes);
        if self.wanted.has(found.total) {
            found.bytes = found.bytes.saturating_add(bytes);
            found.written = found.written.saturating_add(self.written.0);
            found.entries = found.entries.saturating_add(1);
        } else if found.total < self.wanted.from {
            found.start = found.start.saturating_add(bytes);
        }
        self.written = Written(0);
        found.total = found.total.saturating_add(1);
    }

    /// What there was. Lines beyond the list's end are none: then [`Extent::first`] is above [`Extent::total`].
    #[must_use]
    pub const fn finish(&self) -> Extent {
        self.found
    }
}

/// Counts what is written.
#[derive(Debug)]
pub(super) struct Written(pub(super) u64);

impl Write for Written {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(u64_of(text.len()));
        Ok(())
    }
}

fn u64_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    fn survey(list: &[u8], wanted: Lines, piece: usize) -> Extent {
        let mut survey = LineSurvey::new(wanted);
        list.chunks(piece).for_each(|bytes| survey.feed(bytes));
        survey.finish()
    }

    #[test]
    fn what_is_found_is_what_is_written() {
        let list = b"10 a\n10 \"b\\\"\n10 \xc3\xa4\xff\n10 d\x07\nnot whole";
        let rows = [
            (
                "all",
                Lines::from(0),
                "10 a\\n10 \\\"b\\\\\\\"\\n10 \u{e4}\u{fffd}\\n10 d\\u0007\\n",
                4,
            ),
            (
                "some",
                Lines { from: 1, count: 1 },
                "10 \\\"b\\\\\\\"\\n",
                1,
            ),
            ("rest", Lines::from(3), "10 d\\u0007\\n", 1),
            ("next", Lines::from(4), "", 0),
            ("beyond", Lines::from(5), "", 0),
            ("far beyond", Lines::from(u64::MAX), "", 0),
            ("none", Lines { from: 2, count: 0 }, "", 0),
            (
                "more than there are",
                Lines { from: 2, count: 9 },
                "10 \u{e4}\u{fffd}\\n10 d\\u0007\\n",
                2,
            ),
        ];
        for (name, wanted, want, entries) in rows {
            for piece in [1, 2, 3, 7, 100] {
                let found = survey(list, wanted, piece);
                let start = usize::try_from(found.start).unwrap();
                let part = &list[start..][..usize::try_from(found.bytes).unwrap()];
                let mut text = String::new();
                let mut writer = TextWriter::default();
                writer.feed(part, &mut Escaper(&mut text)).unwrap();
                assert_eq!(text, want, "{name}, {piece}");
                assert_eq!(found.written, u64_of(want.len()), "{name}, {piece}");
                assert_eq!((found.entries, found.total), (entries, 4), "{name}");
                assert_eq!(found.first, wanted.from, "{name}");
            }
        }
    }

    #[test]
    fn an_empty_list_has_no_lines() {
        let found = survey(b"", Lines::from(0), 1);
        assert_eq!(found, Extent::default());
    }

    #[test]
    fn base64_is_longer() {
        for (bytes, written) in [(0, 0), (1, 4), (3, 4), (4, 8), (300, 400)] {
            assert_eq!(Extent::of_bytes(bytes).written, written);
        }
    }
}
