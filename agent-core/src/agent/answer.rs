//! Answers: Keylime's envelope, and refusals in words that tell a peer the class only.

use core::fmt::{self, Write};

use heapless::string::StringView;

use crate::http::Status;
use crate::http::head::HeadError;
use crate::revocation::{LedgerError, NoticeError};
use crate::wire::form::FormError;
use crate::wire::json::ObjectWriter;
use crate::wire::route::{RouteError, VERSION_NOT_SUPPORTED};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The head can't be read.
    Head(HeadError),
    /// It asks nothing that is answered.
    Route(RouteError),
    /// The peer may not deliver payloads.
    NotTheTenant,
    /// The peer has no certificate, so that nobody knows whether it may.
    NotAuthenticated,
    /// The body has no length.
    NoLength,
    /// There is a body where none belongs.
    UnwantedBody,
    /// The body is larger than its route takes.
    BodyTooLarge,
    /// The body isn't what its route takes.
    Form(FormError),
    /// A payload is being received, opened, or its script runs.
    Busy,
    /// There is no room for a payload just now.
    NoVault,
    /// The ciphertext isn't for this agent's transport key.
    KeyCiphertext,
    /// A key half is neither 16 nor 32 bytes.
    KeyLength,
    /// The key isn't there yet.
    NoKey,
    /// The TPM gives no quote just now.
    NoQuote,
    /// A log of this boot can't be read just now.
    NoLog,
    /// A log of this boot is larger than is sent.
    LogTooLarge,
    /// A revocation notice that doesn't count, or that there is no room for.
    Notice(NoticeError),
    /// The answer doesn't fit its buffer.
    AnswerTooLarge,
}

impl Refusal {
    /// The status that says so.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Head(error) => error.status(),
            Self::Route(RouteError::NotFound) => Status::NotFound,
            Self::Route(RouteError::Method) => Status::MethodNotAllowed,
            Self::NotTheTenant | Self::NotAuthenticated => Status::Forbidden,
            Self::NoLength => Status::LengthRequired,
            Self::BodyTooLarge | Self::Form(FormError::PayloadTooLarge) => Status::PayloadTooLarge,
            Self::Busy
            | Self::NoVault
            | Self::NoQuote
            | Self::NoLog
            | Self::LogTooLarge
            | Self::Notice(NoticeError::Full | NoticeError::Ledger(LedgerError::TooManyLogs))
            | Self::AnswerTooLarge => Status::InternalError,
            Self::Route(_)
            | Self::UnwantedBody
            | Self::Form(_)
            | Self::KeyCiphertext
            | Self::KeyLength
            | Self::NoKey
            | Self::Notice(_) => Status::BadRequest,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Head(error) => error.text(),
            Self::Route(RouteError::NotFound) => "no such route",
            Self::Route(RouteError::Method) => "the route takes another method",
            Self::Route(RouteError::Version) => VERSION_NOT_SUPPORTED,
            Self::Route(RouteError::Query { name }) => {
                return write!(out, "query parameter {name} is missing or malformed");
            }
            Self::NotTheTenant => {
                "only the tenant whose certificate this agent is told may deliver payloads"
            }
            Self::NotAuthenticated => {
                "payloads are not taken over plain HTTP: use mutual TLS, or set enable_insecure_payload"
            }
            Self::NoLength => "the request needs a Content-Length",
            Self::UnwantedBody => "the route takes no body",
            Self::BodyTooLarge => {
                "the body is larger than this agent takes (agent/info says how much)"
            }
            Self::Form(error) => return error.fmt(out),
            Self::Busy => {
                "an earlier payload is still at work; try again when its outcome is there"
            }
            Self::NoVault => "no room for a payload just now; try again",
            Self::KeyCiphertext => "encrypted_key is not for this agent's transport key",
            Self::KeyLength => "a key half has 16 or 32 bytes",
            Self::NoKey => "the key is not there yet",
            Self::NoQuote => "the TPM gives no quote just now; try again",
            Self::NoLog => "a log of this boot cannot be read just now; try again",
            Self::LogTooLarge => "a log of this boot is larger than this agent sends",
            Self::Notice(error) => return error.fmt(out),
            Self::AnswerTooLarge => "the answer is too large",
        };
        out.write_str(text)
    }
}

impl From<FormError> for Refusal {
    fn from(error: FormError) -> Self {
        Self::Form(error)
    }
}

/// Writes the body of a refusal and returns its status.
pub fn refuse(refusal: Refusal, out: &mut StringView) -> Status {
    let status = refusal.status();
    out.clear();
    // Static texts: they fit every buffer that an answer gets.
    let _ = write_refusal(refusal, status, out);
    status
}

fn write_refusal(refusal: Refusal, status: Status, out: &mut StringView) -> fmt::Result {
    let mut body = ObjectWriter::begin(out)?;
    body.number("code", status.code())?;
    body.text("status", refusal)?;
    body.object("results")?.end()?;
    body.end()
}

/// Writes the body of a success whose `results` are an object; if it doesn't fit, that it doesn't.
pub(super) fn succeed<F>(out: &mut StringView, results: F) -> Status
where
    F: FnOnce(&mut ObjectWriter<'_, StringView>) -> fmt::Result,
{
    out.clear();
    match write_success(out, results) {
        Ok(()) => Status::Ok,
        Err(fmt::Error) => refuse(Refusal::AnswerTooLarge, out),
    }
}

fn write_success<F>(out: &mut StringView, results: F) -> fmt::Result
where
    F: FnOnce(&mut ObjectWriter<'_, StringView>) -> fmt::Result,
{
    let mut body = ObjectWriter::begin(out)?;
    body.number("code", Status::Ok.code())?;
    body.text("status", "Success")?;
    let mut object = body.object("results")?;
    results(&mut object)?;
    object.end()?;
    body.end()
}

/// Writes the body of a success that says nothing more: Keylime's `results: null`.
pub(super) fn accept(out: &mut StringView) -> Status {
    out.clear();
    let body = r#"{"code":200,"status":"Success","results":null}"#;
    match out.write_str(body) {
        Ok(()) => Status::Ok,
        Err(fmt::Error) => refuse(Refusal::AnswerTooLarge, out),
    }
}
