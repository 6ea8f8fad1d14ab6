//! Who may ask: an administrator has a valid client certificate under the verifier's CA, and no Authorization header.
//!
//! Source: Keylime 7.14's authorization; agents come without a certificate, and with a token in that header.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// Who is at the other end of a connection. The server puts it into each request's extensions; a request without it is
/// nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It showed no client certificate. One that isn't valid under the CA ends the handshake.
    Anonymous,
    /// Its client certificate is valid under the CA.
    Certified,
}

/// Lets administrators through, and answers everybody else 401 or 403.
pub async fn administrators_only(request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get()
        .copied()
        .unwrap_or(Peer::Anonymous);
    let refused = match (peer, request.headers().contains_key(AUTHORIZATION)) {
        (Peer::Certified, false) => return next.run(request).await,
        (Peer::Anonymous, false) => Refusal {
            status: StatusCode::UNAUTHORIZED,
            title: "Unauthorized",
            detail: "this route is for administrators: a client certificate of the verifier's CA is needed",
        },
        (_, true) => Refusal {
            status: StatusCode::FORBIDDEN,
            title: "Forbidden",
            detail: "this route is for administrators, who authenticate by client certificate alone; leave the \
                     Authorization header out",
        },
    };
    refused.into_response()
}

struct Refusal {
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
}

impl Refusal {
    /// Keylime's envelope of authorization failures.
    fn into_response(self) -> Response {
        let status = self.status.as_u16().to_string();
        let body =
            json!({ "errors": [{ "status": status, "title": self.title, "detail": self.detail }] });
        (
            self.status,
            [("content-type", "application/json")],
            body.to_string(),
        )
            .into_response()
    }
}
