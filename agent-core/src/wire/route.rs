//! What the agent is asked: paths, versions and queries of Keylime 2.x, each read as strictly as it is written down.

use core::fmt;

use super::quote::PcrMask;
use super::text::{LogId, Nonce};

/// What an agent answers to a version that isn't enabled; Keylime's verifier looks for exactly this text.
pub const VERSION_NOT_SUPPORTED: &str = "API version not supported";

/// An enabled version of the API: 2.1 to 2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    minor: u8,
}

impl ApiVersion {
    /// The newest.
    pub const NEWEST: Self = Self { minor: 6 };
    /// The first that has `agent/info`.
    pub const WITH_INFO: Self = Self { minor: 2 };
    /// The first that names an encryption algorithm with its size.
    pub const WITH_KEY_SIZES: Self = Self { minor: 5 };

    /// All of them, oldest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (1..=Self::NEWEST.minor).map(|minor| Self { minor })
    }

    /// Reads `2.x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [b'2', b'.', minor @ b'1'..=b'6'] => Some(Self {
                minor: minor.wrapping_sub(b'0'),
            }),
            _ => None,
        }
    }
}

/// Versions that are enabled: one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersions {
    newest: ApiVersion,
    /// Bit `n` stands for 2.n.
    bits: u8,
}

impl ApiVersions {
    /// One version alone.
    #[must_use]
    pub fn only(version: ApiVersion) -> Self {
        Self {
            newest: version,
            bits: bit(version),
        }
    }

    /// Every version there is.
    #[must_use]
    pub fn all() -> Self {
        ApiVersion::all().fold(Self::only(ApiVersion::NEWEST), Self::with)
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, version: ApiVersion) -> Self {
        Self {
            newest: self.newest.max(version),
            bits: self.bits | bit(version),
        }
    }

    /// Whether a version is among them.
    #[must_use]
    pub fn contains(self, version: ApiVersion) -> bool {
        self.bits & bit(version) != 0
    }

    /// The newest of them.
    #[must_use]
    pub const fn newest(self) -> ApiVersion {
        self.newest
    }

    /// Each of them, oldest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ApiVersion> {
        ApiVersion::all().filter(move |version| self.contains(*version))
    }
}

impl fmt::Display for ApiVersions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, version) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(out, "{comma}{version}")?;
        }
        Ok(())
    }
}

fn bit(version: ApiVersion) -> u8 {
    1_u8.wrapping_shl(u32::from(version.minor))
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "2.{}", self.minor)
    }
}

/// How a route is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// Any other.
    Other,
}

/// A question with all that belongs to it, save a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /version`.
    Version,
    /// `GET /v2.x/agent/info`.
    Info(ApiVersion),
    /// `GET /v2.x/quotes/identity`.
    Identity {
        /// The version, which names algorithms.
        version: ApiVersion,
        /// Becomes the quote's extra data.
        nonce: Nonce,
    },
    /// `GET /v2.x/quotes/integrity`.
    Integrity {
        /// The version, which names algorithms.
        version: ApiVersion,
        /// Becomes the quote's extra data.
        nonce: Nonce,
        /// PCRs to quote, beside 16.
        mask: PcrMask,
        /// Whether the transport key's text is sent along.
        key: KeyText,
        /// The line of the IMA list from which on it is sent along.
        entry: u64,
    },
    /// `GET /v2.x/keys/pubkey`.
    TransportKey,
    /// `GET /v2.x/keys/verify`.
    VerifyKey {
        /// What the HMAC is over.
        challenge: Nonce,
    },
    /// `GET /v2.x/payload/outcome`.
    Outcome,
    /// `POST /v2.x/keys/ukey`.
    UKey,
    /// `POST /v2.x/keys/vkey`.
    VKey,
    /// `POST /v2.x/notifications/revocation`.
    Revocation,
    /// `GET /v2.x/revocations/outcomes`.
    Outcomes {
        /// The log; without one, the log that the node follows.
        log_id: Option<LogId>,
        /// The entry after which they begin.
        after: u64,
    },
}

