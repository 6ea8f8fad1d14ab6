//! Archives: a zip in one piece of memory, unpacked into a [`Sink`].
//!
//! The whole directory is checked before the first byte reaches the sink: names, methods, modes, places, sizes, and the
//! budgets for entries, bytes and ratio. What only content can show (a CRC, a broken stream) shows later, and then the
//! sink throws away what it has. Sizes come from the directory and are never exceeded.
//!
//! The reader is stricter than the format: entries lie in the directory's order without overlap, local headers say what
//! the directory says, nothing follows the end record. Info-ZIP, Python's `zipfile` and Rust's `zip` all write such archives.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10.

mod budget;
mod end;
mod entry;
mod fault;
mod local;
mod names;
mod path;

pub use self::budget::{Limits, Summary};
use self::end::Span;
use self::entry::{Entry, Header, Headers, Kind, Method};
pub use self::fault::{ArchiveFault, EntryFault, EntryName, Field, UnpackError};
use self::local::Located;
use self::names::Names;
pub use self::path::PathFault;
use super::inflate::{InflateError, Inflater, WINDOW_BYTES};
use super::sink::Sink;

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
/// stack holds one word for each of [`MAX_ENTRIES`](crate::wire::limits::MAX_ENTRIES), 8 KiB.
pub fn unpack<S: Sink>(
    archive: &[u8],
    limits: &Limits,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<Summary, UnpackError<S::Error>> {
    if !is_archive(archive) {
        return Err(UnpackError::NotAnArchive);
    }
    let span = end::find(archive)?;
    let summary = check(archive, &span, limits)?;
    let written = write(&span, inflater, sink);
    inflater.wipe();
    written.map(|()| summary)
}

/// Checks everything that can be known without inflating.
fn check<E>(archive: &[u8], span: &Span<'_>, limits: &Limits) -> Result<Summary, UnpackError<E>> {
    let announced = limits.entries(span.entries)?;
    let mut summary = Summary::default();
    let mut names = Names::of(span.headers);
    let mut free_from = 0;
    for header in Headers::of(span.headers) {
        let header = header?;
        let (entry, located) = open(span, &header)?;
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
    limits.ratio(archive, &summary)?;
    Ok(summary)
}

/// Hands every entry to the sink.
fn write<S: Sink>(
    span: &Span<'_>,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<(), UnpackError<S::Error>> {
    for header in Headers::of(span.headers) {
        let header = header?;
        let (entry, located) = open(span, &header)?;
        let path = entry.path.as_str();
        match entry.kind {
            Kind::Directory => sink
                .directory(path, entry.mode)
                .map_err(UnpackError::Sink)?,
            Kind::File => {
                sink.file(path, entry.mode, entry.size)
                    .map_err(UnpackError::Sink)?;
                content(&entry, &located, inflater, sink).map_err(|error| match error {
                    Content::Fault(fault) => UnpackError::entry(header.name, fault),
                    Content::Sink(error) => UnpackError::Sink(error),
                })?;
                sink.end().map_err(UnpackError::Sink)?;
            }
        }
    }
    Ok(())
}

/// Hands a file's bytes to the sink and compares their CRC.
fn content<S: Sink>(
    entry: &Entry<'_>,
    located: &Located<'_>,
    inflater: &mut Inflater,
    sink: &mut S,
) -> Result<(), Content<S::Error>> {
    let mut crc = crc32fast::Hasher::new();
    let mut out = |bytes: &[u8]| {
        crc.update(bytes);
        sink.data(bytes).map_err(Content::Sink)
    };
    match entry.method {
        Method::Stored => located.packed.chunks(WINDOW_BYTES).try_for_each(out)?,
        Method::Deflated => inflater.inflate(located.packed, entry.size, &mut out)?,
    }
    let (want, have) = (entry.crc, crc.finalize());
    if want != have {
        return Err(Content::Fault(EntryFault::Crc { want, have }));
    }
    Ok(())
}

/// What can go wrong with content: the archive, or the sink.
enum Content<E> {
    Fault(EntryFault),
    Sink(E),
}

impl<E> From<InflateError> for Content<E> {
    fn from(error: InflateError) -> Self {
        Self::Fault(EntryFault::Stream(error))
    }
}

/// The entry of a header, and where it lies.
fn open<'a, E>(
    span: &Span<'a>,
    header: &Header<'a>,
) -> Result<(Entry<'a>, Located<'a>), UnpackError<E>> {
    Entry::check(header)
        .and_then(|entry| Ok((entry, local::locate(span.before, header, &entry)?)))
        .map_err(|fault| UnpackError::entry(header.name, fault))
}
