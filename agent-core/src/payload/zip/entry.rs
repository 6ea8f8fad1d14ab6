//! One entry as the directory has it: the header as it stands, and what it means once it was checked.

use super::archive::{Archive, InMemory, u64_of};
use super::cursor::{Cursor, Unread};
use super::fault::{ArchiveFault, EntryFault};
use super::path::EntryPath;
use crate::wire::bytes::Reader;

/// A directory header, its fields as they stand.
///
/// Source: APPNOTE.TXT 6.3.10, section 4.3.12.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    /// Where it begins in the directory.
    pub(super) at: usize,
    made_by: u16,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    disk: u16,
    attributes: u32,
    offset: u32,
    pub(super) name: &'a [u8],
    extra: &'a [u8],
}

/// The headers of a directory, one after the other; ends after the first that can't be read.
#[derive(Clone, Debug)]
pub(super) struct Headers<'a> {
    directory: &'a [u8],
    next: usize,
}

impl<'a> Headers<'a> {
    pub(super) const fn of(directory: &'a [u8]) -> Self {
        Self { directory, next: 0 }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, ArchiveFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.directory.len();
        if self.next == end {
            return None;
        }
        let header = Header::read(self.directory, self.next);
        self.next = header.as_ref().map_or(end, |(_, next)| *next);
        Some(header.map(|(header, _)| header))
    }
}

impl<'a> Header<'a> {
    /// The name in the header that begins there; empty if there is none.
    pub(super) fn name_at(directory: &'a [u8], at: usize) -> &'a [u8] {
        Self::read(directory, at).map_or(&[], |(header, _)| header.name)
    }

    /// Reads the header that begins there, and says where the next one does.
    fn read(directory: &'a [u8], at: usize) -> Result<(Self, usize), ArchiveFault> {
        let mut from = Reader::new(directory.get(at..).unwrap_or_default());
        if from.array()? != SIGNATURE {
            return Err(ArchiveFault::NoHeader);
        }
        let made_by = from.u16_le()?;
        let _needed = from.u16_le()?;
        let (flags, method) = (from.u16_le()?, from.u16_le()?);
        let _modified = from.u32_le()?;
        let (crc, packed, size) = (from.u32_le()?, from.u32_le()?, from.u32_le()?);
        let (name_bytes, extra_bytes) = (from.u16_le()?, from.u16_le()?);
        let (comment_bytes, disk) = (from.u16_le()?, from.u16_le()?);
        let _is_text = from.u16_le()?;
        let (attributes, offset) = (from.u32_le()?, from.u32_le()?);
        let name = from.take(name_bytes.into())?;
        let extra = from.take(extra_bytes.into())?;
        let _comment = from.take(comment_bytes.into())?;
        let header = Self {
            at,
            made_by,
            flags,
            method,
            crc,
            packed,
            size,
            disk,
            attributes,
            offset,
            name,
            extra,
        };
        Ok((header, directory.len().saturating_sub(from.rest().len())))
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// How an entry's content is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

impl Method {
    const fn from_number(method: u16) -> Result<Self, EntryFault> {
        match method {
            METHOD_STORED => Ok(Self::Stored),
            METHOD_DEFLATED => Ok(Self::Deflated),
            method => Err(EntryFault::Method { method }),
        }
    }

    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Stored => METHOD_STORED,
            Self::Deflated => METHOD_DEFLATED,
        }
    }
}

/// An entry whose header is acceptable in itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) path: EntryPath<'a>,
    pub(super) kind: Kind,
    /// Permission bits, within 0o777.
    pub(super) mode: u32,
    pub(super) method: Method,
    pub(super) flags: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    /// Where the local header is announced.
    pub(super) offset: u64,
}

impl<'a> Entry<'a> {
    pub(super) fn check(header: &Header<'a>) -> Result<Self, EntryFault> {
        let (path, is_directory) = EntryPath::parse(header.name).map_err(EntryFault::Path)?;
        if header.flags & FLAG_ENCRYPTED != 0 {
            return Err(EntryFault::Encrypted);
        }
        if header.flags & !KNOWN_FLAGS != 0 {
            return Err(EntryFault::Flags {
                flags: header.flags,
            });
        }
        let method = Method::from_number(header.method)?;
        let kind = if is_directory {
            Kind::Directory
        } else {
            Kind::File
        };
        let mode = header.mode(kind)?;
        let (size, packed, offset) = header.widened()?;
        if kind == Kind::Directory && size != 0 {
            return Err(EntryFault::DirectoryContent { size });
        }
        if method == Method::Stored && packed != size {
            return Err(EntryFault::StoredSize { packed, size });
        }
        let (flags, crc) = (header.flags, header.crc);
        Ok(Self {
            path,
            kind,
            mode,
            method,
            flags,
            crc,
            packed,
            size,
            offset,
        })
    }
}

