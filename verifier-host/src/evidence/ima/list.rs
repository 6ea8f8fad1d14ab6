//! A measurement list, entry by entry.

use thiserror::Error;

use super::entry::{Entry, Head, MAX_DATA_BYTES, read};
use super::template::Template;
use super::{ascii, binary};

/// The longest line: an entry in hexadecimal, with room for what stands before it.
pub const MAX_LINE_BYTES: usize = 2 * MAX_DATA_BYTES + 512;

/// Why an entry can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineError {
    /// Longer than lines are.
    #[error("its {what} has {have} bytes, and up to {limit} are taken")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its size, as far as it was read.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// It ends early.
    #[error("it ends before its {what}")]
    Ends {
        /// What is missing.
        what: &'static str,
    },
    /// A part that isn't written as the kernel writes it.
    #[error("its {what} is {found:?}")]
    Part {
        /// Which part.
        what: &'static str,
        /// What stands there, cut to a line.
        found: String,
    },
    /// A template that isn't known.
    #[error(
        "its template {template:?} is not known; ima-ng and ima-sig are the usual ones (ima_template=)"
    )]
    Template {
        /// Its name.
        template: String,
    },
    /// A template that says too little.
    #[error("its template {template} has no {lacks}")]
    Lacks {
        /// Its name.
        template: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// A template hash of a size that no supported hash has.
    #[error("its template hash has {have} bytes, which no hash of a list has")]
    TemplateHashSize {
        /// Its size.
        have: usize,
    },
    /// Template data that aren't of their template.
    #[error("its template data break at {field}")]
    Data {
        /// The field.
        field: &'static str,
    },
}

/// Reads a list. Not an iterator: an entry borrows the reader, which keeps no more than one.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    format: Format,
    read: u64,
    template: Template,
    data: Vec<u8>,
    template_hash: [u8; MAX_TEMPLATE_HASH_BYTES],
}

/// The largest template hash.
pub(super) const MAX_TEMPLATE_HASH_BYTES: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Format {
    Ascii,
    /// With template hashes of so many bytes.
    Binary(usize),
}

impl<'a> Lines<'a> {
    /// Reads a list from its first line on: text as in `ascii_runtime_measurements`, or as in `binary_runtime_measurements`.
    #[must_use]
    pub fn new(list: &'a [u8]) -> Self {
        Self::after(0, list)
    }

    /// Reads the part of a list that follows its first `lines` lines.
    #[must_use]
    pub fn after(lines: u64, list: &'a [u8]) -> Self {
        let format = binary::hash_bytes(list).map_or(Format::Ascii, Format::Binary);
        Self {
            rest: list,
            format,
            read: lines,
            template: Template::default(),
            data: Vec::new(),
            template_hash: [0; MAX_TEMPLATE_HASH_BYTES],
        }
    }

    /// Number of lines up to here, counted from the list's first.
    #[must_use]
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// The next entry, if there is one. After an error nothing more can be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows the reader, which no iterator's item can"
    )]
    pub fn next(&mut self) -> Option<Result<Entry<'_>, LineError>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.next_entry())
    }

    fn next_entry(&mut self) -> Result<Entry<'_>, LineError> {
        let (line, rest) = (self.read + 1, self.rest);
        // Nothing can be read after an error.
        self.rest = &[];
        let (pcr, hash_bytes, behind) = match self.format {
            Format::Ascii => {
                let (text, behind) = ascii::split_line(rest)?;
                let (hash, template) = (&mut self.template_hash, &mut self.template);
                let parts = ascii::parse(text, hash, template, &mut self.data)?;
                (parts.pcr, parts.hash_bytes, behind)
            }
            Format::Binary(hash_bytes) => {
                let parts = binary::parse(rest, hash_bytes, &mut self.template, &mut self.data)?;
                let hash = self.template_hash.get_mut(..hash_bytes);
                hash.ok_or(LineError::TemplateHashSize { have: hash_bytes })?
                    .copy_from_slice(parts.template_hash);
                (parts.pcr, hash_bytes, parts.behind)
            }
        };
        let head = Head {
            line,
            pcr,
            template: &self.template,
            template_hash: self.template_hash.get(..hash_bytes).unwrap_or_default(),
        };
        let entry = read(head, &self.data)?;
        self.rest = behind;
        self.read = line;
        Ok(entry)
    }

    /// Number of lines that weren't read; nothing is known of them but that they are there.
    #[must_use]
    pub fn count_rest(mut self) -> u64 {
        let before = self.read;
        match self.format {
            Format::Ascii => {
                let ends = memchr::memchr_iter(b'\n', self.rest).count();
                let unended = !self.rest.is_empty() && !self.rest.ends_with(b"\n");
                u64::try_from(ends).unwrap_or(u64::MAX) + u64::from(unended)
            }
            Format::Binary(_) => {
                while let Some(Ok(_)) = self.next() {}
                self.read - before
            }
        }
    }
}
