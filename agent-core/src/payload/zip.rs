//! Archives: a zip in one piece of memory, or in pieces that are fetched as they are wanted, unpacked into a [`Sink`].
//!
//! The whole directory is checked before the first byte reaches the sink: names, methods, modes, places, sizes, and the
//! budgets for entries, bytes and ratio. What only content can show (a CRC, a broken stream) shows later, and then the
//! sink throws away what it has. Sizes come from the directory and are never exceeded.
//!
//! The reader is stricter than the format: entries lie in the directory's order without overlap, local headers say what
//! the directory says, nothing follows the end record. Info-ZIP, Python's `zipfile` and Rust's `zip` all write such archives.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10.

mod archive;
mod budget;
mod crc;
mod cursor;
mod end;
mod entry;
mod fault;
mod local;
mod names;
mod path;
mod segmented;

pub use self::archive::Archive;
use self::archive::{InMemory, u64_of, usize_of};
pub use self::budget::{Limits, Summary};
use self::crc::Crc32;
use self::cursor::{Cursor, Unread};
use self::end::{Span, Tail};
use self::entry::{Entry, Header, Headers, Kind, Method};
pub use self::fault::{ArchiveFault, EntryFault, EntryName, Field, UnpackError};
use self::names::Names;
pub use self::path::PathFault;
pub use self::segmented::{Sealed, SegmentError, Segmented};
use super::inflate::{InflateError, Inflater, WINDOW_BYTES};
use super::sink::Sink;

use zeroize::Zeroize;

/// Whether a payload is an archive rather than a plain file: it begins as one, whatever follows.
#[must_use]
pub fn is_archive(payload: &[u8]) -> bool {
    payload.starts_with(&local::SIGNATURE) || payload.starts_with(end::END_SIGNATURE)
}

/// Unpacks an archive into the sink and leaves the inflater wiped.
///
/// Modes are the archive's permission bits, or 0600 for files and 0700 for directories where it has none; setuid, setgid
/// and sticky bits are dropped.
///
/// # Errors
/// [`UnpackError::NotAnArchive`] if [`is_archive`] says no; the archive's or an entry's fault; the sink's error. What the
/// sink received counts for nothing then.
///
/// # Cost
/// Proportional to the archive and to what it unpacks to, both bounded; each name is compared with about ten others. The
/// stack holds four bytes for each of [`MAX_ENTRIES`](crate::wire::limits::MAX_ENTRIES), 4 KiB.
pub fn unpack<S: Sink>(
    archive: &[u8],
    limits: &Limits,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<Summary, UnpackError<S::Error>> {
    if !is_archive(archive) {
        return Err(UnpackError::NotAnArchive);
    }
    let whole = Tail {
        start: 0,
        bytes: archive,
    };
    let span = end::find(&whole)?;
    let mut archive = InMemory(archive);
    check_and_write(&mut archive, &span, limits, inflater, sink)
}

/// As [`unpack`], for an archive that comes in pieces. `room` takes the directory and what follows it, and is wiped at the
/// end: [`DIRECTORY_BYTES`], or as many as the archive has if these are less.
///
/// # Errors
/// As [`unpack`]; [`UnpackError::Source`], the archive's own; [`ArchiveFault::DirectoryTooLarge`] if the room doesn't do.
///
/// # Cost
/// As [`unpack`]. Places are visited in ascending order three times: the end, then all headers, then all content.
pub fn unpack_pieces<A: Archive, S: Sink>(
    archive: &mut A,
    room: &mut [u8],
    limits: &Limits,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<Summary, UnpackError<S::Error, A::Error>> {
    let size = archive.size();
    let bytes = usize_of(size).min(room.len());
    let room = room.get_mut(..bytes).unwrap_or_default();
    let done = with_tail(archive, room).and_then(|tail| {
        let span = end::find(&tail)?;
        check_and_write(archive, &span, limits, inflater, sink)
    });
    room.zeroize();
    done
}

/// Room for a directory and the end records: for [`MAX_ENTRIES`](crate::wire::limits::MAX_ENTRIES) files it is 384 bytes
/// each, of which a header without its name takes 46 to 82.
pub const DIRECTORY_BYTES: usize = 384 * 1024;

/// Fills the room with an archive's last bytes, once it has begun as one.
fn with_tail<'a, A: Archive, E>(
    archive: &mut A,
    room: &'a mut [u8],
) -> Result<Tail<'a>, UnpackError<E, A::Error>> {
    let size = archive.size();
    let mut first = [0; local::SIGNATURE.len()];
    let mut from = Cursor::new(archive, 0, size);
    match from.fill(&mut first) {
        Err(Unread::Source(error)) => return Err(UnpackError::Source(error)),
        Ok(()) if is_archive(&first) => {}
        _ => return Err(UnpackError::NotAnArchive),
    }
    let start = size.saturating_sub(u64_of(room.len()));
    match Cursor::new(archive, start, size).fill(room) {
        Ok(()) => Ok(Tail { start, bytes: room }),
        Err(Unread::Source(error)) => Err(UnpackError::Source(error)),
        Err(Unread::Fault(_)) => Err(ArchiveFault::NoEnd.into()),
    }
}

