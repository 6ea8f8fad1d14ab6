//! Lists as text: `PCR TEMPLATE-HASH TEMPLATE FIELD...` in each line, one space between.
//!
//! Source: `ima_ascii_measurements_show` in Linux's `ima_fs.c`.

use memchr::{memchr, memrchr};

use super::blocks::SHA256_BYTES;
use super::entry::{MAX_DATA_BYTES, MAX_PATH_BYTES, quote};
use super::hash::SHA1_BYTES;
use super::list::{LineError, MAX_LINE_BYTES, MAX_TEMPLATE_HASH_BYTES};
use super::template::{Field, LEGACY_NAME_BYTES, MAX_NAME_BYTES, Template};

/// The parts of a line, of which the caller has given the room for the long ones.
pub(super) struct Parts {
    pub(super) pcr: u32,
    pub(super) hash_bytes: usize,
}

/// A line without its end, and what follows it.
pub(super) fn split_line(list: &[u8]) -> Result<(&[u8], &[u8]), LineError> {
    let near = list.get(..=MAX_LINE_BYTES).unwrap_or(list);
    let line = match memchr(b'\n', near) {
        Some(end) => near.get(..end),
        None if near.len() > MAX_LINE_BYTES => {
            return Err(LineError::TooLong {
                what: "text",
                have: near.len(),
                limit: MAX_LINE_BYTES,
            });
        }
        None => Some(list),
    };
    let line = line.unwrap_or_default();
    Ok((line, list.get(line.len() + 1..).unwrap_or_default()))
}

/// Reads a line, and packs its template data into `data` as the kernel does.
pub(super) fn parse(
    line: &[u8],
    template_hash: &mut [u8; MAX_TEMPLATE_HASH_BYTES],
    template: &mut Template,
    data: &mut Vec<u8>,
) -> Result<Parts, LineError> {
    let (pcr, rest) = short_word(line, "PCR")?;
    let (hash, rest) = match rest.split_at_checked(2 * SHA1_BYTES) {
        // What nearly all lists have; a space in it is no digit.
        Some((hash, [b' ', rest @ ..])) => (hash, rest),
        _ => word(rest, "template hash")?,
    };
    let (name, rest) = match short_word(rest, "template") {
        Err(_) if rest.len() <= MAX_NAME_BYTES => return Err(LineError::Ends { what: "fields" }),
        other => other?,
    };
    let hash_bytes = unhex(hash, template_hash).ok_or_else(|| part("template hash", hash))?;
    let pcr = number(pcr).ok_or_else(|| part("PCR", pcr))?;
    template.set(name)?;
    data.clear();
    if template.is_legacy() {
        pack_legacy(rest, data)?;
    } else {
        pack_all(template.fields(), rest, data)?;
    }
    Ok(Parts { pcr, hash_bytes })
}

fn word<'a>(text: &'a [u8], what: &'static str) -> Result<(&'a [u8], &'a [u8]), LineError> {
    split_word(text, memchr(b' ', text), what)
}

/// A word of a few letters, which a plain search finds sooner.
fn short_word<'a>(text: &'a [u8], what: &'static str) -> Result<(&'a [u8], &'a [u8]), LineError> {
    split_word(text, text.iter().position(|byte| *byte == b' '), what)
}

fn split_word<'a>(
    text: &'a [u8],
    end: Option<usize>,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), LineError> {
    let end = end.ok_or(LineError::Ends { what })?;
    let (word, rest) = text.split_at_checked(end).unwrap_or_default();
    Ok((word, rest.get(1..).unwrap_or_default()))
}

fn part(what: &'static str, found: &[u8]) -> LineError {
    let found = quote(found);
    LineError::Part { what, found }
}

/// The last field is the rest of the line.
fn pack_all(fields: &[Field], text: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    let Some((last, fields)) = fields.split_last() else {
        return Ok(());
    };
    let mut rest = text;
    for field in fields {
        let (value, behind) = word(rest, "fields")?;
        pack(*field, value, data)?;
        rest = behind;
    }
    pack(*last, rest, data)
}

/// A field with its length in front.
fn pack(field: Field, text: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    let start = data.len();
    data.extend_from_slice(&[0; 4]);
    match field {
        Field::Digest => push_hex("digest", text, data)?,
        Field::DigestNg | Field::DigestNgV2 => push_digest(text, data)?,
        Field::ModsigDigest if text.is_empty() => {}
        Field::ModsigDigest => push_digest(text, data)?,
        Field::Names if text.is_empty() => {}
        Field::Name | Field::Names => push_name(text, data)?,
        Field::Sig | Field::Buf | Field::Bytes => push_hex("field", text, data)?,
        Field::Number(_) if text.is_empty() => {}
        Field::Number(bytes) => {
            let value = number(text).ok_or_else(|| part("number", text))?;
            data.extend(value.to_le_bytes().into_iter().take(bytes));
        }
    }
    let have = data.len() - start - 4;
    let length = u32::try_from(have).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = data.get_mut(start..start + 4) {
        place.copy_from_slice(&length);
    }
    Ok(())
}

/// Digest and name, without lengths, the name filled up with zeros.
fn pack_legacy(text: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    let (digest, name) = word(text, "fields")?;
    push_hex("digest", digest, data)?;
    push_legacy_name(name, data)
}

