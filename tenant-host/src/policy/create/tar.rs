//! tar archives as Debian packages have them: ustar with GNU's or POSIX's long names.
//!
//! Source: tar(5) of libarchive; POSIX.1-2017, pax; deb(5).

use std::io::{self, Read};

use super::MAX_PATH_BYTES;
use super::archive::ArchiveError;
use super::cpio::Content;

const BLOCK_BYTES: u64 = 512;

/// The longest extended header.
const MAX_EXTENDED_BYTES: u64 = 64 << 10;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of this size.
    Regular(u64),
    /// A hard link to an earlier entry.
    HardLink(String),
    /// A symbolic link.
    Link(String),
    Other(u64),
}

/// One entry, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// An archive that is read from its start.
pub(super) struct Tar<'a> {
    source: &'a mut dyn Read,
    offset: u64,
}

/// What an extended header says about the next entry.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl<'a> Tar<'a> {
    pub(super) fn new(source: &'a mut dyn Read) -> Self {
        Self { source, offset: 0 }
    }

    /// The next entry; `None` at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extended = Extended::default();
        loop {
            let mut header = [0; BLOCK_BYTES as usize];
            self.source.read_exact(&mut header)?;
            let offset = self.offset;
            self.offset = offset.saturating_add(BLOCK_BYTES);
            if header == [0; BLOCK_BYTES as usize] {
                return Ok(None);
            }
            check(&header, offset)?;
            let size = number(field(&header, 124, 12), "size", offset)?;
            match header.get(156) {
                Some(b'L') => extended.name = Some(self.text(size)?),
                Some(b'K') => extended.link = Some(self.text(size)?),
                Some(b'x') => self.pax(size, &mut extended)?,
                Some(b'g') => {
                    io::copy(&mut self.content(size), &mut io::sink())?;
                    self.advance(size)?;
                }
                kind => return entry(&header, kind.copied(), size, extended, offset).map(Some),
            }
        }
    }

    /// A file's content, to be read to its end before [`Tar::advance`].
    pub(super) fn content(&mut self, size: u64) -> Content<'_> {
        Content::new(&mut *self.source, size)
    }

    /// Goes behind the content of an entry of this size, which has been read.
    pub(super) fn advance(&mut self, size: u64) -> Result<(), ArchiveError> {
        let padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
        io::copy(&mut self.content(padding), &mut io::sink())?;
        self.offset = self.offset.saturating_add(size).saturating_add(padding);
        Ok(())
    }

    fn bytes(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENDED_BYTES {
            let limit = MAX_PATH_BYTES;
            return Err(ArchiveError::Name {
                offset: self.offset,
                have: size,
                limit,
            });
        }
        let mut bytes = Vec::new();
        self.content(size).read_to_end(&mut bytes)?;
        self.advance(size)?;
        Ok(bytes)
    }

    fn text(&mut self, size: u64) -> Result<String, ArchiveError> {
        let offset = self.offset;
        text(&self.bytes(size)?, offset)
    }

    /// Records of the form `LENGTH KEY=VALUE\n`.
    fn pax(&mut self, size: u64, extended: &mut Extended) -> Result<(), ArchiveError> {
        let offset = self.offset;
        let bad = || ArchiveError::Expected {
            what: "record of an extended header",
            offset,
        };
        let bytes = self.bytes(size)?;
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let digits = left.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let length = left
                .get(..digits)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            let length = length
                .and_then(|digits| digits.parse::<usize>().ok())
                .ok_or_else(bad)?;
            let (record, rest) = left
                .split_at_checked(length)
                .filter(|_| length > digits + 1)
                .ok_or_else(bad)?;
            let record = record
                .get(digits + 1..)
                .and_then(|record| record.strip_suffix(b"\n"))
                .ok_or_else(bad)?;
            let split = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(bad)?;
            let (key, value) = record.split_at(split);
            let value = value.get(1..).unwrap_or_default();
            match key {
                b"path" => extended.name = Some(text(value, offset)?),
                b"linkpath" => extended.link = Some(text(value, offset)?),
                b"size" => {
                    let value = std::str::from_utf8(value)
                        .ok()
                        .and_then(|value| value.parse().ok());
                    extended.size = Some(value.ok_or_else(bad)?);
                }
                _ => {}
            }
            left = rest;
        }
        Ok(())
    }
}

fn entry(
    header: &[u8],
    kind: Option<u8>,
    size: u64,
    extended: Extended,
    offset: u64,
) -> Result<Entry, ArchiveError> {
    let name = match extended.name {
        Some(name) => name,
        None => {
            let name = text(field(header, 0, 100), offset)?;
            // GNU's own format has other things in the place of POSIX's prefix.
            let prefix = match field(header, 257, 8) == b"ustar\x0000" {
                true => text(field(header, 345, 155), offset)?,
                false => String::new(),
            };
            if prefix.is_empty() {
                name
            } else {
                format!("{prefix}/{name}")
            }
        }
    };
    let link = match extended.link {
        Some(link) => link,
        None => text(field(header, 157, 100), offset)?,
    };
    let size = extended.size.unwrap_or(size);
    let kind = match kind {
        Some(b'0' | 0 | b'7') => Kind::Regular(size),
        Some(b'1') => Kind::HardLink(link),
        Some(b'2') => Kind::Link(link),
        // Directories and devices have no content, whatever their size says.
        Some(b'3' | b'4' | b'5' | b'6') => Kind::Other(0),
        _ => Kind::Other(size),
    };
    Ok(Entry { name, kind })
}

/// Up to the first zero.
fn text(bytes: &[u8], offset: u64) -> Result<String, ArchiveError> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(|_| ArchiveError::Expected {
        what: "name in UTF-8",
        offset,
    })?;
    Ok(text.to_owned())
}

fn field(header: &[u8], start: usize, length: usize) -> &[u8] {
    header
        .get(start..)
        .and_then(|rest| rest.get(..length))
        .unwrap_or_default()
}

/// Octal digits between spaces and zeros, or a binary number after a byte with its highest bit set.
fn number(field: &[u8], name: &'static str, offset: u64) -> Result<u64, ArchiveError> {
    let bad = ArchiveError::Number {
        field: name,
        offset,
    };
    if let Some((0x80, digits)) = field.split_first() {
        let value = digits.iter().try_fold(0_u64, |value, digit| {
            value.checked_mul(256)?.checked_add(u64::from(*digit))
        });
        return value.ok_or(bad);
    }
    let text = std::str::from_utf8(field).map(|text| text.trim_matches([' ', '\0']));
    match text {
        Ok("") => Ok(0),
        Ok(text) if text.bytes().all(|digit| digit.is_ascii_digit()) => {
            u64::from_str_radix(text, 8).map_err(|_| bad)
        }
        _ => Err(bad),
    }
}

/// The sum of a header's bytes, with spaces in its own place.
fn check(header: &[u8], offset: u64) -> Result<(), ArchiveError> {
    let wanted = number(field(header, 148, 8), "checksum", offset)?;
    let sum = header.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    if sum.sum::<u64>() == wanted {
        Ok(())
    } else {
        Err(ArchiveError::Expected {
            what: "header of a tar archive",
            offset,
        })
    }
}
