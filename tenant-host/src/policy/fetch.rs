//! A policy from a web server: one GET, bounded in size and time, over TLS that the system's CAs vouch for.
//!
//! No redirect is followed and no credentials are sent: what is fetched comes from where the operator said.

use std::sync::Arc;

use http::Uri;
use rustls::{ClientConfig, RootCertStore};
pub(crate) use verifier_host::link::Limits;
use verifier_host::link::{Endpoint, Link, LinkError};

/// Why nothing could be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not a URL that can be fetched.
    #[error("it is no URL of the form https://HOST/PATH or http://HOST/PATH ({problem})")]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// Whoever is on the way could change it.
    #[error(
        "http: protects nothing on the way. Use https:, or give --runtime-policy-checksum or --runtime-policy-sig-key"
    )]
    Unprotected,
    /// The system's CAs.
    #[error(
        "there are no CA certificates on this system to check https: with{reason}. Install the package ca-certificates, or set SSL_CERT_FILE"
    )]
    NoRoots {
        /// ` (why)`, or nothing.
        reason: String,
    },
    /// TLS can't be set up.
    #[error("can't set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// The connection.
    #[error(transparent)]
    Link(Box<LinkError>),
    /// Another answer than the policy.
    #[error("HTTP status {status}{}", redirect(*status))]
    Status {
        /// The status.
        status: u16,
    },
}

impl From<LinkError> for FetchError {
    fn from(error: LinkError) -> Self {
        // What peers say makes it large, and it is rare.
        Self::Link(Box::new(error))
    }
}

const fn redirect(status: u16) -> &'static str {
    match status {
        300..=399 => ": it points elsewhere. Give the URL that it points to",
        _ => "",
    }
}

/// Fetches up to `limit` bytes. `roots` is asked for only when TLS is spoken; what is `protected` otherwise may come without.
///
/// # Errors
/// [`FetchError`].
pub(super) async fn fetch(
    url: &str,
    protected: bool,
    limits: Limits,
    limit: usize,
    roots: impl FnOnce() -> Result<RootCertStore, FetchError>,
) -> Result<Vec<u8>, FetchError> {
    let place = Place::parse(url)?;
    let tls = match (place.secure, protected) {
        (true, _) => Some(client(roots()?)?),
        (false, true) => None,
        (false, false) => return Err(FetchError::Unprotected),
    };
    let limits = Limits {
        answer_bytes: limit,
        ..limits
    };
    let answer = Link::new(place.server, tls, limits)
        .get(&place.path)
        .await?;
    if answer.status == 200 {
        Ok(answer.body.into())
    } else {
        Err(FetchError::Status {
            status: answer.status,
        })
    }
}

/// The CAs that this system trusts, wherever it keeps them. One that can't be used is left out: it vouches for nobody.
pub(super) fn system_roots() -> Result<RootCertStore, FetchError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let reason = found.errors.first();
    Err(FetchError::NoRoots {
        reason: reason.map_or_else(String::new, |error| format!(" ({error})")),
    })
}

fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, FetchError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    secure: bool,
    server: Endpoint,
    path: String,
}

impl Place {
    fn parse(url: &str) -> Result<Self, FetchError> {
        let refused = |problem: &str| FetchError::Url {
            problem: problem.to_owned(),
        };
        if url.contains('#') {
            return Err(refused("it has a fragment"));
        }
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| refused(&error.to_string()))?;
        let (secure, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(refused("another scheme")),
        };
        let authority = uri.authority().ok_or_else(|| refused("no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("it has a user name in it, which isn't sent"));
        }
        let named_port = authority.as_str().rsplit_once(':');
        let has_port = named_port.is_some_and(|(_, port)| !port.ends_with(']'));
        let port = match (has_port, authority.port_u16()) {
            (false, _) => default_port,
            (true, Some(port)) => port,
            (true, None) => return Err(refused("no port number after the colon")),
        };
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            secure,
            server: Endpoint {
                host: bare.unwrap_or(host).to_owned(),
                port,
            },
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