pub(super) fn push_legacy_name(name: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    let zeros = LEGACY_NAME_BYTES
        .checked_sub(name.len())
        .filter(|zeros| *zeros > 0)
        .ok_or(LineError::TooLong {
            what: "name",
            have: name.len(),
            limit: LEGACY_NAME_BYTES - 1,
        })?;
    data.extend_from_slice(name);
    data.resize(data.len() + zeros, 0);
    Ok(())
}

/// `ALG:HEX` or `KIND:ALG:HEX`: the names with their last colon, NUL, digest.
fn push_digest(text: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    // What nearly all digests are; a colon in it is no digit.
    let sha256 = text.len().checked_sub(2 * SHA256_BYTES);
    let sha256 = sha256.and_then(|names| text.split_at_checked(names));
    let (names, hex) = sha256
        .filter(|(names, _)| names.ends_with(b":"))
        .or_else(|| text.split_at_checked(memrchr(b':', text)? + 1))
        .ok_or_else(|| part("digest", text))?;
    data.extend_from_slice(names);
    data.push(0);
    push_hex("digest", hex, data)
}

fn push_name(name: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    if name.len() > MAX_PATH_BYTES {
        return Err(LineError::TooLong {
            what: "path",
            have: name.len(),
            limit: MAX_PATH_BYTES,
        });
    }
    data.extend_from_slice(name);
    data.push(0);
    Ok(())
}

fn push_hex(what: &'static str, hex: &[u8], data: &mut Vec<u8>) -> Result<(), LineError> {
    let have = data.len() + hex.len() / 2;
    if have > MAX_DATA_BYTES {
        return Err(LineError::TooLong {
            what: "template data",
            have,
            limit: MAX_DATA_BYTES,
        });
    }
    let start = data.len();
    data.resize(have, 0);
    let bytes = data.get_mut(start..).and_then(|place| unhex(hex, place));
    bytes.ok_or_else(|| part(what, hex))?;
    Ok(())
}

/// Reads lowercase hexadecimal into the start of `out`, and says how many bytes it is; the kernel writes no other.
fn unhex(hex: &[u8], out: &mut [u8]) -> Option<usize> {
    let bytes = hex.len() / 2;
    let (places, last_places) = out.get_mut(..bytes)?.as_chunks_mut::<4>();
    let (letters, last_letters) = hex.as_chunks::<8>();
    let mut broken = 0;
    for (place, letters) in places.iter_mut().zip(letters) {
        *place = four_bytes(*letters, &mut broken);
    }
    let (pairs, odd) = last_letters.as_chunks::<2>();
    for (place, [high, low]) in last_places.iter_mut().zip(pairs) {
        let [byte, ..] = four_bytes(
            [*high, *low, b'0', b'0', b'0', b'0', b'0', b'0'],
            &mut broken,
        );
        *place = byte;
    }
    (broken == 0 && odd.is_empty()).then_some(bytes)
}

/// The bytes of eight letters, all of which are looked at together. If one is no digit, `broken` isn't zero afterwards.
const fn four_bytes(letters: [u8; 8], broken: &mut u64) -> [u8; 4] {
    let letters = u64::from_le_bytes(letters);
    // Of the digits, only those from `a` on have this bit. No sum in a byte reaches the next one.
    let from_a = letters >> 6 & EACH;
    let digits = (letters & (0x0F * EACH)) + (from_a << 3 | from_a);
    let above_9 = (digits + 0x76 * EACH) >> 7 & EACH;
    let high = 0x30 * EACH + (from_a << 5 | from_a << 4);
    *broken |= letters & (0xF0 * EACH) ^ high | above_9 ^ from_a | digits & (0x10 * EACH);
    let pairs = (digits << 4 | digits >> 8) & 0x00FF_00FF_00FF_00FF;
    let [a, b, _, _, c, d, _, _] = (pairs | pairs >> 8).to_le_bytes();
    [a, b, c, d]
}

/// One in each byte.
const EACH: u64 = u64::from_le_bytes([1; 8]);

/// A number in decimal, as the kernel prints it.
fn number(text: &[u8]) -> Option<u32> {
    let number = text.iter().try_fold(0_u32, |number, letter| {
        let digit = letter.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    number.filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters that are looked at together, and those that are left.
    #[test]
    fn each_letter_is_a_lowercase_digit_or_none_wherever_it_stands() {
        for at in 0..10 {
            for letter in 0..=u8::MAX {
                let mut hex = *b"0f1e2d3c4b";
                hex[at] = letter;
                let text = std::str::from_utf8(&hex).ok();
                let text = text.filter(|text| !text.contains(|letter| "ABCDEF+".contains(letter)));
                let byte = |at| u8::from_str_radix(text?.get(at..at + 2)?, 16).ok();
                let want: Option<Vec<u8>> = (0..10).step_by(2).map(byte).collect();
                let mut bytes = [0; 5];
                let got = unhex(&hex, &mut bytes).map(|read| bytes[..read].to_vec());
                assert_eq!(got, want, "{letter:#x} at {at}");
            }
        }
        let mut bytes = [0; 4];
        for (hex, want) in [
            ("", Some(0)),
            ("0", None),
            ("012", None),
            ("0123456789", None),
        ] {
            assert_eq!(unhex(hex.as_bytes(), &mut bytes), want, "{hex}");
        }
    }
}
