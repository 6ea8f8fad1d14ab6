//! Why a peer gives no answer, told apart by what the caller can do about it.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::Endpoint;

/// Why there is no answer, or none that can be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The host name has no address.
    #[error("{peer}: the host name can't be resolved: {source}")]
    Resolve {
        /// Who was called.
        peer: Endpoint,
        /// The resolver's error.
        source: io::Error,
    },
    /// Nobody accepts connections there, or the network doesn't lead there.
    #[error("{peer}: can't connect: {source}")]
    Connect {
        /// Who was called.
        peer: Endpoint,
        /// The system's error.
        source: io::Error,
    },
    /// The peer's certificate isn't the one, or not under the CA, that is trusted for it.
    #[error("{peer}: its certificate is not trusted: {source}")]
    WrongCertificate {
        /// Who was called.
        peer: Endpoint,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The peer doesn't accept our client certificate, or wants one and got none.
    #[error("{peer}: it refuses our client certificate: {source}")]
    ClientCertificate {
        /// Who was called.
        peer: Endpoint,
        /// Its alert.
        source: rustls::Error,
    },
    /// No TLS there, or none in common.
    #[error("{peer}: TLS handshake failed: {source}")]
    Tls {
        /// Who was called.
        peer: Endpoint,
        /// What happened.
        source: io::Error,
    },
    /// Too slow.
    #[error("{peer}: no {what} within {} ms", .limit.as_millis())]
    Timeout {
        /// Who was called.
        peer: Endpoint,
        /// `connection` or `answer`.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{peer}: the connection broke: {}", Chain(.source))]
    Broken {
        /// Who was called.
        peer: Endpoint,
        /// What happened.
        source: hyper::Error,
    },
    /// The answer is larger than it may be.
    #[error("{peer}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Who was called.
        peer: Endpoint,
        /// The limit.
        limit: usize,
    },
    /// The answer's body isn't the JSON that was expected.
    #[error("{peer}: the answer (HTTP status {status}) is not the JSON expected: {source}")]
    Json {
        /// Who was called.
        peer: Endpoint,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The request can't be written: the path or the body is no valid one.
    #[error("{peer}: can't make the request {path:?}: {source}")]
    Request {
        /// Who was to be called.
        peer: Endpoint,
        /// The path.
        path: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LinkError {
    /// Whether the peer's certificate is trusted, but for other names than the one that was called.
    #[must_use]
    pub const fn is_other_name(&self) -> bool {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        matches!(
            self,
            Self::WrongCertificate {
                source: rustls::Error::InvalidCertificate(
                    NotValidForName | NotValidForNameContext { .. }
                ),
                ..
            }
        )
    }
}

/// An error with its sources, which hyper leaves out of its own text.
struct Chain<'a>(&'a hyper::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// The error of a failed handshake, by whose fault it is.
pub(super) fn handshake(peer: Endpoint, source: io::Error) -> LinkError {
    match find::<rustls::Error>(&source).cloned() {
        Some(source @ rustls::Error::InvalidCertificate(_)) => {
            LinkError::WrongCertificate { peer, source }
        }
        Some(source @ rustls::Error::AlertReceived(_)) if blames_client(&source) => {
            LinkError::ClientCertificate { peer, source }
        }
        _ => LinkError::Tls { peer, source },
    }
}

/// The error of a broken exchange. In TLS 1.3 a server refuses a client's certificate after the client's handshake is done.
pub(super) fn broken(peer: Endpoint, source: hyper::Error) -> LinkError {
    match find::<rustls::Error>(&source).cloned() {
        Some(alert) if blames_client(&alert) => LinkError::ClientCertificate {
            peer,
            source: alert,
        },
        _ => LinkError::Broken { peer, source },
    }
}

const fn blames_client(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
                | Alert::CertificateRequired
        )
    )
}

/// The first error of this type among an error and its sources; `io::Error` hides its inner error from `source`.
fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
