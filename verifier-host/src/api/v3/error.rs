//! Errors in the shape of JSON:API, with a `code` for programs.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::http::ApiError;
use crate::payloads::DraftError;
use crate::payloads::decide::Refusal;
use crate::push::bucket::TooOften;
use crate::push::sessions::OpenError;
use crate::rounds::schedule::ChangeError;
use crate::store::StoreError;

/// An error as it is answered. Never a secret, nothing from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    code: &'static str,
    detail: String,
    pointer: Option<String>,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of this status, code and reason.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            pointer: None,
            retry_after: None,
        }
    }

    /// 422: this place of the document is wrong.
    pub(super) fn document(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "document", detail)
        }
    }

    /// 500: this server failed; its log says why.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        ApiError::internal(error).into()
    }

    pub(super) fn no_token() -> Self {
        let detail = "this route needs the token of a session that hasn't expired";
        Self::new(StatusCode::UNAUTHORIZED, "no-token", detail)
    }

    pub(super) fn other_agent() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "other-agent",
            "the token is another agent's",
        )
    }

    pub(super) fn no_certificate() -> Self {
        let detail = "this route needs a client certificate under the verifier's CA (cv_ca), or an agent's token";
        Self::new(StatusCode::UNAUTHORIZED, "no-certificate", detail)
    }

    pub(super) fn not_administrator() -> Self {
        let detail =
            "this route is for administrators: a client certificate and no Authorization header";
        Self::new(StatusCode::FORBIDDEN, "not-administrator", detail)
    }

    pub(super) fn unknown_agent() -> Self {
        let detail = "no such agent; add the node first";
        Self::new(StatusCode::NOT_FOUND, "unknown-agent", detail)
    }

    pub(super) fn polled() -> Self {
        let detail = "this node was added with a certificate: the verifier polls it, and it has no payload here";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "manifest", detail)
    }

    pub(super) fn no_payload() -> Self {
        let detail = "nothing is deposited for this node";
        Self::new(StatusCode::NOT_FOUND, "no-payload", detail)
    }

    pub(super) fn unknown_payload() -> Self {
        let detail = "there is no such payload, or not any more: read the manifest again";
        Self::new(StatusCode::NOT_FOUND, "unknown-payload", detail)
    }

    pub(super) fn unknown_attestation() -> Self {
        let detail = "this session has no such attestation";
        Self::new(StatusCode::NOT_FOUND, "unknown-attestation", detail)
    }

    pub(super) fn not_passed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-passed", detail)
    }

    pub(super) fn busy() -> Self {
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "the verdict isn't there yet",
            )
        }
    }

    /// The code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let code = match error.status {
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            StatusCode::INTERNAL_SERVER_ERROR => "internal",
            _ => "request",
        };
        Self::new(error.status, code, error.reason)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        Self::internal(&error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<TooOften> for Error {
    fn from(error: TooOften) -> Self {
        Self {
            retry_after: Some(error.retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-often",
                "too many requests",
            )
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TooOften(error) => error.into(),
            OpenError::Full => Self {
                retry_after: Some(Duration::from_secs(10)),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "full", error.to_string())
            },
            OpenError::Random(error) => Self::internal(&error),
        }
    }
}

impl From<DraftError> for Error {
    fn from(error: DraftError) -> Self {
        let (status, code) = match error {
            DraftError::Manifest { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "manifest"),
            DraftError::WeakPolicy => (StatusCode::UNPROCESSABLE_ENTITY, "weak-policy"),
            DraftError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        Self::new(StatusCode::FORBIDDEN, refusal.code(), refusal.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut error = json!({
            "status": self.status.as_str(), "code": self.code, "title": title, "detail": self.detail,
        });
        if let Some(pointer) = self.pointer {
            error["source"] = json!({ "pointer": pointer });
        }
        let body = json!({ "errors": [error] }).to_string();
        let mut response = (self.status, [(CONTENT_TYPE, JSON_API)], body).into_response();
        if let Some(pause) = self.retry_after {
            // Whole seconds, never too early.
            let seconds = pause.as_secs().saturating_add(1);
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer of this status, as a JSON:API document.
pub(super) fn document<T: Serialize>(status: StatusCode, body: &T) -> Response {
    answer(status, JSON_API, body)
}

/// An answer of this status, as plain JSON.
pub(super) fn plain<T: Serialize>(status: StatusCode, body: &T) -> Response {
    answer(status, "application/json", body)
}

fn answer<T: Serialize>(status: StatusCode, kind: &'static str, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => (status, [(CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => Error::internal(&error).into_response(),
    }
}

/// The media type of JSON:API.
pub(super) const JSON_API: &str = "application/vnd.api+json";
