//! Where certificates say that the revocation list can be fetched.

use std::net::IpAddr;

/// Where the registrar hands lists out, without TLS.
const REGISTRAR_PORT: u16 = 8890;

/// Digits of the anchor's name that tell the lists of several CAs apart.
const ANCHOR_DIGITS: usize = 16;

/// Where certificates say that the revocation list can be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListPoint {
    /// They don't say.
    #[default]
    Nowhere,
    /// Here.
    Url(String),
    /// At the registrar of this host.
    Registrar(String),
}

impl ListPoint {
    /// Where the operator wants it: a URL, `none`, or, if nothing was said, the registrar's place. A registrar that is known by
    /// its own machine's address alone can't be named to others.
    #[must_use]
    pub fn of(wish: Option<&str>, registrar: &str) -> Self {
        match wish {
            Some("none") => Self::Nowhere,
            Some(url) => Self::Url(url.to_owned()),
            None if is_loopback(registrar) => Self::Nowhere,
            None => Self::Registrar(registrar.to_owned()),
        }
    }

    /// The URL, for the CA with this anchor.
    pub(super) fn url(&self, anchor: &str) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::Url(url) => Some(url.clone()),
            Self::Registrar(host) => {
                let digits = anchor.get(..ANCHOR_DIGITS).unwrap_or(anchor);
                let host = match host.parse() {
                    Ok(IpAddr::V6(address)) => format!("[{address}]"),
                    _ => host.clone(),
                };
                Some(format!(
                    "http://{host}:{REGISTRAR_PORT}/crl.der?ca={digits}"
                ))
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let local = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| local(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_where_others_can_fetch_it() {
        let anchor = "0123456789abcdef".repeat(4);
        let rows = [
            ("here", None, "127.0.0.1", None),
            ("by name", None, "localhost", None),
            ("mapped", None, "::ffff:127.0.0.1", None),
            ("not wanted", Some("none"), "10.0.0.1", None),
            (
                "an address",
                None,
                "10.0.0.1",
                Some("http://10.0.0.1:8890/crl.der?ca=0123456789abcdef"),
            ),
            (
                "IPv6",
                None,
                "2001:db8::1",
                Some("http://[2001:db8::1]:8890/crl.der?ca=0123456789abcdef"),
            ),
            (
                "elsewhere",
                Some("http://ca.example.org/c.crl"),
                "127.0.0.1",
                Some("http://ca.example.org/c.crl"),
            ),
        ];
        for (name, wish, registrar, wanted) in rows {
            let url = ListPoint::of(wish, registrar).url(&anchor);
            assert_eq!(url.as_deref(), wanted, "{name}");
        }
    }
}
