//! Heads of requests and answers.

use super::Status;
use crate::wire::route::Method;

/// The head of a request, borrowed from the bytes that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// How it asks.
    pub method: Method,
    /// What it asks, up to `?`.
    pub path: &'a str,
    /// What follows `?`, or nothing.
    pub query: &'a str,
    /// Length of the body.
    pub length: Length,
    /// What becomes of the connection.
    pub after: After,
    /// Whether the sender waits for `100 Continue` before the body.
    pub expects_continue: bool,
}

/// The head of an answer, borrowed from the bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    /// The status code.
    pub status: u16,
    /// Length of the body.
    pub length: Length,
    /// What becomes of the connection.
    pub after: After,
    /// `Retry-After` in seconds; a date there is none.
    pub retry_after: Option<u64>,
    /// `Location`.
    pub location: Option<&'a str>,
    /// `Content-Range`, if it is one of bytes whose whole length is said.
    pub range: Option<ContentRange>,
}

/// Which part of a whole a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte's number.
    pub first: u64,
    /// The last byte's.
    pub last: u64,
    /// Bytes of the whole.
    pub whole: u64,
}

impl ContentRange {
    /// Reads `bytes FIRST-LAST/WHOLE`.
    ///
    /// Source: RFC 9110, section 14.4.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
        let (range, whole) = text.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| parse_length(text.as_bytes()).ok();
        let (first, last, whole) = (number(first)?, number(last)?, number(whole)?);
        (first <= last && last < whole).then_some(Self { first, last, whole })
    }
}

/// Length of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// None is given: no body in a request.
    Unsaid,
    /// So many bytes.
    Bytes(u64),
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It serves the next request.
    Keep,
    /// It is closed.
    Close,
}

/// Why bytes are no head that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// No HTTP/1.
    Malformed,
    /// Another version of HTTP.
    Version,
    /// More than [`MAX_FIELDS`] fields, or (found by whoever collects the bytes) more than [`super::MAX_HEAD_BYTES`].
    TooLarge,
    /// A transfer encoding: its messages end where another reader may not see it.
    TransferEncoding,
    /// `Content-Length` is no number, or comes twice.
    Length,
    /// An expectation other than `100-continue`.
    Expectation,
}

impl HeadError {
    /// The status that says so.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Malformed | Self::Length | Self::Expectation => Status::BadRequest,
            Self::Version => Status::VersionNotSupported,
            Self::TooLarge => Status::HeadTooLarge,
            Self::TransferEncoding => Status::LengthRequired,
        }
    }

    /// The reason in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed request",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken",
            Self::TooLarge => "the request's header is too large",
            Self::TransferEncoding => "no transfer encoding is taken: send a Content-Length",
            Self::Length => "the Content-Length is doubled or no number",
            Self::Expectation => "unknown expectation",
        }
    }
}

impl<'a> RequestHead<'a> {
    /// Reads a head from the first bytes of a connection: the head and its length, or `None` if it hasn't come whole yet.
    ///
    /// # Errors
    /// [`HeadError`]: nothing after it can be read either, so the connection has to be closed.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(size) = request.parse(bytes).map_err(HeadError::from)?
        else {
            return Ok(None);
        };
        let target = request.path.ok_or(HeadError::Malformed)?;
        if !target.starts_with('/') {
            return Err(HeadError::Malformed);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let fields = Fields::read(request.headers, request.version)?;
        let head = Self {
            method: match request.method {
                Some("GET") => Method::Get,
                Some("POST") => Method::Post,
                _ => Method::Other,
            },
            path,
            query,
            length: fields.length,
            after: fields.after,
            expects_continue: fields.expects_continue,
        };
        Ok(Some((head, size)))
    }
}

