//! Bodies in, envelopes out.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::Body as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::{Envelope, Nothing};
use crate::link::in_one_piece;

/// The answer to what worked: 200, with these results.
pub fn success<T: Serialize>(results: T) -> Response {
    envelope(StatusCode::OK, &Envelope::success(results))
}

/// The answer to what was made or replaced: 201.
pub fn created<T: Serialize>(results: T) -> Response {
    let body = Envelope {
        code: StatusCode::CREATED.as_u16(),
        ..Envelope::success(results)
    };
    envelope(StatusCode::CREATED, &body)
}

/// The answer to what didn't work: a status, and the reason for the one who asked. Never a secret, nothing from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, repeated in the envelope.
    pub status: StatusCode,
    /// The reason, in the envelope's `status`.
    pub reason: String,
}

impl ApiError {
    /// An error of this status and reason.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// 404: there is no such thing.
    pub fn not_found(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason)
    }

    /// 500: this server failed. `error` goes to the log; the one who asked learns only that it failed.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "a request failed");
        let reason = "the server failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, reason)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Envelope {
            code: self.status.as_u16(),
            status: self.reason,
            results: Nothing {},
        };
        envelope(self.status, &body)
    }
}

/// Reads a body of at most `limit` bytes as JSON of this type, whatever its Content-Type: Keylime's tenant sends none.
///
/// # Errors
/// 413 if it is larger, 400 if it breaks off or isn't that JSON.
pub async fn read_json<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, ApiError> {
    let bytes = read(body, limit).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::bad_request(format!("the body is not the JSON expected: {error}"))
    })
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 if it is larger, 400 if it breaks off.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let reason = format!("the body is larger than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match in_one_piece(Limited::new(body, limit)).await {
        Ok(body) => Ok(body),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(ApiError::bad_request("the body broke off")),
    }
}

fn envelope<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let json = HeaderValue::from_static("application/json");
    match serde_json::to_vec(body) {
        Ok(text) => (status, [(CONTENT_TYPE, json)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
