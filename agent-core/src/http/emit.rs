//! Heads that are sent.

use core::fmt::{self, Write};

use super::Status;
use super::head::After;

/// Room for the head of an answer.
pub const MAX_ANSWER_HEAD_BYTES: usize = 192;

/// What a sender of a long body waits for, if it said so.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes the head of an answer with a JSON body of this length.
///
/// # Errors
/// The writer's: less room than [`MAX_ANSWER_HEAD_BYTES`].
pub fn answer_head(
    out: &mut impl Write,
    status: Status,
    length: usize,
    after: After,
) -> fmt::Result {
    let (code, reason) = (status.code(), status.reason());
    write!(
        out,
        "HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    )?;
    if after == After::Close {
        out.write_str("Connection: close\r\n")?;
    }
    out.write_str("\r\n")
}

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

/// What a client's body is, and what it wants to have back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/vnd.api+json`.
    JsonApi,
    /// `application/octet-stream`.
    Bytes,
}

impl Media {
    /// The media type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonApi => "application/vnd.api+json",
            Self::Bytes => "application/octet-stream",
        }
    }
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// How it asks.
    pub verb: Verb,
    /// What it asks.
    pub path: &'a str,
    /// Whom it asks.
    pub host: &'a str,
    /// The bearer's token, if it has one.
    pub token: Option<&'a str>,
    /// What its body is, and the answer's.
    pub media: Media,
    /// From which byte on it wants to have the answer; 0 for the whole.
    pub from: u64,
    /// Bytes of its body; 0 for none.
    pub length: usize,
}

/// Writes the head of a request.
///
/// # Errors
/// The writer's: no room.
pub fn request_head(out: &mut impl Write, asking: &Asking<'_>) -> fmt::Result {
    let verb = match asking.verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
    };
    let (path, host, media) = (asking.path, asking.host, asking.media.name());
    write!(
        out,
        "{verb} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {media}\r\n"
    )?;
    if let Some(token) = asking.token {
        write!(out, "Authorization: Bearer {token}\r\n")?;
    }
    if asking.from > 0 {
        write!(out, "Range: bytes={}-\r\n", asking.from)?;
    }
    if asking.length > 0 {
        write!(
            out,
            "Content-Type: {media}\r\nContent-Length: {}\r\n",
            asking.length
        )?;
    }
    out.write_str("\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{AnswerHead, Length, RequestHead};

    #[test]
    fn answers_read_back() {
        let all = [
            Status::Ok,
            Status::BadRequest,
            Status::Forbidden,
            Status::NotFound,
            Status::MethodNotAllowed,
            Status::LengthRequired,
            Status::PayloadTooLarge,
            Status::HeadTooLarge,
            Status::InternalError,
            Status::VersionNotSupported,
        ];
        for status in all {
            let mut out = heapless::String::<MAX_ANSWER_HEAD_BYTES>::new();
            answer_head(&mut out, status, usize::MAX, After::Close).unwrap();
            let head = AnswerHead {
                status: status.code(),
                length: Length::Bytes(u64::MAX),
                after: After::Close,
                retry_after: None,
                location: None,
                range: None,
            };
            assert_eq!(
                AnswerHead::parse(out.as_bytes()),
                Ok(Some((head, out.len())))
            );
        }
    }

    #[test]
    fn requests_read_back() {
        let mut out = heapless::String::<256>::new();
        let asking = Asking {
            verb: Verb::Post,
            path: "/v2.6/agents/x",
            host: "127.0.0.1:8890",
            token: None,
            media: Media::Json,
            from: 0,
            length: 5,
        };
        request_head(&mut out, &asking).unwrap();
        let (head, size) = RequestHead::parse(out.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (head.path, head.length, size),
            ("/v2.6/agents/x", Length::Bytes(5), out.len())
        );
    }

    #[test]
    fn tokens_and_ranges_have_their_fields() {
        let mut out = heapless::String::<256>::new();
        let asking = Asking {
            verb: Verb::Get,
            path: "/x",
            host: "v",
            token: Some("abc"),
            media: Media::Bytes,
            from: 17,
            length: 0,
        };
        request_head(&mut out, &asking).unwrap();
        assert_eq!(
            out,
            "GET /x HTTP/1.1\r\nHost: v\r\nAccept: application/octet-stream\r\nAuthorization: Bearer abc\r\nRange: bytes=17-\r\n\r\n"
        );
    }
}
