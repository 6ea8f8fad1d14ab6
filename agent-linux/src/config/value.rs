//! Reading single values: each either exists and is right, or the error says what was wanted.

use std::net::IpAddr;
use std::path::{Component, Path};

/// A size: bytes, or with k, m or g (times 1024) behind it.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let number: Option<u64> = digits
        .parse()
        .ok()
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|size| *size > 0)
        .ok_or_else(|| "write a size such as 16m, 512k or a number of bytes".to_owned())
}

/// A port that someone can connect to.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| "write a port from 1 to 65535".to_owned())
}

/// An IP address; Keylime's files have IPv6 in brackets.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map_err(|_| "write an IP address such as 127.0.0.1, or 0.0.0.0 for all".to_owned())
}

/// An IP address or a host name.
pub(super) fn host(text: &str) -> Result<String, String> {
    if let Ok(ip) = ip(text) {
        return Ok(ip.to_string());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let fits = !text.is_empty() && text.len() <= MAX_HOST_BYTES && text.bytes().all(plain);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "write an IP address or a host name".to_owned())
}

/// Yes or no.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "yes" | "1" => Ok(true),
        "false" | "False" | "no" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A path inside the payload; the empty text is none.
pub(super) fn inside(text: &str) -> Result<Option<String>, String> {
    let normal = Path::new(text)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if normal && !text.contains('\0') {
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    } else {
        Err(
            "write the name of a file in the payload, such as autorun.sh, or \"\" for none"
                .to_owned(),
        )
    }
}

/// Source: RFC 1035 section 2.3.4.
const MAX_HOST_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let rows = [
            ("1m", Some(1 << 20)),
            ("16M", Some(16 << 20)),
            ("512k", Some(512 << 10)),
            ("2g", Some(2 << 30)),
            ("4096", Some(4096)),
            (" 1m ", Some(1 << 20)),
            ("", None),
            ("0", None),
            ("m", None),
            ("-1m", None),
            ("+1m", None),
            ("1.5m", None),
            ("1mb", None),
            ("99999999999999999999", None),
            ("18446744073709551615g", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(size(text).ok(), wanted, "{text:?}");
        }
    }

    #[test]
    fn hosts() {
        let rows = [
            ("127.0.0.1", Some("127.0.0.1")),
            ("[::1]", Some("::1")),
            ("node-1.example", Some("node-1.example")),
            ("", None),
            ("a b", None),
            ("a\r\nb", None),
            ("a/b", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(host(text).ok().as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn scripts() {
        let rows = [
            ("autorun.sh", Ok(Some("autorun.sh"))),
            ("bin/run", Ok(Some("bin/run"))),
            ("", Ok(None)),
            ("../run", Err(())),
            ("/bin/sh", Err(())),
            ("bin/../../run", Err(())),
            ("a\0b", Err(())),
        ];
        for (text, wanted) in rows {
            assert_eq!(
                inside(text).map_err(drop),
                wanted.map(|name| name.map(str::to_owned)),
                "{text:?}"
            );
        }
    }
}
