//! HTTP/1.1 as far as Keylime speaks it: heads with bounds, bodies with a known length.
//!
//! A message whose end could be read in two ways is refused: a length that comes twice, any transfer encoding.

pub mod body;
pub mod emit;
pub mod head;

/// Room for a request's or answer's head; Keylime's take about 300 bytes.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;

/// What a server answered to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'b> {
    /// The status code.
    pub status: u16,
    /// What becomes of the connection.
    pub after: head::After,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// `Location`.
    pub location: Option<&'b str>,
    /// The body.
    pub body: &'b [u8],
}

/// What an answer says about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 400.
    BadRequest,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 411: a body without a length.
    LengthRequired,
    /// 413.
    PayloadTooLarge,
    /// 431: a head that is too large.
    HeadTooLarge,
    /// 500: the agent can't just now; Keylime's verifier asks again after this one and after no other.
    InternalError,
    /// 505.
    VersionNotSupported,
}

impl Status {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::LengthRequired => 411,
            Self::PayloadTooLarge => 413,
            Self::HeadTooLarge => 431,
            Self::InternalError => 500,
            Self::VersionNotSupported => 505,
        }
    }

    /// The words after the number.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::LengthRequired => "Length Required",
            Self::PayloadTooLarge => "Content Too Large",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::InternalError => "Internal Server Error",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}