impl<'a> AnswerHead<'a> {
    /// Reads a head from the first bytes of an answer: the head and its length, or `None` if it hasn't come whole yet.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(size) = answer.parse(bytes).map_err(HeadError::from)? else {
            return Ok(None);
        };
        let status = answer.code.ok_or(HeadError::Malformed)?;
        let value = |name| value_of(answer.headers, name);
        let location = value("location").and_then(|value| core::str::from_utf8(value).ok());
        let retry_after = value("retry-after").and_then(|value| parse_length(value).ok());
        let range = value("content-range").and_then(ContentRange::parse);
        let fields = Fields::read(answer.headers, answer.version)?;
        let head = Self {
            status,
            length: fields.length,
            after: fields.after,
            retry_after,
            location,
            range,
        };
        Ok(Some((head, size)))
    }
}

/// The value of a field; none if it comes twice.
fn value_of<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut values = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name));
    let value = values.next()?.value;
    values.next().is_none().then_some(value)
}

/// The fields that mean something here.
struct Fields {
    length: Length,
    after: After,
    expects_continue: bool,
}

impl Fields {
    fn read(fields: &[httparse::Header<'_>], version: Option<u8>) -> Result<Self, HeadError> {
        let mut read = Self {
            length: Length::Unsaid,
            after: if version == Some(1) {
                After::Keep
            } else {
                After::Close
            },
            expects_continue: false,
        };
        for field in fields {
            if field.name.eq_ignore_ascii_case("content-length") {
                if read.length != Length::Unsaid {
                    return Err(HeadError::Length);
                }
                read.length = Length::Bytes(parse_length(field.value)?);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(HeadError::TransferEncoding);
            } else if field.name.eq_ignore_ascii_case("connection") {
                let mut words = field.value.split(|byte| *byte == b',');
                if words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close")) {
                    read.after = After::Close;
                }
            } else if field.name.eq_ignore_ascii_case("expect") {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::Expectation);
                }
                read.expects_continue = true;
            }
        }
        Ok(read)
    }
}

/// Digits only: no sign, no list, no blank between.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Length);
    }
    core::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(HeadError::Length)
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::Version => Self::Version,
            httparse::Error::TooManyHeaders => Self::TooLarge,
            _ => Self::Malformed,
        }
    }
}

