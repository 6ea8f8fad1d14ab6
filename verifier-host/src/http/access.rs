//! Who asks, and by which version of the API.
//!
//! Administrators are those with a client certificate of this verifier's CA (checked in the TLS handshake) who don't come
//! with a token: agents do.

use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::wire::route::VERSION_NOT_SUPPORTED;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::answer::ApiError;
use crate::envelope::API_VERSIONS;

/// The other end of a connection; an extension of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Its certificate, which is under this server's CA; none without one, and never one on a plain port.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        let peer = parts.extensions.get::<Self>().cloned();
        peer.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Lets administrators through, and answers everybody else 401 or 403. What no server has marked with a [`Peer`] is nobody's.
pub async fn administrators_only(request: Request, next: Next) -> Response {
    match check(request.extensions().get(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}

/// The answer to those who may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// 401: no client certificate.
    Unknown,
    /// 403: somebody with a token, which administrators don't have.
    NotAdministrator,
}

fn check(peer: Option<&Peer>, headers: &HeaderMap) -> Result<(), Denied> {
    let certificate = peer.and_then(|peer| peer.certificate.as_ref());
    match (certificate, headers.contains_key(AUTHORIZATION)) {
        (_, true) => Err(Denied::NotAdministrator),
        (None, false) => Err(Denied::Unknown),
        (Some(_), false) => Ok(()),
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let (status, title, detail) = match self {
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "this route needs a client certificate under the verifier's CA (cv_ca)",
            ),
            Self::NotAdministrator => (
                StatusCode::FORBIDDEN,
                "Forbidden",
                "this route is for administrators: a client certificate and no Authorization header",
            ),
        };
        let error =
            json!({"status": status.as_u16().to_string(), "title": title, "detail": detail});
        let json = HeaderValue::from_static("application/json");
        let body = json!({"errors": [error]}).to_string();
        (status, [(CONTENT_TYPE, json)], body).into_response()
    }
}

/// Lets requests through whose path begins with a version of [`API_VERSIONS`]; the others get what [`fallback`] says.
pub async fn supported_versions_only(request: Request, next: Next) -> Response {
    match version_of(request.uri()) {
        Some(version) if API_VERSIONS.contains(&version) => next.run(request).await,
        _ => fallback(request.uri().clone()).await,
    }
}

/// The answer where there is no route: 400 for a version that isn't spoken here, else 404 without a body.
pub async fn fallback(uri: Uri) -> Response {
    match version_of(&uri) {
        Some(version) if !API_VERSIONS.contains(&version) => {
            ApiError::bad_request(VERSION_NOT_SUPPORTED).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `2.6` of `/v2.6/...`; none where the path doesn't begin with a version.
fn version_of(uri: &Uri) -> Option<&str> {
    let version = uri.path().strip_prefix("/v")?.split('/').next()?;
    let (major, minor) = version.split_once('.')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(major) && number(minor)).then_some(version)
}
