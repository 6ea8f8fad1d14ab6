//! Heads that are sent.

use core::fmt::{self, Display, Write};

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
}

/// Writes the head of a request with a JSON body of this length; without a body the length is 0.
///
/// # Errors
/// The writer's: no room.
pub fn request_head(
    out: &mut impl Write,
    verb: Verb,
    path: impl Display,
    host: impl Display,
    length: usize,
) -> fmt::Result {
    let verb = match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
    };
    write!(
        out,
        "{verb} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n"
    )?;
    if length > 0 {
        write!(
            out,
            "Content-Type: application/json\r\nContent-Length: {length}\r\n"
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
        request_head(&mut out, Verb::Post, "/v2.6/agents/x", "127.0.0.1:8890", 5).unwrap();
        let (head, size) = RequestHead::parse(out.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (head.path, head.length, size),
            ("/v2.6/agents/x", Length::Bytes(5), out.len())
        );
    }
}