/// Fields of one head; Keylime's clients send up to seven.
pub const MAX_FIELDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let keep = |method, path, query, length| RequestHead {
            method,
            path,
            query,
            length,
            after: After::Keep,
            expects_continue: false,
        };
        let get = keep(Method::Get, "/version", "", Length::Unsaid);
        let post = keep(Method::Post, "/a", "b=c?d", Length::Bytes(7));
        let close = RequestHead {
            after: After::Close,
            ..get.clone()
        };
        let expects = RequestHead {
            expects_continue: true,
            ..post.clone()
        };
        let put = keep(Method::Other, "/version", "", Length::Unsaid);
        type Case<'a> = (&'a str, &'a str, Result<Option<RequestHead<'a>>, HeadError>);
        let cases: [Case<'_>; 23] = [
            (
                "plain",
                "GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
                Ok(Some(get.clone())),
            ),
            (
                "post",
                "POST /a?b=c?d HTTP/1.1\r\ncontent-LENGTH: 7\r\n\r\n",
                Ok(Some(post.clone())),
            ),
            ("other", "PUT /version HTTP/1.1\r\n\r\n", Ok(Some(put))),
            (
                "1.0",
                "GET /version HTTP/1.0\r\n\r\n",
                Ok(Some(close.clone())),
            ),
            (
                "close",
                "GET /version HTTP/1.1\r\nConnection: x, Close\r\n\r\n",
                Ok(Some(close)),
            ),
            (
                "continue",
                "POST /a?b=c?d HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n",
                Ok(Some(expects)),
            ),
            ("half", "GET /version HTTP/1.1\r\nHost", Ok(None)),
            ("none", "", Ok(None)),
            (
                "1.2",
                "GET /version HTTP/1.2\r\n\r\n",
                Err(HeadError::Version),
            ),
            (
                "2",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                Err(HeadError::Version),
            ),
            ("no http", "\x16\x03\x01\x02", Err(HeadError::Malformed)),
            (
                "absolute",
                "GET http://x/version HTTP/1.1\r\n\r\n",
                Err(HeadError::Malformed),
            ),
            (
                "star",
                "OPTIONS * HTTP/1.1\r\n\r\n",
                Err(HeadError::Malformed),
            ),
            (
                "doubled",
                "POST /a HTTP/1.1\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n",
                Err(HeadError::Length),
            ),
            (
                "list",
                "POST /a HTTP/1.1\r\nContent-Length: 7, 7\r\n\r\n",
                Err(HeadError::Length),
            ),
            (
                "signed",
                "POST /a HTTP/1.1\r\nContent-Length: +7\r\n\r\n",
                Err(HeadError::Length),
            ),
            (
                "no digits",
                "POST /a HTTP/1.1\r\nContent-Length:\r\n\r\n",
                Err(HeadError::Length),
            ),
            (
                "above u64",
                "POST /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                Err(HeadError::Length),
            ),
            (
                "chunked",
                "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(HeadError::TransferEncoding),
            ),
            (
                "chunked and sized",
                "POST /a HTTP/1.1\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(HeadError::TransferEncoding),
            ),
            (
                "identity",
                "POST /a HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
                Err(HeadError::TransferEncoding),
            ),
            (
                "folded",
                "GET /version HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
                Err(HeadError::Malformed),
            ),
            (
                "space before colon",
                "POST /a HTTP/1.1\r\nContent-Length : 7\r\n\r\n",
                Err(HeadError::Malformed),
            ),
        ];
        for (name, text, want) in cases {
            let got = RequestHead::parse(text.as_bytes());
            assert_eq!(got.map(|head| head.map(|(head, _)| head)), want, "{name}");
        }
    }

    #[test]
    fn a_flood_of_fields_is_refused() {
        let mut text = heapless::String::<1024>::new();
        text.push_str("GET /version HTTP/1.1\r\n").unwrap();
        for _ in 0..=MAX_FIELDS {
            text.push_str("a: b\r\n").unwrap();
        }
        text.push_str("\r\n").unwrap();
        assert_eq!(
            RequestHead::parse(text.as_bytes()),
            Err(HeadError::TooLarge)
        );
    }

    #[test]
    fn answers() {
        let head = AnswerHead {
            status: 200,
            length: Length::Bytes(3),
            after: After::Keep,
            retry_after: None,
            location: None,
            range: None,
        };
        let text =
            b"HTTP/1.1 200 OK\r\nServer: TornadoServer/6.6.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(AnswerHead::parse(text), Ok(Some((head, text.len() - 3))));
        assert_eq!(AnswerHead::parse(&text[..20]), Ok(None));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(AnswerHead::parse(chunked), Err(HeadError::TransferEncoding));
    }

    #[test]
    fn fields_that_a_client_follows() {
        let read = |fields: &str| {
            let mut text = heapless::String::<256>::new();
            core::fmt::Write::write_fmt(
                &mut text,
                format_args!("HTTP/1.1 206 Partial Content\r\n{fields}\r\n"),
            )
            .unwrap();
            let (head, _) = AnswerHead::parse(text.as_bytes()).unwrap().unwrap();
            let location = head
                .location
                .map(|at| heapless::String::<16>::try_from(at).unwrap());
            (head.retry_after, location, head.range)
        };
        let range = |first, last, whole| Some(ContentRange { first, last, whole });
        let place = Some("/a/7".try_into().unwrap());
        for (fields, expected) in [
            ("", (None, None, None)),
            (
                "Retry-After: 30\r\nlocation: /a/7\r\n",
                (Some(30), place, None),
            ),
            (
                "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
                (None, None, None),
            ),
            ("Retry-After: 1\r\nRetry-After: 2\r\n", (None, None, None)),
            (
                "Content-Range: bytes 5-9/10\r\n",
                (None, None, range(5, 9, 10)),
            ),
            ("Content-Range: bytes 5-10/10\r\n", (None, None, None)),
            ("Content-Range: bytes 5-4/10\r\n", (None, None, None)),
            ("Content-Range: bytes */10\r\n", (None, None, None)),
            ("Content-Range: bytes 5-9/*\r\n", (None, None, None)),
        ] {
            assert_eq!(read(fields), expected, "{fields}");
        }
    }
}
