//! An entry's own header and content, which have to be what the directory says.

use super::archive::Archive;
use super::cursor::{Cursor, Unread};
use super::entry::{Entry, FLAG_DESCRIPTOR, Header, Wide};
use super::fault::{EntryFault, Field};

/// What an entry occupies of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    /// First byte of the local header.
    pub(super) start: u64,
    /// First byte after the content, or after the descriptor that follows it.
    pub(super) end: u64,
}

/// Where an entry's content is, as its local header shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    /// Its first byte.
    pub(super) start: u64,
    /// Whether sizes or CRC follow it.
    has_descriptor: bool,
}

/// Finds an entry's place and compares its local header, and data descriptor if it has one, with the directory.
///
/// `limit` is where the directory starts: an entry has to lie before it as a whole.
///
/// Source: APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.9.
pub(super) fn locate<A: Archive>(
    archive: &mut A,
    limit: u64,
    header: &Header<'_>,
    entry: &Entry<'_>,
) -> Result<Located, Unread<A::Error>> {
    let content = find_content(archive, limit, header, entry)?;
    let mut from = Cursor::new(archive, content.start, limit);
    from.skip(entry.packed)?;
    if content.has_descriptor {
        skip_descriptor(&mut from, entry)?;
    }
    Ok(Located {
        start: entry.offset,
        end: from.at(),
    })
}

/// Finds an entry's content and compares its local header with the directory.
pub(super) fn find_content<A: Archive>(
    archive: &mut A,
    limit: u64,
    header: &Header<'_>,
    entry: &Entry<'_>,
) -> Result<Content, Unread<A::Error>> {
    let offset = entry.offset;
    if offset > limit {
        return Err(EntryFault::Outside { offset, limit }.into());
    }
    let mut from = Cursor::new(archive, offset, limit);
    let fits = from.left() >= SIGNATURE_BYTES;
    if !fits || from.array()? != SIGNATURE {
        return Err(EntryFault::NoLocalHeader { offset }.into());
    }
    let local = Local::read(&mut from)?;
    let is_complete = local.compare(&mut from, header, entry)?;
    Ok(Content {
        start: local.content_at,
        has_descriptor: !is_complete,
    })
}

/// A local header, its fields as they stand.
struct Local {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    name_at: u64,
    extra_at: u64,
    content_at: u64,
}

impl Local {
    fn read<A: Archive>(from: &mut Cursor<'_, A>) -> Result<Self, Unread<A::Error>> {
        let _needed = from.u16_le()?;
        let (flags, method) = (from.u16_le()?, from.u16_le()?);
        let _modified = from.u32_le()?;
        let (crc, packed, size) = (from.u32_le()?, from.u32_le()?, from.u32_le()?);
        let (name_bytes, extra_bytes) = (from.u16_le()?, from.u16_le()?);
        let name_at = from.at();
        from.skip(name_bytes.into())?;
        let extra_at = from.at();
        from.skip(extra_bytes.into())?;
        Ok(Self {
            flags,
            method,
            crc,
            packed,
            size,
            name_at,
            extra_at,
            content_at: from.at(),
        })
    }

    /// Compares with the directory. `false`: sizes or CRC are zero here, and left to a data descriptor.
    ///
    /// Writers differ in which of them they leave open, and in whether an entry without content has a descriptor.
    fn compare<A: Archive>(
        &self,
        from: &mut Cursor<'_, A>,
        header: &Header<'_>,
        entry: &Entry<'_>,
    ) -> Result<bool, Unread<A::Error>> {
        if !from.part(self.name_at, self.extra_at).is(header.name)? {
            return Err(EntryFault::OtherName.into());
        }
        same(Field::Flags, self.flags.into(), entry.flags.into())?;
        same(
            Field::Method,
            self.method.into(),
            entry.method.number().into(),
        )?;
        let may_be_open = entry.flags & FLAG_DESCRIPTOR != 0;
        let mut wide = Wide::read(from.part(self.extra_at, self.content_at))?;
        let mut is_complete = true;
        for (field, local, directory) in [
            (Field::Size, wide.take(self.size)?, entry.size),
            (Field::Packed, wide.take(self.packed)?, entry.packed),
            (Field::Crc, self.crc.into(), entry.crc.into()),
        ] {
            if may_be_open && local == 0 && directory != 0 {
                is_complete = false;
            } else {
                same(field, local, directory)?;
            }
        }
        Ok(is_complete)
    }
}

/// Reads a data descriptor: with or without its signature, sizes narrow or wide, as writers differ; its values don't.
fn skip_descriptor<A: Archive>(
    from: &mut Cursor<'_, A>,
    entry: &Entry<'_>,
) -> Result<(), Unread<A::Error>> {
    let start = from.at();
    let has_signature = from.left() >= SIGNATURE_BYTES && from.array()? == DESCRIPTOR_SIGNATURE;
    if !has_signature {
        from.back_to(start);
    }
    same(Field::Crc, from.u32_le()?.into(), entry.crc.into())?;
    let sizes_at = from.at();
    let sizes = (from.u32_le()?.into(), from.u32_le()?.into());
    if sizes == (entry.packed, entry.size) {
        return Ok(());
    }
    from.back_to(sizes_at);
    same(Field::Packed, from.u64_le()?, entry.packed)?;
    same(Field::Size, from.u64_le()?, entry.size)?;
    Ok(())
}

fn same(field: Field, local: u64, directory: u64) -> Result<(), EntryFault> {
    if local == directory {
        Ok(())
    } else {
        Err(EntryFault::Disagree {
            field,
            local,
            directory,
        })
    }
}

/// How every archive with entries begins.
pub(super) const SIGNATURE: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR_SIGNATURE: [u8; 4] = *b"PK\x07\x08";
const SIGNATURE_BYTES: u64 = 4;
