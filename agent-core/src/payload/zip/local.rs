//! An entry's own header and content, which have to be what the directory says.

use super::entry::{Entry, FLAG_DESCRIPTOR, Header, Wide};
use super::fault::{EntryFault, Field};
use crate::wire::bytes::Reader;

/// An entry's packed content, and what it occupies of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'a> {
    pub(super) packed: &'a [u8],
    /// First byte of the local header.
    pub(super) start: usize,
    /// First byte after the content, or after the descriptor that follows it.
    pub(super) end: usize,
}

/// Finds an entry's content and compares its local header, and data descriptor if it has one, with the directory.
///
/// `before` is what precedes the directory: an entry has to lie in it as a whole.
///
/// Source: APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.9.
pub(super) fn locate<'a>(
    before: &'a [u8],
    header: &Header<'_>,
    entry: &Entry<'_>,
) -> Result<Located<'a>, EntryFault> {
    let outside = EntryFault::Outside {
        offset: entry.offset,
        limit: before.len(),
    };
    let start = usize::try_from(entry.offset).map_err(|_| outside)?;
    let mut from = Reader::new(before.get(start..).ok_or(outside)?);
    if from.array() != Ok(SIGNATURE) {
        return Err(EntryFault::NoLocalHeader {
            offset: entry.offset,
        });
    }
    let local = Local::read(&mut from)?;
    let is_complete = local.compare(header, entry)?;
    let packed = from.take(usize::try_from(entry.packed).map_err(|_| outside)?)?;
    if !is_complete {
        skip_descriptor(&mut from, entry)?;
    }
    let end = before.len().saturating_sub(from.rest().len());
    Ok(Located { packed, start, end })
}

/// A local header, its fields as they stand.
struct Local<'a> {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Local<'a> {
    fn read(from: &mut Reader<'a>) -> Result<Self, EntryFault> {
        let _needed = from.u16_le()?;
        let (flags, method) = (from.u16_le()?, from.u16_le()?);
        let _modified = from.u32_le()?;
        let (crc, packed, size) = (from.u32_le()?, from.u32_le()?, from.u32_le()?);
        let (name_bytes, extra_bytes) = (from.u16_le()?, from.u16_le()?);
        let name = from.take(name_bytes.into())?;
        let extra = from.take(extra_bytes.into())?;
        Ok(Self {
            flags,
            method,
            crc,
            packed,
            size,
            name,
            extra,
        })
    }

    /// Compares with the directory. `false`: sizes or CRC are zero here, and left to a data descriptor.
    ///
    /// Writers differ in which of them they leave open, and in whether an entry without content has a descriptor.
    fn compare(&self, header: &Header<'_>, entry: &Entry<'_>) -> Result<bool, EntryFault> {
        if self.name != header.name {
            return Err(EntryFault::OtherName);
        }
        same(Field::Flags, self.flags.into(), entry.flags.into())?;
        same(
            Field::Method,
            self.method.into(),
            entry.method.number().into(),
        )?;
        let may_be_open = entry.flags & FLAG_DESCRIPTOR != 0;
        let mut wide = Wide::of(self.extra)?;
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
fn skip_descriptor(from: &mut Reader<'_>, entry: &Entry<'_>) -> Result<(), EntryFault> {
    if from.rest().starts_with(DESCRIPTOR_SIGNATURE) {
        from.take(DESCRIPTOR_SIGNATURE.len())?;
    }
    same(Field::Crc, from.u32_le()?.into(), entry.crc.into())?;
    let mut narrow = from.clone();
    let sizes = (narrow.u32_le()?.into(), narrow.u32_le()?.into());
    if sizes == (entry.packed, entry.size) {
        *from = narrow;
        return Ok(());
    }
    same(Field::Packed, from.u64_le()?, entry.packed)?;
    same(Field::Size, from.u64_le()?, entry.size)
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
const DESCRIPTOR_SIGNATURE: &[u8] = b"PK\x07\x08";
