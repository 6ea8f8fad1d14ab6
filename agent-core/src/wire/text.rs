//! Small texts of the protocol: a value that exists keeps its rules.

use core::fmt;

/// The longest nonce or challenge; Keylime sends 20 characters.
pub const MAX_NONCE_BYTES: usize = 64;

/// The longest identifier of an agent; the usual ones take 36 (a UUID) and 64 (a hash).
pub const MAX_UUID_BYTES: usize = 128;

/// What the asker chose at random: the nonce of a quote, the challenge of a key check. 1 to 64 ASCII letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(heapless::String<MAX_NONCE_BYTES>);

impl Nonce {
    /// Reads a nonce; `None` if it breaks its rule.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| heapless::String::try_from(text).ok().map(Self))?
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An agent's identifier: 1 to 128 characters of `[A-Za-z0-9_.-]`, not `.` or `..`, so that it can stand in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(heapless::String<MAX_UUID_BYTES>);

impl Uuid {
    /// Reads an identifier; `None` if it breaks its rule.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fits = !matches!(text, "" | "." | "..") && text.bytes().all(plain);
        fits.then(|| heapless::String::try_from(text).ok().map(Self))?
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The name of a log: its anchor's name, `-`, and 16 hex digits that the verifier drew when it began the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogId(heapless::String<LOG_ID_BYTES>);

impl LogId {
    /// Reads a name; `None` if it isn't 64 lowercase hex digits, `-` and 16 more.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (anchor, drawn) = text.split_once('-')?;
        let is_hex = |part: &str| {
            part.bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let fits = (anchor.len(), drawn.len()) == (ANCHOR_BYTES, DRAWN_BYTES);
        let fits = fits && is_hex(anchor) && is_hex(drawn);
        fits.then(|| heapless::String::try_from(text).ok().map(Self))?
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The anchor's name: the hex of SHA-256 of its key's `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn anchor(&self) -> &str {
        self.0.get(..ANCHOR_BYTES).unwrap_or_default()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Bytes written in lowercase hex.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Reads exactly `N` bytes of hex, in either case; `None` for anything else.
#[must_use]
pub fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

/// The value of one hex digit.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// SHA-256 in hex.
const ANCHOR_BYTES: usize = 64;
const DRAWN_BYTES: usize = 16;
const LOG_ID_BYTES: usize = ANCHOR_BYTES + 1 + DRAWN_BYTES;

#[cfg(test)]
mod tests {
    extern crate std;

    use core::fmt::Write;
    use std::format;

    use super::*;

    #[test]
    fn nonces() {
        let long = [b'a'; 65];
        let long = core::str::from_utf8(&long).unwrap();
        let cases = [
            ("usual", "hxlaYl6NEVXHAWPj1jV4", true),
            ("64", &long[..64], true),
            ("65", long, false),
            ("empty", "", false),
            ("escape", "a%20b", false),
            ("space", "a b", false),
            ("beyond ascii", "é", false),
        ];
        for (name, text, fits) in cases {
            assert_eq!(Nonce::parse(text).is_some(), fits, "{name}");
        }
    }

    #[test]
    fn uuids() {
        let cases = [
            ("d432fbb3-d2f1-4a97-9ef7-75bd81c00000", true),
            ("node_1.example", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a\0", false),
            ("ä", false),
        ];
        for (text, fits) in cases {
            assert_eq!(Uuid::parse(text).is_some(), fits, "{text:?}");
        }
    }

    #[test]
    fn hex_both_ways() {
        let mut text = heapless::String::<8>::new();
        write!(text, "{}", Hex(&[0, 0x9F, 0xFF])).unwrap();
        assert_eq!(text, "009fff");
        assert_eq!(parse_hex(b"009fFF"), Some([0, 0x9F, 0xFF]));
        for text in [&b"009ff"[..], b"009fffff", b"009fg0", b""] {
            assert_eq!(parse_hex::<3>(text), None);
        }
    }

    #[test]
    fn log_names() {
        const LOG: &str =
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff-0123456789abcdef";
        let id = LogId::parse(LOG).unwrap();
        assert_eq!((id.as_str(), id.anchor()), (LOG, &LOG[..64]));
        for bad in [
            "",
            "-",
            &LOG[1..],
            &LOG[..80],
            &LOG.replace('-', "0"),
            &LOG.to_uppercase(),
            &LOG.replace('f', "g"),
            &format!("{LOG}0"),
            &format!("{}-{}", &LOG[..63], "0123456789abcdef0"),
        ] {
            assert_eq!(LogId::parse(bad), None, "{bad}");
        }
    }
}
