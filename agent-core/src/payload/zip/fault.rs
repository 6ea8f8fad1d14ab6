//! What is wrong with an archive.

use core::convert::Infallible;
use core::fmt;

use super::path::PathFault;
use crate::payload::inflate::InflateError;
use crate::wire::bytes::Truncated;

/// Why an archive wasn't unpacked; `E` is the sink's error, `A` that of an archive which comes in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnpackError<E, A = Infallible> {
    /// It doesn't begin as an archive does: the payload is a plain file.
    NotAnArchive,
    /// The archive as a whole. Nothing reached the sink.
    Archive(ArchiveFault),
    /// One entry. Nothing reached the sink unless [`EntryFault::is_content`] says so.
    Entry {
        /// Its name.
        name: EntryName,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// The sink gave up.
    Sink(E),
    /// A piece of the archive couldn't be had, perhaps when parts had reached the sink already.
    Source(A),
}

impl<E, A> UnpackError<E, A> {
    pub(super) fn entry(name: &[u8], fault: EntryFault) -> Self {
        let name = EntryName::of(name);
        Self::Entry { name, fault }
    }
}

/// What is wrong with an archive as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// No end record whose comment reaches the archive's end: cut off, or something follows it.
    NoEnd,
    /// The zip64 end record isn't where its locator says, or isn't as long as it says.
    NoWideEnd,
    /// The end record and the zip64 one say different things.
    EndsDisagree,
    /// It is a part of an archive on several disks.
    ManyDisks,
    /// The directory doesn't end where the end records begin.
    Misplaced {
        /// Where it is announced to start.
        start: u64,
        /// Its announced size.
        size: u64,
        /// Where it has to end.
        end: u64,
    },
    /// More bytes from the directory's start to the archive's end than are looked at.
    DirectoryTooLarge {
        /// Bytes from there on.
        have: u64,
        /// The most.
        limit: u64,
    },
    /// Something else stands where a directory header should.
    NoHeader,
    /// A record ends before its last field.
    Truncated {
        /// Bytes that the next field takes.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// The directory has fewer or more entries than the end record announces.
    Count {
        /// Announced entries.
        announced: usize,
        /// Entries that are there, counted up to one more than announced.
        found: usize,
    },
    /// More entries than the limit.
    TooMany {
        /// Announced entries.
        have: u64,
        /// The most.
        limit: usize,
    },
    /// More unpacked bytes than the limit.
    TooLarge {
        /// Announced bytes, up to the entry that went over the limit.
        have: u64,
        /// The most.
        limit: u64,
    },
    /// More unpacked bytes than an archive of this size may give.
    Bomb {
        /// Announced bytes.
        have: u64,
        /// The most for this archive.
        limit: u64,
    },
}

/// What is wrong with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryFault {
    /// Its path.
    Path(PathFault),
    /// It is encrypted.
    Encrypted,
    /// Flags beyond those that are understood.
    Flags {
        /// All its flags.
        flags: u16,
    },
    /// Packed by a method other than stored (0) and deflated (8).
    Method {
        /// The method's number.
        method: u16,
    },
    /// A symbolic link, device, pipe or socket.
    Special {
        /// Its mode, type included.
        mode: u32,
    },
    /// The name is a file's and the mode a directory's, or the other way round.
    Kind {
        /// Its mode, type included.
        mode: u32,
    },
    /// A directory with content.
    DirectoryContent {
        /// Its size.
        size: u64,
    },
    /// Stored as it is, and yet of two sizes.
    StoredSize {
        /// Bytes in the archive.
        packed: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// On another disk.
    Disk {
        /// The disk's number.
        disk: u16,
    },
    /// A value stands in a zip64 field that isn't there.
    NoWideField,
    /// A record of it ends before its last field, or its content before its last byte.
    Truncated {
        /// Bytes that come next.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// Its local header is announced outside the part that holds entries.
    Outside {
        /// The announced place.
        offset: u64,
        /// Where the directory starts.
        limit: u64,
    },
    /// No local header where it is announced.
    NoLocalHeader {
        /// The announced place.
        offset: u64,
    },
    /// The local header has another name.
    OtherName,
    /// The local header or data descriptor says something else than the directory.
    Disagree {
        /// Of what.
        field: Field,
        /// What the local header or descriptor says.
        local: u64,
        /// What the directory says.
        directory: u64,
    },
    /// It begins before the entry ahead of it in the directory ends.
    Overlap {
        /// Where it begins.
        start: u64,
        /// Where the one ahead ends.
        free_from: u64,
    },
    /// The name exists already, or a file's name is used as a directory's.
    Conflict,
    /// Its content isn't the deflate stream that was announced.
    Stream(InflateError),
    /// Its content isn't what was packed.
    Crc {
        /// The directory's CRC-32.
        want: u32,
        /// The content's.
        have: u32,
    },
}

impl EntryFault {
    /// Whether it showed only while content was unpacked, when parts had reached the sink already.
    #[must_use]
    pub const fn is_content(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Crc { .. })
    }
}

/// A field that stands in the directory and beside the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// General purpose flags.
    Flags,
    /// The method.
    Method,
    /// The packed size.
    Packed,
    /// The size.
    Size,
    /// The CRC-32.
    Crc,
}

/// The name of an entry as far as it is worth showing: bounded, and escaped where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    bytes: heapless::Vec<u8, SHOWN_BYTES>,
    is_cut: bool,
}

impl EntryName {
    fn of(name: &[u8]) -> Self {
        let shown = name.get(..SHOWN_BYTES).unwrap_or(name);
        Self {
            bytes: shown.iter().copied().collect(),
            is_cut: shown.len() < name.len(),
        }
    }
}

