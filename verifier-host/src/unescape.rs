//! Long texts inside JSON bodies, decoded where they stand: an IMA list has tens of megabytes, and a second copy of it would be
//! as much again. (The parser copies every text that has an escape, and a list has one in each line.)

use std::ops::Range;

use serde_json::value::RawValue;

/// Where a value of this body stands in it. `value` must be borrowed from `body`.
#[must_use]
pub fn place_of(body: &[u8], value: &RawValue) -> Range<usize> {
    let text = value.get();
    // Both are of one allocation: the difference of their addresses is the value's place.
    let start = text.as_ptr().addr().saturating_sub(body.as_ptr().addr());
    start..start.saturating_add(text.len())
}

/// Decodes the JSON text at this place of a body, which the parser has accepted, and says where it stands now. What stood behind
/// its new end is rubbish.
///
/// `None` if it is no text, or has half of a surrogate pair; the body is changed up to there.
#[must_use]
pub fn in_place(body: &mut [u8], place: Range<usize>) -> Option<Range<usize>> {
    let first = place.start;
    let text = body.get_mut(place)?;
    let [b'"', text @ .., b'"'] = text else {
        return None;
    };
    let (mut read, mut written) = (0, 0);
    while read < text.len() {
        // Up to the next escape as it stands.
        let rest = text.get(read..)?;
        let plain = rest
            .iter()
            .position(|byte| *byte == b'\\')
            .unwrap_or(rest.len());
        text.copy_within(read..read + plain, written);
        (read, written) = (read + plain, written + plain);
        if read == text.len() {
            break;
        }
        let (decoded, used) = escape(text.get(read..)?)?;
        let mut utf8 = [0; 4];
        let utf8 = decoded.encode_utf8(&mut utf8).as_bytes();
        // An escape is longer than what it stands for.
        text.get_mut(written..written + utf8.len())?
            .copy_from_slice(utf8);
        (read, written) = (read + used, written + utf8.len());
    }
    Some(first + 1..first + 1 + written)
}

/// What an escape stands for, and its length.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let simple = |letter| Some((letter, 2));
    match text.get(1)? {
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => {
            let high = unit(text.get(2..6)?)?;
            if let Some(letter) = char::from_u32(high) {
                return Some((letter, 6));
            }
            let low = text.get(6..12)?.strip_prefix(b"\\u").and_then(unit)?;
            let pair = [u16::try_from(high).ok()?, u16::try_from(low).ok()?];
            let letter = char::decode_utf16(pair).next()?.ok()?;
            Some((letter, 12))
        }
        _ => None,
    }
}

fn unit(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        long: &'a RawValue,
    }

    fn decoded(text: &str) -> Option<String> {
        let mut body =
            format!(r#"{{ "before": "x", "long" : {text}, "after": [1] }}"#).into_bytes();
        let place = {
            let parsed: Body<'_> = serde_json::from_slice(&body).ok()?;
            place_of(&body, parsed.long)
        };
        let place = in_place(&mut body, place)?;
        Some(String::from_utf8(body[place].to_vec()).unwrap())
    }

    #[test]
    fn decodes_as_the_parser_does() {
        for text in [
            r#""""#,
            r#""plain""#,
            r#""10 ab ima-ng sha256:cd /bin/sh\n10 ef\n""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""\u0041\u00e4\u20ac""#,
            r#""\ud83d\ude00!""#,
            r#""ä€😀\\""#,
            r#""\ud83d""#,
            r#""\ud83dx\ude00""#,
            r#""\ude00\ud83d""#,
            r#""\uD83D\n""#,
            r#""\u12""#,
            r#""\q""#,
            "12",
            "null",
            "[\"a\"]",
        ] {
            let want = serde_json::from_str::<String>(text).ok();
            assert_eq!(decoded(text), want, "{text}");
        }
    }

    #[test]
    fn a_place_outside_is_none() {
        let mut body = b"\"abc\"".to_vec();
        assert_eq!(in_place(&mut body, 0..9), None);
        assert_eq!(in_place(&mut body, 0..1), None);
        assert_eq!(in_place(&mut body, 0..5), Some(1..4));
    }
}