/// Whether an integrity quote carries the transport key (`partial=0`) or not (`partial=1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyText {
    /// Sent.
    Sent,
    /// Left out.
    Omitted,
}

/// Why a request asks nothing that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// No such path.
    NotFound,
    /// The path takes another method.
    Method,
    /// A version that isn't enabled: see [`VERSION_NOT_SUPPORTED`].
    Version,
    /// A query parameter is missing, doubled or malformed.
    Query {
        /// Its name.
        name: &'static str,
    },
}

impl Route {
    /// Reads method, path and query (what follows `?`, or nothing), asked of an agent that speaks the `enabled` versions.
    ///
    /// Parameters that a route doesn't know are ignored, as Keylime's agents do.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn parse(
        method: Method,
        path: &str,
        query: &str,
        enabled: ApiVersions,
    ) -> Result<Self, RouteError> {
        if path == "/version" {
            return method.only(Method::Get).map(|()| Self::Version);
        }
        let versioned = path.strip_prefix("/v").ok_or(RouteError::NotFound)?;
        let (version, route) = versioned.split_once('/').ok_or(RouteError::NotFound)?;
        if !version.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(RouteError::NotFound);
        }
        let version = ApiVersion::parse(version)
            .filter(|version| enabled.contains(*version))
            .ok_or(RouteError::Version)?;
        let wanted = match route {
            "keys/ukey" | "keys/vkey" | "notifications/revocation" => Method::Post,
            _ => Method::Get,
        };
        let asked = match route {
            "agent/info" if version >= ApiVersion::WITH_INFO => Self::Info(version),
            "quotes/identity" => Self::Identity {
                version,
                nonce: nonce(query, "nonce")?,
            },
            "quotes/integrity" => Self::integrity(version, query)?,
            "keys/pubkey" => Self::TransportKey,
            "keys/verify" => Self::VerifyKey {
                challenge: nonce(query, "challenge")?,
            },
            "payload/outcome" => Self::Outcome,
            "revocations/outcomes" => Self::Outcomes {
                log_id: log_id(query)?,
                after: count(query, "after")?,
            },
            "keys/ukey" => Self::UKey,
            "keys/vkey" => Self::VKey,
            "notifications/revocation" => Self::Revocation,
            _ => return Err(RouteError::NotFound),
        };
        method.only(wanted).map(|()| asked)
    }

    fn integrity(version: ApiVersion, query: &str) -> Result<Self, RouteError> {
        Ok(Self::Integrity {
            version,
            nonce: nonce(query, "nonce")?,
            mask: mask(query)?,
            key: match parameter(query, "partial")? {
                Some("0") => KeyText::Sent,
                Some("1") => KeyText::Omitted,
                _ => return Err(RouteError::Query { name: "partial" }),
            },
            entry: count(query, "ima_ml_entry")?,
        })
    }
}

impl Method {
    fn only(self, wanted: Self) -> Result<(), RouteError> {
        if self == wanted {
            Ok(())
        } else {
            Err(RouteError::Method)
        }
    }
}

fn nonce(query: &str, name: &'static str) -> Result<Nonce, RouteError> {
    parameter(query, name)?
        .and_then(Nonce::parse)
        .ok_or(RouteError::Query { name })
}

fn mask(query: &str) -> Result<PcrMask, RouteError> {
    let name = "mask";
    let text = parameter(query, name)?.ok_or(RouteError::Query { name })?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    // A sign would be no digit, but from_str_radix takes one.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(RouteError::Query { name });
    }
    u32::from_str_radix(digits, 16)
        .ok()
        .and_then(PcrMask::from_bits)
        .ok_or(RouteError::Query { name })
}