/// What an [`EntryName`] keeps.
const SHOWN_BYTES: usize = 64;

impl From<Truncated> for ArchiveFault {
    fn from(Truncated { need, have }: Truncated) -> Self {
        Self::Truncated { need, have }
    }
}

impl From<Truncated> for EntryFault {
    fn from(Truncated { need, have }: Truncated) -> Self {
        Self::Truncated { need, have }
    }
}

impl<E, A> From<ArchiveFault> for UnpackError<E, A> {
    fn from(fault: ArchiveFault) -> Self {
        Self::Archive(fault)
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        if self.is_cut {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

impl<E: fmt::Display, A: fmt::Display> fmt::Display for UnpackError<E, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArchive => f.write_str("the payload is not a zip archive"),
            Self::Archive(fault) => write!(f, "the payload's archive {fault}"),
            Self::Entry { name, fault } => write!(f, "`{name}` in the payload's archive {fault}"),
            Self::Sink(error) => error.fmt(f),
            Self::Source(error) => error.fmt(f),
        }
    }
}

impl<E, A> core::error::Error for UnpackError<E, A>
where
    E: core::error::Error + 'static,
    A: core::error::Error + 'static,
{
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Sink(error) => error.source(),
            Self::Source(error) => error.source(),
            _ => None,
        }
    }
}

impl fmt::Display for ArchiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEnd => f.write_str("has no end record: it is cut off, or something follows it"),
            Self::NoWideEnd => f.write_str("has no zip64 end record where its locator says"),
            Self::EndsDisagree => {
                f.write_str("has a zip64 end record that contradicts the other one")
            }
            Self::ManyDisks => {
                f.write_str("is a part of one on several disks; pack it as one file")
            }
            Self::Misplaced { start, size, end } => {
                write!(
                    f,
                    "announces {size} bytes of directory at {start}, which has to end at {end}"
                )
            }
            Self::DirectoryTooLarge { have, limit } => {
                write!(
                    f,
                    "has {have} bytes from its directory on, {limit} are allowed; pack fewer files or shorter names"
                )
            }
            Self::NoHeader => f.write_str("has something else in its directory than headers"),
            Self::Truncated { need, have } => {
                write!(
                    f,
                    "has a directory that ends early: {need} bytes wanted, {have} left"
                )
            }
            Self::Count { announced, found } => {
                write!(f, "announces {announced} entries and has {found}")
            }
            Self::TooMany { have, limit } => write!(f, "has {have} entries, {limit} are allowed"),
            Self::TooLarge { have, limit } => {
                write!(f, "unpacks to {have} bytes or more, {limit} are allowed")
            }
            Self::Bomb { have, limit } => {
                write!(
                    f,
                    "unpacks to {have} bytes, {limit} are allowed for one of its size"
                )
            }
        }
    }
}

impl fmt::Display for EntryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(fault) => fault.fmt(f),
            Self::Encrypted => f.write_str("is encrypted; the payload's seal does that already"),
            Self::Flags { flags } => write!(f, "has flags that aren't understood: {flags:#06x}"),
            Self::Method { method } => {
                write!(
                    f,
                    "is packed by method {method}; stored (0) and deflated (8) are understood"
                )
            }
            Self::Special { mode } => {
                write!(
                    f,
                    "is neither a file nor a directory (mode {mode:#o}); links aren't followed"
                )
            }
            Self::Kind { mode } => write!(f, "has a name that doesn't go with its mode {mode:#o}"),
            Self::DirectoryContent { size } => write!(f, "is a directory with {size} bytes"),
            Self::StoredSize { packed, size } => {
                write!(f, "is stored, and yet takes {packed} bytes for {size}")
            }
            Self::Disk { disk } => write!(f, "is on disk {disk}; pack the archive as one file"),
            Self::NoWideField => f.write_str("lacks the zip64 field that it refers to"),
            Self::Truncated { need, have } => {
                write!(f, "ends early: {need} bytes wanted, {have} left")
            }
            Self::Outside { offset, limit } => {
                write!(
                    f,
                    "is announced at {offset}, behind the directory's start at {limit}"
                )
            }
            Self::NoLocalHeader { offset } => write!(f, "has no header at {offset}"),
            Self::OtherName => f.write_str("has another name in its own header"),
            Self::Disagree {
                field,
                local,
                directory,
            } => {
                write!(
                    f,
                    "has {local} as {field}, and {directory} in the directory"
                )
            }
            Self::Overlap { start, free_from } => {
                write!(
                    f,
                    "begins at {start}, before the entry ahead of it ends at {free_from}"
                )
            }
            Self::Conflict => f.write_str("is there twice, or both as a file and as a directory"),
            Self::Stream(InflateError::Broken) => f.write_str("has broken content"),
            Self::Stream(InflateError::Short { missing }) => {
                write!(f, "ends {missing} bytes before its announced size")
            }
            Self::Stream(InflateError::Long { limit }) => {
                write!(f, "goes on after its announced {limit} bytes")
            }
            Self::Stream(InflateError::Trailing { unread }) => {
                write!(f, "has {unread} bytes after the end of its content")
            }
            Self::Crc { want, have } => {
                write!(
                    f,
                    "has broken content: CRC {have:08x}, the directory says {want:08x}"
                )
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flags => "flags",
            Self::Method => "method",
            Self::Packed => "packed size",
            Self::Size => "size",
            Self::Crc => "CRC",
        })
    }
}
