//! Where an archive's directory lies: its end record, and zip64's.

use super::archive::u64_of;
use super::fault::ArchiveFault;
use crate::wire::bytes::Reader;

/// What the end records say of the directory, still unchecked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    disk: u32,
    directory_disk: u32,
    entries_here: u64,
    entries: u64,
    size: u64,
    start: u64,
}

/// The last bytes of an archive, or all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail<'a> {
    /// Where they begin in the archive.
    pub(super) start: u64,
    pub(super) bytes: &'a [u8],
}

/// The directory's bytes, and how many entries it announces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    /// Where it starts: local headers and content come before.
    pub(super) start: u64,
    /// The directory, exactly.
    pub(super) headers: &'a [u8],
    /// Announced entries.
    pub(super) entries: u64,
}

/// Finds the directory: it has to end where the end records begin, and these where the archive ends.
///
/// # Cost
/// At most 64 KiB of trailing bytes are searched, which is what an archive's comment can take.
///
/// Source: APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
pub(super) fn find<'a>(tail: &Tail<'a>) -> Result<Span<'a>, ArchiveFault> {
    let (mut directory_end, mut end) = find_end(tail.bytes).ok_or(ArchiveFault::NoEnd)?;
    if let Some((at, wide)) = find_wide(tail, directory_end)? {
        end = end.widened(&wide).ok_or(ArchiveFault::EndsDisagree)?;
        directory_end = at;
    }
    if end.disk != 0 || end.directory_disk != 0 || end.entries_here != end.entries {
        return Err(ArchiveFault::ManyDisks);
    }
    let misplaced = ArchiveFault::Misplaced {
        start: end.start,
        size: end.size,
        end: tail.start.saturating_add(u64_of(directory_end)),
    };
    let directory = tail.bytes.get(..directory_end).ok_or(misplaced)?;
    if end.start.checked_add(end.size) != tail.start.checked_add(u64_of(directory_end)) {
        return Err(misplaced);
    }
    let headers = directory
        .get(tail.place(end.start, misplaced)?..)
        .ok_or(misplaced)?;
    Ok(Span {
        start: end.start,
        headers,
        entries: end.entries,
    })
}

impl Tail<'_> {
    /// Where a place in the archive is among these bytes.
    fn place(&self, at: u64, otherwise: ArchiveFault) -> Result<usize, ArchiveFault> {
        let limit = u64_of(self.bytes.len());
        let have = self.start.saturating_add(limit).saturating_sub(at);
        let place = at
            .checked_sub(self.start)
            .ok_or(ArchiveFault::DirectoryTooLarge { have, limit })?;
        usize::try_from(place).map_err(|_| otherwise)
    }
}

/// The last end record whose comment reaches exactly to the archive's end, and where it begins.
fn find_end(archive: &[u8]) -> Option<(usize, End)> {
    let last = archive.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(MAX_COMMENT_BYTES);
    (first..=last).rev().find_map(|at| {
        let record = archive.get(at..)?.strip_prefix(END_SIGNATURE)?;
        Some((at, End::parse(record)?))
    })
}

/// The zip64 end record and where it begins among these bytes, if the end record at `end_at` has a locator before it.
fn find_wide(tail: &Tail<'_>, end_at: usize) -> Result<Option<(usize, End)>, ArchiveFault> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_BYTES) else {
        return Ok(None);
    };
    let locator = tail.bytes.get(locator_at..end_at).unwrap_or_default();
    let Some(fields) = locator.strip_prefix(LOCATOR_SIGNATURE) else {
        return Ok(None);
    };
    let mut fields = Reader::new(fields);
    let (disk, at, disks) = (fields.u32_le()?, fields.u64_le()?, fields.u32_le()?);
    if disk != 0 || disks > 1 {
        return Err(ArchiveFault::ManyDisks);
    }
    let at = tail.place(at, ArchiveFault::NoWideEnd)?;
    let record = tail
        .bytes
        .get(at..locator_at)
        .and_then(|record| record.strip_prefix(WIDE_END_SIGNATURE))
        .ok_or(ArchiveFault::NoWideEnd)?;
    Ok(Some((at, End::parse_wide(record)?)))
}

impl End {
    /// Reads what follows the signature, up to the archive's end.
    fn parse(record: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(record);
        let end = Self {
            disk: fields.u16_le().ok()?.into(),
            directory_disk: fields.u16_le().ok()?.into(),
            entries_here: fields.u16_le().ok()?.into(),
            entries: fields.u16_le().ok()?.into(),
            size: fields.u32_le().ok()?.into(),
            start: fields.u32_le().ok()?.into(),
        };
        let comment = fields.u16_le().ok()?;
        (fields.rest().len() == usize::from(comment)).then_some(end)
    }

    /// Reads what follows the zip64 signature, up to the locator.
    fn parse_wide(record: &[u8]) -> Result<Self, ArchiveFault> {
        let mut fields = Reader::new(record);
        let size = fields.u64_le()?;
        if u64::try_from(fields.rest().len()) != Ok(size) {
            return Err(ArchiveFault::NoWideEnd);
        }
        let _made_by = fields.u16_le()?;
        let _needed = fields.u16_le()?;
        Ok(Self {
            disk: fields.u32_le()?,
            directory_disk: fields.u32_le()?,
            entries_here: fields.u64_le()?,
            entries: fields.u64_le()?,
            size: fields.u64_le()?,
            start: fields.u64_le()?,
        })
    }

    /// The wide record's values, if each narrow one is the same or says "too large for me".
    fn widened(&self, wide: &Self) -> Option<Self> {
        let fits = |narrow: u64, wide: u64, full: u64| narrow == full || narrow == wide;
        let (full16, full32) = (u64::from(u16::MAX), u64::from(u32::MAX));
        let agree = fits(self.disk.into(), wide.disk.into(), full16)
            && fits(
                self.directory_disk.into(),
                wide.directory_disk.into(),
                full16,
            )
            && fits(self.entries_here, wide.entries_here, full16)
            && fits(self.entries, wide.entries, full16)
            && fits(self.size, wide.size, full32)
            && fits(self.start, wide.start, full32);
        agree.then_some(*wide)
    }
}

/// An archive without entries is this record alone.
pub(super) const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const WIDE_END_SIGNATURE: &[u8] = b"PK\x06\x06";
const LOCATOR_SIGNATURE: &[u8] = b"PK\x06\x07";

/// The end record without its comment.
const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const MAX_COMMENT_BYTES: usize = 65_535;