impl Header<'_> {
    /// Permission bits, the safe default where the archive has none; what the name says has to be what the mode says.
    fn mode(&self, kind: Kind) -> Result<u32, EntryFault> {
        let [_, host] = self.made_by.to_le_bytes();
        let mode = if matches!(host, HOST_UNIX | HOST_DARWIN) {
            self.attributes >> 16
        } else {
            0
        };
        let (file_type, wanted, default) = match kind {
            Kind::File => (mode & TYPE_MASK, TYPE_FILE, DEFAULT_FILE_MODE),
            Kind::Directory => (mode & TYPE_MASK, TYPE_DIRECTORY, DEFAULT_DIRECTORY_MODE),
        };
        match file_type {
            0 if mode == 0 => Ok(default),
            found if found == 0 || found == wanted => Ok(mode & PERMISSIONS),
            TYPE_FILE | TYPE_DIRECTORY => Err(EntryFault::Kind { mode }),
            _ => Err(EntryFault::Special { mode }),
        }
    }

    /// Size, packed size and offset, from the zip64 field where the header has no room for them.
    ///
    /// Source: APPNOTE.TXT 6.3.10, section 4.5.3.
    fn widened(&self) -> Result<(u64, u64, u64), EntryFault> {
        let mut wide = Wide::of(self.extra)?;
        let size = wide.take(self.size)?;
        let packed = wide.take(self.packed)?;
        let offset = wide.take(self.offset)?;
        // A disk number that says "too large" would be one more field; no archive here spans disks.
        if self.disk != 0 {
            return Err(EntryFault::Disk { disk: self.disk });
        }
        Ok((size, packed, offset))
    }
}

/// The 64-bit values of a zip64 extra field, in their fixed order, only for fields that are all ones.
pub(super) struct Wide {
    field: Option<heapless::Vec<u8, WIDE_BYTES>>,
    taken: usize,
}

impl Wide {
    /// Looks for the field among all extra fields of a directory header.
    fn of(extra: &[u8]) -> Result<Self, EntryFault> {
        let (mut extra, bytes) = (InMemory(extra), u64_of(extra.len()));
        Self::read(Cursor::new(&mut extra, 0, bytes)).map_err(|error| match error {
            Unread::Fault(fault) => fault,
            Unread::Source(never) => match never {},
        })
    }

    /// Looks for the field among all extra fields.
    pub(super) fn read<A: Archive>(mut fields: Cursor<'_, A>) -> Result<Self, Unread<A::Error>> {
        let (mut wide, taken) = (None, 0);
        // Some writers pad with fewer bytes than a field's head takes.
        while wide.is_none() && fields.left() >= EXTRA_HEAD_BYTES {
            let (id, bytes) = (fields.u16_le()?, fields.u16_le()?);
            let at = fields.at();
            fields.skip(bytes.into())?;
            if id == EXTRA_ZIP64 {
                let mut field = heapless::Vec::new();
                // The values that a field may have beyond those that are read here don't matter.
                let _ = field.resize_default(WIDE_BYTES.min(bytes.into()));
                fields
                    .part(at, at.saturating_add(bytes.into()))
                    .fill(&mut field)?;
                wide = Some(field);
            }
        }
        Ok(Self { field: wide, taken })
    }

    /// The value, or the next wide one in its place.
    pub(super) fn take(&mut self, value: u32) -> Result<u64, EntryFault> {
        if value != u32::MAX {
            return Ok(value.into());
        }
        let field = self.field.as_ref().ok_or(EntryFault::NoWideField)?;
        let wide = Reader::new(field.get(self.taken..).unwrap_or_default()).u64_le()?;
        self.taken = self.taken.saturating_add(size_of::<u64>());
        Ok(wide)
    }
}

const SIGNATURE: [u8; 4] = *b"PK\x01\x02";

const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;

const FLAG_ENCRYPTED: u16 = 1;
/// Sizes and CRC follow the content.
pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// The name is UTF-8. Names are checked to be that in any case.
const FLAG_UTF8: u16 = 1 << 11;
/// How hard the packer tried: no matter to the reader.
const FLAGS_EFFORT: u16 = 0b110;
const KNOWN_FLAGS: u16 = FLAGS_EFFORT | FLAG_DESCRIPTOR | FLAG_UTF8;

/// Systems whose external attributes hold a Unix mode in the upper half.
const HOST_UNIX: u8 = 3;
const HOST_DARWIN: u8 = 19;

const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
/// What is kept of a mode: setuid, setgid and sticky are not.
const PERMISSIONS: u32 = 0o777;
const DEFAULT_FILE_MODE: u32 = 0o600;
const DEFAULT_DIRECTORY_MODE: u32 = 0o700;

const EXTRA_ZIP64: u16 = 1;
/// Id and length of an extra field.
const EXTRA_HEAD_BYTES: u64 = 4;
/// Size, packed size and offset.
const WIDE_BYTES: usize = 3 * size_of::<u64>();