fn check_and_write<A: Archive, S: Sink>(
    archive: &mut A,
    span: &Span<'_>,
    limits: &Limits,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<Summary, UnpackError<S::Error, A::Error>> {
    let summary = check(archive, span, limits)?;
    let written = write(archive, span, inflater, sink);
    inflater.wipe();
    written.map(|()| summary)
}

/// Checks everything that can be known without inflating.
fn check<A: Archive, E>(
    archive: &mut A,
    span: &Span<'_>,
    limits: &Limits,
) -> Result<Summary, UnpackError<E, A::Error>> {
    let announced = limits.entries(span.entries)?;
    let mut summary = Summary::default();
    let mut names = Names::of(span.headers);
    let mut free_from = 0;
    for header in Headers::of(span.headers) {
        let header = header?;
        let entry =
            Entry::check(&header).map_err(|fault| UnpackError::entry(header.name, fault))?;
        let located = local::locate(archive, span.start, &header, &entry)
            .map_err(|error| of_entry(&header, error.into()))?;
        let start = located.start;
        if start < free_from {
            let overlap = EntryFault::Overlap { start, free_from };
            return Err(UnpackError::entry(header.name, overlap));
        }
        free_from = located.end;
        names.add(&header)?;
        summary.count(&entry);
        limits.bytes(&summary)?;
        if summary.entries() > announced {
            break;
        }
    }
    let found = summary.entries();
    if found != announced {
        return Err(ArchiveFault::Count { announced, found }.into());
    }
    limits.ratio(archive.size(), &summary)?;
    Ok(summary)
}

/// Hands every entry to the sink. What the check has found out by itself is found out again, and not remembered.
fn write<A: Archive, S: Sink>(
    archive: &mut A,
    span: &Span<'_>,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<(), UnpackError<S::Error, A::Error>> {
    for header in Headers::of(span.headers) {
        let header = header?;
        let entry =
            Entry::check(&header).map_err(|fault| UnpackError::entry(header.name, fault))?;
        let path = entry.path.as_str();
        match entry.kind {
            Kind::Directory => sink
                .directory(path, entry.mode)
                .map_err(UnpackError::Sink)?,
            Kind::File => {
                let content = local::find_content(archive, span.start, &header, &entry)
                    .map_err(|error| of_entry(&header, error.into()))?;
                sink.file(path, entry.mode, entry.size)
                    .map_err(UnpackError::Sink)?;
                let mut packed = Cursor::new(archive, content.start, span.start);
                unpack_content(&entry, &mut packed, inflater, sink)
                    .map_err(|error| of_entry(&header, error))?;
                sink.end().map_err(UnpackError::Sink)?;
            }
        }
    }
    Ok(())
}

/// Hands a file's bytes to the sink and compares their CRC.
fn unpack_content<A: Archive, S: Sink>(
    entry: &Entry<'_>,
    packed: &mut Cursor<'_, A>,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<(), ContentError<S::Error, A::Error>> {
    let mut crc = Crc32::new();
    let mut out = |bytes: &[u8]| {
        crc.update(bytes);
        sink.data(bytes).map_err(ContentError::Sink)
    };
    match entry.method {
        Method::Stored => packed.each(entry.packed, |piece| {
            piece.chunks(WINDOW_BYTES).try_for_each(&mut out)
        })?,
        Method::Deflated => {
            let mut stream = inflater.begin(entry.packed, entry.size);
            packed.each(entry.packed, |piece| stream.push(piece, &mut out))?;
            stream.end()?;
        }
    }
    let (want, have) = (entry.crc, crc.finalize());
    if want != have {
        return Err(ContentError::Fault(EntryFault::Crc { want, have }));
    }
    Ok(())
}

/// What can go wrong with an entry: the entry, the sink, or the archive's source.
enum ContentError<E, A> {
    Fault(EntryFault),
    Sink(E),
    Source(A),
}

impl<E, A> From<InflateError> for ContentError<E, A> {
    fn from(error: InflateError) -> Self {
        Self::Fault(EntryFault::Stream(error))
    }
}

impl<E, A> From<Unread<A>> for ContentError<E, A> {
    fn from(error: Unread<A>) -> Self {
        match error {
            Unread::Fault(fault) => Self::Fault(fault),
            Unread::Source(error) => Self::Source(error),
        }
    }
}

fn of_entry<E, A>(header: &Header<'_>, error: ContentError<E, A>) -> UnpackError<E, A> {
    match error {
        ContentError::Fault(fault) => UnpackError::entry(header.name, fault),
        ContentError::Sink(error) => UnpackError::Sink(error),
        ContentError::Source(error) => UnpackError::Source(error),
    }
}
