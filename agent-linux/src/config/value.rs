//! Reading single values: each either exists and is right, or the error says what was wanted.

use std::net::IpAddr;
use std::path::PathBuf;
#[cfg(feature = "pull")]
use std::path::{Component, Path};
use std::time::Duration;

use agent_core::wire::route::{ApiVersion, ApiVersions};

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

/// A time: a number with ms, s, m or h behind it; without, it is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let milliseconds = match text.get(digits.len()..) {
        Some("ms") => 1,
        Some("s" | "") => 1_000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = digits
        .parse()
        .ok()
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|time| !time.is_zero() && *time <= MAX_TIME)
        .ok_or_else(|| "write a time such as 500ms, 30s, 2m or 1h, a week at most".to_owned())
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
#[cfg(feature = "pull")]
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

/// The name of one file, without a directory.
#[cfg(feature = "pull")]
pub(super) fn file_name(text: &str) -> Result<String, String> {
    match inside(text) {
        Ok(Some(name)) if !name.contains('/') && name.len() <= MAX_NAME_BYTES => Ok(name),
        _ => Err("write the name of a file, such as decrypted_payload".to_owned()),
    }
}

/// A path from the root.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("write an absolute path".to_owned())
    }
}

/// The items of a list: commas between them, quotation marks and brackets around them or not, as Keylime's files have it.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    let bare = text
        .trim()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let quoted = |item: &char| matches!(item, '"' | '\'');
    bare.split(',')
        .map(move |item| item.trim().trim_matches(|letter| quoted(&letter)))
        .filter(|item| !item.is_empty())
}

/// API versions as a list names them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VersionList {
    pub(super) enabled: ApiVersions,
    /// Versions in the list that this agent doesn't speak: newer than it is, or older than it cares for.
    pub(super) unknown: Vec<String>,
}

/// `default` (all), `latest`, or a list. Versions that this agent doesn't speak are left out, as Keylime's agent does; unlike
/// there, a list of which nothing is left doesn't mean all.
pub(super) fn versions(text: &str) -> Result<VersionList, String> {
    let known = |enabled| VersionList {
        enabled,
        unknown: Vec::new(),
    };
    match text {
        "default" => return Ok(known(ApiVersions::all())),
        "latest" => return Ok(known(ApiVersions::only(ApiVersion::NEWEST))),
        _ => {}
    }
    let wanted = || "write default, latest, or some of 2.1 to 2.6, such as 2.4, 2.6".to_owned();
    let mut enabled: Option<ApiVersions> = None;
    let mut unknown = Vec::new();
    for item in list(text) {
        match ApiVersion::parse(item) {
            Some(version) => {
                let only = ApiVersions::only(version);
                enabled = Some(enabled.map_or(only, |others| others.with(version)));
            }
            None if is_version(item) => unknown.push(item.to_owned()),
            None => return Err(wanted()),
        }
    }
    let enabled = enabled.ok_or_else(wanted)?;
    Ok(VersionList { enabled, unknown })
}

/// Whether a text is two numbers with a point between them.
fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

/// Longer than anything that is waited for.
const MAX_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Source: Linux, limits.h.
#[cfg(feature = "pull")]
const MAX_NAME_BYTES: usize = 255;
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
    fn durations() {
        let rows = [
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("168h", Some(7 * 24 * 3_600_000)),
            ("169h", None),
            ("0s", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("1d", None),
            ("1 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ];
        for (text, wanted) in rows {
            let wanted = wanted.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), wanted, "{text:?}");
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
    #[cfg(feature = "pull")]
    fn file_names() {
        let long = "a".repeat(256);
        let rows = [
            ("decrypted_payload", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a/", false),
            ("/a", false),
            ("a\0b", false),
        ];
        for (text, fits) in rows {
            assert_eq!(file_name(text).is_ok(), fits, "{text:?}");
        }
    }

    #[test]
    fn lists() {
        let rows: [(&str, &[&str]); 6] = [
            ("", &[]),
            ("a", &["a"]),
            ("a, b,c", &["a", "b", "c"]),
            ("['a', \"b\"]", &["a", "b"]),
            ("a,,", &["a"]),
            ("[]", &[]),
        ];
        for (text, wanted) in rows {
            assert!(list(text).eq(wanted.iter().copied()), "{text:?}");
        }
    }

    #[test]
    fn version_lists() {
        let rows: [(&str, Option<(&str, &str)>); 12] = [
            ("default", Some(("2.1 2.2 2.3 2.4 2.5 2.6", ""))),
            ("latest", Some(("2.6", ""))),
            ("2.4", Some(("2.4", ""))),
            ("2.4, 2.1", Some(("2.1 2.4", ""))),
            ("[\"2.1\", \"2.2\"]", Some(("2.1 2.2", ""))),
            ("2.6, 2.7, 3.0", Some(("2.6", "2.7 3.0"))),
            ("1.0,2.1", Some(("2.1", "1.0"))),
            ("2.7", None),
            ("", None),
            ("2.6, two", None),
            ("2.6.1", None),
            ("2.6, default", None),
        ];
        for (text, wanted) in rows {
            let got = versions(text).ok().map(|list| {
                let enabled: Vec<_> = list.enabled.iter().map(|one| one.to_string()).collect();
                (enabled.join(" "), list.unknown.join(" "))
            });
            let wanted = wanted.map(|(enabled, unknown)| (enabled.into(), unknown.into()));
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    #[cfg(feature = "pull")]
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
