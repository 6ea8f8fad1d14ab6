//! Lists as the kernel keeps them: `binary_runtime_measurements`, little-endian.
//!
//! Source: `ima_measurements_show` in Linux's `ima_fs.c`.

use super::ascii;
use super::entry::MAX_DATA_BYTES;
use super::hash::SHA1_BYTES;
use super::list::LineError;
use super::template::{self, MAX_NAME_BYTES, Template};

/// The parts of an entry, of which the caller has given the room for the data.
pub(super) struct Parts<'a> {
    pub(super) pcr: u32,
    pub(super) template_hash: &'a [u8],
    pub(super) behind: &'a [u8],
}

/// Size of the template hashes of a binary list; `None` for text. No text has a zero in its first bytes. Files of newer kernels have
/// other hashes than SHA-1: the size is the one behind which the name of a template stands.
pub(super) fn hash_bytes(list: &[u8]) -> Option<usize> {
    let (pcr, rest) = list.split_first_chunk::<4>()?;
    if !pcr.contains(&0) {
        return None;
    }
    let named = |bytes: &usize| {
        let name = rest.get(*bytes..).and_then(|rest| sized_name(rest).ok());
        name.is_some_and(|(name, _)| Template::named(name).is_ok())
    };
    let sizes = [SHA1_BYTES, 32, 48, 64];
    Some(sizes.into_iter().find(named).unwrap_or(SHA1_BYTES))
}

/// Reads the first entry, and packs its template data into `data`.
pub(super) fn parse<'a>(
    list: &'a [u8],
    hash_bytes: usize,
    template: &mut Template,
    data: &mut Vec<u8>,
) -> Result<Parts<'a>, LineError> {
    let ends = |what| LineError::Ends { what };
    let (pcr, rest) = list.split_first_chunk().ok_or(ends("PCR"))?;
    let (template_hash, rest) = rest
        .split_at_checked(hash_bytes)
        .ok_or(ends("template hash"))?;
    let (name, rest) = sized_name(rest)?;
    template.set(name)?;
    data.clear();
    let behind = if template.is_legacy() {
        let (digest, rest) = rest.split_at_checked(SHA1_BYTES).ok_or(ends("digest"))?;
        let (name, rest) = template::split_sized(rest)?;
        data.extend_from_slice(digest);
        ascii::push_legacy_name(name, data)?;
        rest
    } else {
        let (packed, rest) = template::split_sized(rest)?;
        if packed.len() > MAX_DATA_BYTES {
            return Err(LineError::TooLong {
                what: "template data",
                have: packed.len(),
                limit: MAX_DATA_BYTES,
            });
        }
        data.extend_from_slice(packed);
        rest
    };
    Ok(Parts {
        pcr: u32::from_le_bytes(*pcr),
        template_hash,
        behind,
    })
}

fn sized_name(rest: &[u8]) -> Result<(&[u8], &[u8]), LineError> {
    let (name, rest) = template::split_sized(rest)?;
    if name.len() > MAX_NAME_BYTES {
        return Err(LineError::TooLong {
            what: "template",
            have: name.len(),
            limit: MAX_NAME_BYTES,
        });
    }
    Ok((name, rest))
}