/// A number; without the parameter, 0.
fn count(query: &str, name: &'static str) -> Result<u64, RouteError> {
    let Some(text) = parameter(query, name)? else {
        return Ok(0);
    };
    // As above: a sign would be no digit.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let entry = text.parse().ok().filter(|_| digits);
    entry.ok_or(RouteError::Query { name })
}

fn log_id(query: &str) -> Result<Option<LogId>, RouteError> {
    let name = "log_id";
    let Some(text) = parameter(query, name)? else {
        return Ok(None);
    };
    LogId::parse(text)
        .map(Some)
        .ok_or(RouteError::Query { name })
}

/// The value of a parameter as it stands: those of this protocol need no percent encoding.
fn parameter<'q>(query: &'q str, name: &'static str) -> Result<Option<&'q str>, RouteError> {
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(RouteError::Query { name }),
        (value, None) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str =
        "log_id=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0123456789abcdef";

    fn version(minor: u8) -> ApiVersion {
        ApiVersion { minor }
    }

    #[test]
    fn routes() {
        let nonce = Nonce::parse("abc1").unwrap();
        let quoted = |bits, key, entry| Route::Integrity {
            version: version(6),
            nonce: Nonce::parse("abc1").unwrap(),
            mask: PcrMask::from_bits(bits).unwrap(),
            key,
            entry,
        };
        let bad = |name| Err(RouteError::Query { name });
        let (get, post) = (Method::Get, Method::Post);
        let integrity = "/v2.6/quotes/integrity";
        let cases = [
            (get, "/version", "", Ok(Route::Version)),
            (get, "/version", "x=y", Ok(Route::Version)),
            (post, "/version", "", Err(RouteError::Method)),
            (get, "/v2.2/agent/info", "", Ok(Route::Info(version(2)))),
            (get, "/v2.1/agent/info", "", Err(RouteError::NotFound)),
            (get, "/v2.1/keys/pubkey", "", Ok(Route::TransportKey)),
            (get, "/v2.6/payload/outcome", "", Ok(Route::Outcome)),
            (
                get,
                "/v2.6/keys/verify",
                "challenge=abc1",
                Ok(Route::VerifyKey {
                    challenge: nonce.clone(),
                }),
            ),
            (get, "/v2.6/keys/verify", "", bad("challenge")),
            (
                post,
                "/v2.6/keys/verify",
                "challenge=abc1",
                Err(RouteError::Method),
            ),
            (post, "/v2.6/keys/ukey", "", Ok(Route::UKey)),
            (get, "/v2.6/keys/ukey", "", Err(RouteError::Method)),
            (
                Method::Other,
                "/v2.6/keys/ukey",
                "",
                Err(RouteError::Method),
            ),
            (post, "/v2.6/keys/vkey", "", Ok(Route::VKey)),
            (
                post,
                "/v2.6/notifications/revocation",
                "",
                Ok(Route::Revocation),
            ),
            (
                get,
                "/v2.6/revocations/outcomes",
                "after=7",
                Ok(Route::Outcomes {
                    log_id: None,
                    after: 7,
                }),
            ),
            (
                get,
                "/v2.1/revocations/outcomes",
                LOG,
                Ok(Route::Outcomes {
                    log_id: LogId::parse(&LOG[7..]),
                    after: 0,
                }),
            ),
            (get, "/v2.6/revocations/outcomes", "after=+7", bad("after")),
            (get, "/v2.6/revocations/outcomes", "log_id=x", bad("log_id")),
            (
                get,
                "/v2.6/quotes/identity",
                "nonce=abc1",
                Ok(Route::Identity {
                    version: version(6),
                    nonce,
                }),
            ),
            (get, "/v2.6/quotes/identity", "nonce=", bad("nonce")),
            (get, "/v2.6/quotes/identity", "nonce=a%41", bad("nonce")),
            (
                get,
                "/v2.6/quotes/identity",
                "nonce=a&nonce=b",
                bad("nonce"),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0x400&partial=0",
                Ok(quoted(0x400, KeyText::Sent, 0)),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=ffFFff&partial=1&ima_ml_entry=7",
                Ok(quoted(0xFF_FFFF, KeyText::Omitted, 7)),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0&partial=0",
                Ok(quoted(0, KeyText::Sent, 0)),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0x1000000&partial=0",
                bad("mask"),
            ),
            (get, integrity, "nonce=abc1&mask=+1&partial=0", bad("mask")),
            (get, integrity, "nonce=abc1&mask=0x&partial=0", bad("mask")),
            (get, integrity, "nonce=abc1&mask=&partial=0", bad("mask")),
            (get, integrity, "nonce=abc1&partial=0", bad("mask")),
            (get, integrity, "nonce=abc1&mask=0", bad("partial")),
            (
                get,
                integrity,
                "nonce=abc1&mask=0&partial=2",
                bad("partial"),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0&partial=0&ima_ml_entry=-1",
                bad("ima_ml_entry"),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0&partial=0&ima_ml_entry=+1",
                bad("ima_ml_entry"),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0&partial=0&ima_ml_entry=",
                bad("ima_ml_entry"),
            ),
            (
                get,
                integrity,
                "nonce=abc1&mask=0&partial=0&ima_ml_entry=18446744073709551616",
                bad("ima_ml_entry"),
            ),
            (get, integrity, "mask=0&partial=0", bad("nonce")),
            (get, "/v2.7/keys/pubkey", "", Err(RouteError::Version)),
            (get, "/v2.0/keys/pubkey", "", Err(RouteError::Version)),
            (get, "/v3.0/agents/x", "", Err(RouteError::Version)),
            (
                get,
                "/v1.0/quotes/identity",
                "nonce=a",
                Err(RouteError::Version),
            ),
            (get, "/v2.60/keys/pubkey", "", Err(RouteError::Version)),
            (get, "/vx/keys/pubkey", "", Err(RouteError::NotFound)),
            (get, "/v2.6", "", Err(RouteError::NotFound)),
            (get, "/v2.6/keys", "", Err(RouteError::NotFound)),
            (get, "/v2.6/keys/pubkey/", "", Err(RouteError::NotFound)),
            (get, "//version", "", Err(RouteError::NotFound)),
            (get, "/", "", Err(RouteError::NotFound)),
        ];
        for (method, path, query, want) in cases {
            let got = Route::parse(method, path, query, ApiVersions::all());
            assert_eq!(got, want, "{path}?{query}");
        }
    }

    #[test]
    fn only_enabled_versions_are_spoken() {
        let enabled = ApiVersions::only(version(4)).with(version(2));
        assert_eq!(enabled.newest(), version(4));
        assert!(enabled.iter().eq([version(2), version(4)]));
        assert_eq!(enabled, ApiVersions::only(version(2)).with(version(4)));
        for asked in ApiVersion::all() {
            let mut path = heapless::String::<32>::new();
            fmt::Write::write_fmt(&mut path, format_args!("/v{asked}/keys/pubkey")).unwrap();
            let want = match enabled.contains(asked) {
                true => Ok(Route::TransportKey),
                false => Err(RouteError::Version),
            };
            assert_eq!(Route::parse(Method::Get, &path, "", enabled), want);
        }
        let mut text = heapless::String::<16>::new();
        fmt::Write::write_fmt(&mut text, format_args!("{enabled}")).unwrap();
        assert_eq!(text, "2.2, 2.4");
        let all = ApiVersions::all();
        assert!(all.iter().eq(ApiVersion::all()) && all.newest() == ApiVersion::NEWEST);
    }

    #[test]
    fn versions_read_as_they_are_written() {
        let mut last = None;
        for version in ApiVersion::all() {
            let mut text = heapless::String::<8>::new();
            fmt::Write::write_fmt(&mut text, format_args!("{version}")).unwrap();
            assert_eq!(ApiVersion::parse(&text), Some(version));
            last = Some(version);
        }
        assert_eq!(last, Some(ApiVersion::NEWEST));
    }
}
