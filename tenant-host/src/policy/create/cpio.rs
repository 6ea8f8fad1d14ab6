//! cpio archives of the kind that Linux unpacks at boot.
//!
//! Source: `Documentation/driver-api/early-userspace/buffer-format.rst` and `init/initramfs.c` of Linux.

use std::io::{self, Read};

use super::MAX_PATH_BYTES;
use super::archive::ArchiveError;

/// The magic, and twelve fields of eight hexadecimal digits and the checksum.
const HEADER_BYTES: usize = 110;

/// The last entry's name.
const END: &str = "TRAILER!!!";

/// File types in a mode.
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Link,
    Other,
}

/// One entry, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// What its hard links have in common, if it has some: device and inode.
    pub(super) file: Option<(u32, u32, u32)>,
}

/// An archive that is read from its start.
pub(super) struct Cpio<'a> {
    source: &'a mut dyn Read,
    offset: u64,
}

impl<'a> Cpio<'a> {
    /// `first` is what was read already.
    pub(super) fn new(source: &'a mut dyn Read, offset: u64) -> Self {
        Self { source, offset }
    }

    /// Where it is now.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry; `None` at the archive's end.
    pub(super) fn next(&mut self, first: &[u8]) -> Result<Option<Entry>, ArchiveError> {
        let mut header = [0; HEADER_BYTES];
        let (known, rest) =
            header
                .split_at_mut_checked(first.len())
                .ok_or(ArchiveError::Expected {
                    what: "header",
                    offset: self.offset,
                })?;
        known.copy_from_slice(first);
        self.source.read_exact(rest)?;
        let header_offset = self.offset;
        self.offset = self.offset.saturating_add(HEADER_BYTES as u64);
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            let (what, offset) = ("header of a cpio archive (newc)", header_offset);
            return Err(ArchiveError::Expected { what, offset });
        }
        let field = |index: usize, field| number(&header, index, field, header_offset);
        let mode = field(1, "mode")?;
        let links = field(4, "number of links")?;
        let file = (field(7, "device")?, field(8, "device")?, field(0, "inode")?);
        let size = u64::from(field(6, "size")?);
        let name = self.name(u64::from(field(11, "name's length")?))?;
        if name == END {
            return Ok(None);
        }
        Ok(Some(Entry {
            kind: match mode & TYPE_MASK {
                REGULAR => Kind::Regular,
                LINK => Kind::Link,
                _ => Kind::Other,
            },
            name,
            size,
            file: (links > 1).then_some(file),
        }))
    }

    fn name(&mut self, length: u64) -> Result<String, ArchiveError> {
        let offset = self.offset;
        let limit = MAX_PATH_BYTES;
        if length == 0 || length > limit as u64 {
            return Err(ArchiveError::Name {
                offset,
                have: length,
                limit,
            });
        }
        let mut name = Vec::new();
        self.exactly(length).read_to_end(&mut name)?;
        self.advance(length)?;
        if name.pop() != Some(0) {
            return Err(ArchiveError::Expected {
                what: "end of a name",
                offset,
            });
        }
        // The kernel would take it; no policy can name it.
        String::from_utf8(name).map_err(|_| ArchiveError::Expected {
            what: "name in UTF-8",
            offset,
        })
    }

    /// An entry's content, to be read to its end before [`Cpio::skip`].
    pub(super) fn content(&mut self, size: u64) -> Content<'_> {
        Content {
            source: &mut *self.source,
            left: size,
        }
    }

    /// Goes behind the content of an entry of this size, which has been read.
    pub(super) fn advance(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.offset = self.offset.saturating_add(size);
        let padding = (4 - self.offset % 4) % 4;
        io::copy(&mut self.exactly(padding), &mut io::sink())?;
        self.offset = self.offset.saturating_add(padding);
        Ok(())
    }

    fn exactly(&mut self, size: u64) -> Content<'_> {
        self.content(size)
    }
}

/// So many bytes, and an error if they end before.
pub(super) struct Content<'a> {
    source: &'a mut dyn Read,
    left: u64,
}

impl<'a> Content<'a> {
    pub(super) fn new(source: &'a mut dyn Read, left: u64) -> Self {
        Self { source, left }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let Some(out) = out.get_mut(..most).filter(|out| !out.is_empty()) else {
            return Ok(0);
        };
        let have = self.source.read(out)?;
        if have == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(have as u64);
        Ok(have)
    }
}

fn number(
    header: &[u8],
    index: usize,
    field: &'static str,
    offset: u64,
) -> Result<u32, ArchiveError> {
    let start = 6 + 8 * index;
    let text = header
        .get(start..start + 8)
        .and_then(|text| std::str::from_utf8(text).ok());
    let digits = text.filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let value = digits.and_then(|text| u32::from_str_radix(text, 16).ok());
    value.ok_or(ArchiveError::Number { field, offset })
}
