//! Where servers are: names and addresses, and how long a name may take to mean something.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mailbox::Mailbox;
use crate::threads;

/// A verifier: `https://HOST:PORT`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// The name or the address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ServerAddress {
    /// As a request names it: `HOST:PORT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl FromStr for ServerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str =
            "write https://HOST:PORT, where an IPv6 address stands in brackets; nothing follows";
        let rest = text.strip_prefix("https://").ok_or(WANTED)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(WANTED)?;
                let is_ipv6 = matches!(host.parse(), Ok(IpAddr::V6(_)));
                (Some(host).filter(|_| is_ipv6).ok_or(WANTED)?, port)
            }
            None => {
                let (host, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                let fits = !host.is_empty() && host.len() <= 253 && host.bytes().all(plain);
                (Some(host).filter(|_| fits).ok_or(WANTED)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => VERIFIERS_PORT,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or(WANTED)?
            }
            _ => return Err(WANTED),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// The addresses of a name, by this moment. The system's resolver knows no deadline, so one that is late is left behind in a
/// thread of its own.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`], or the resolver's.
pub(super) fn resolve(host: &str, port: u16, until: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let answer = Arc::<Mailbox<_>>::default();
    let (name, sender) = (host.to_owned(), Arc::clone(&answer));
    let task = move || {
        let addresses = (name.as_str(), port).to_socket_addrs();
        sender.put(addresses.map(Vec::from_iter));
    };
    threads::spawn("resolve", Box::new(task))?;
    answer
        .take(Some(left(until)?))
        .ok_or(io::ErrorKind::TimedOut)?
}

/// Connects to the first of these addresses that answers, giving each a part of the time, and all together no more than until
/// this moment.
///
/// # Errors
/// The last one's.
pub(super) fn connect(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, left(until)?.min(CONNECT)) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// How long it is until then.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`]: no time.
pub(super) fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// Keylime's port of verifiers.
const VERIFIERS_PORT: u16 = 8881;
/// How long one address may take to be connected: two lost packets and their repetition.
const CONNECT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses() {
        let rows = [
            ("https://localhost:8881", Some("localhost:8881")),
            ("https://verifier.example", Some("verifier.example:8881")),
            ("https://192.0.2.1:443/", Some("192.0.2.1:443")),
            ("https://[2001:db8::1]:1", Some("[2001:db8::1]:1")),
            ("https://[::1]", Some("[::1]:8881")),
            ("http://localhost:8881", None),
            ("localhost:8881", None),
            ("https://", None),
            ("https://:1", None),
            ("https://a:0", None),
            ("https://a:+1", None),
            ("https://a:65536", None),
            ("https://a:1/v3.0", None),
            ("https://::1", None),
            ("https://[localhost]", None),
            ("https://[::1", None),
            ("https://[::1]1", None),
            ("https://user@host", None),
            ("https://a\r\nb", None),
        ];
        for (text, wanted) in rows {
            let address = ServerAddress::from_str(text).ok();
            let address = address.map(|address| address.to_string());
            assert_eq!(address.as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn names_have_addresses_in_time() {
        let soon = Instant::now() + Duration::from_secs(10);
        assert!(!resolve("localhost", 1, soon).unwrap().is_empty());
        let error = resolve("localhost", 1, Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(resolve("::1", 7, soon).unwrap()[0].to_string(), "[::1]:7");
    }
}
