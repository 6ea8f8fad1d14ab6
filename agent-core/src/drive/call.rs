//! The client's side: one request, one answer.

use embedded_io::{ErrorType, Read, Seek, Write};
use heapless::string::StringView;

use crate::http::Answer;
use crate::http::emit::{self, Asking, Media, Verb};
use crate::http::head::{After, AnswerHead, ContentRange, HeadError, Length};
use crate::wire::log::Attached;

use super::logs::{self, LogFault, Logs, SendFault};

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The stream failed.
    Io(E),
    /// The server closed the connection before its answer was whole.
    Cut,
    /// The answer's head can't be read.
    Head(HeadError),
    /// The answer is larger than its buffer.
    TooLarge,
}

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// How it asks.
    pub verb: Verb,
    /// What it asks.
    pub path: &'a str,
    /// Whom it asks, for the `Host` field.
    pub host: &'a str,
    /// The bearer's token, if it has one.
    pub token: Option<&'a str>,
    /// What its body is, and the answer's.
    pub media: Media,
    /// What it sends; empty for nothing.
    pub body: &'a str,
}

/// Sends a request and reads its answer, head and body, into `buffer`.
///
/// # Errors
/// [`CallError`]; the connection can't be used any more.
pub fn call<'b, C: Read + Write>(
    io: &mut C,
    call: &Call<'_>,
    buffer: &'b mut [u8],
) -> Result<Answer<'b>, CallError<C::Error>> {
    let asking = Asking {
        verb: call.verb,
        path: call.path,
        host: call.host,
        token: call.token,
        media: call.media,
        from: 0,
        length: call.body.len(),
    };
    send(io, &asking, call.body)?;
    let mut filled = 0;
    let begun = read_head(io, buffer, &mut filled)?;
    finish(io, &begun, buffer, filled, Overflow::Refused)
}

/// A body with logs in it.
pub struct Enclosed<'a, L: ErrorType> {
    /// What of the logs.
    pub attached: &'a Attached,
    /// The body without them; what is in it afterwards means nothing.
    pub body: &'a mut StringView,
    /// The logs.
    pub logs: &'a mut Logs<L>,
}

/// Why a call with logs has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnclosedError<E, L> {
    /// The exchange failed.
    Call(CallError<E>),
    /// A log can't be sent.
    Log(LogFault<L>),
}

impl<E, L> From<CallError<E>> for EnclosedError<E, L> {
    fn from(error: CallError<E>) -> Self {
        Self::Call(error)
    }
}

/// Sends a request whose body has logs in it (in place of [`Call::body`]), and reads its answer into `buffer`.
///
/// Servers send evidence back: of an answer that is larger than the buffer, the end alone is kept.
///
/// # Errors
/// [`EnclosedError`]; the connection can't be used any more.
pub fn call_with_logs<'b, C: Read + Write, L: Read + Seek>(
    io: &mut C,
    call: &Call<'_>,
    enclosed: Enclosed<'_, L>,
    buffer: &'b mut [u8],
) -> Result<Answer<'b>, EnclosedError<C::Error, L::Error>> {
    let Enclosed {
        attached,
        body,
        logs,
    } = enclosed;
    let found = logs::survey(attached, logs, buffer).map_err(EnclosedError::Log)?;
    let more = usize::try_from(attached.length(&found)).map_err(|_| CallError::TooLarge)?;
    let asking = Asking {
        verb: call.verb,
        path: call.path,
        host: call.host,
        token: call.token,
        media: call.media,
        from: 0,
        length: body.len().saturating_add(more),
    };
    send_head(io, &asking)?;
    logs::send(io, (attached, &found), body, logs, buffer).map_err(|fault| match fault {
        SendFault::Io(error) => CallError::Io(error).into(),
        SendFault::Log(fault) => EnclosedError::Log(fault),
    })?;
    let mut filled = 0;
    let begun = read_head(io, buffer, &mut filled)?;
    Ok(finish(io, &begun, buffer, filled, Overflow::Clipped)?)
}

/// A request for bytes of any number.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// What it asks.
    pub path: &'a str,
    /// Whom it asks, for the `Host` field.
    pub host: &'a str,
    /// The bearer's token, if it has one.
    pub token: Option<&'a str>,
    /// How many bytes are there already: the first that is wanted has this number.
    pub from: u64,
    /// Bytes of the whole.
    pub whole: u64,
}

/// How a download ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downloaded<'b> {
    /// All bytes to the whole's end have come.
    Whole(After),
    /// The server answers something else.
    Answered(Answer<'b>),
}

/// Why a download broke off. What came before was handed on, and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownloadError<E, S> {
    /// The exchange failed.
    Call(CallError<E>),
    /// The server sends another range, or a whole of another length.
    Range,
    /// The receiver takes no more.
    Sink(S),
}

impl<E, S> From<CallError<E>> for DownloadError<E, S> {
    fn from(error: CallError<E>) -> Self {
        Self::Call(error)
    }
}

/// Asks for bytes and hands them on as they come; `buffer` holds a head, and some of them at a time.
///
/// A server that doesn't know ranges sends all from the start: what is there already is passed over. Never more bytes are
/// handed on than are wanted.
///
/// # Errors
/// [`DownloadError`]; the connection can't be used any more.
pub fn download<'b, C: Read + Write, S>(
    io: &mut C,
    wanted: &Download<'_>,
    buffer: &'b mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), S>,
) -> Result<Downloaded<'b>, DownloadError<C::Error, S>> {
    let asking = Asking {
        verb: Verb::Get,
        path: wanted.path,
        host: wanted.host,
        token: wanted.token,
        media: Media::Bytes,
        from: wanted.from,
        length: 0,
    };
    send(io, &asking, "")?;
    let mut filled = 0;
    let begun = read_head(io, buffer, &mut filled)?;
    let first = match begun.status {
        200 => 0,
        206 => wanted.from,
        _ => {
            let answer = finish(io, &begun, buffer, filled, Overflow::Refused)?;
            return Ok(Downloaded::Answered(answer));
        }
    };
    let mut left = wanted.whole.saturating_sub(first);
    let is_whole = |range: ContentRange| {
        (range.first, range.whole) == (first, wanted.whole)
            && range.last.checked_add(1) == Some(wanted.whole)
    };
    let is_range = begun.status == 200 || begun.range.is_some_and(is_whole);
    if begun.length != Length::Bytes(left) || !is_range {
        return Err(DownloadError::Range);
    }
    let mut known = wanted.from.saturating_sub(first);
    let mut start = begun.start;
    loop {
        let arrived = buffer.get(start..filled).unwrap_or_default();
        let mine = at_most(left, arrived.len());
        let skipped = at_most(known, mine);
        let fresh = arrived.get(skipped..mine).unwrap_or_default();
        if !fresh.is_empty() {
            sink(fresh).map_err(DownloadError::Sink)?;
        }
        known = known.saturating_sub(u64_of(skipped));
        left = left.saturating_sub(u64_of(mine));
        if left == 0 {
            return Ok(Downloaded::Whole(begun.after));
        }
        (start, filled) = (0, 0);
        if !read_more(io, buffer, &mut filled)? {
            return Err(CallError::Cut.into());
        }
    }
}

/// What of an answer's head is needed once its bytes are left behind.
struct Begun {
    status: u16,
    length: Length,
    after: After,
    retry_after: Option<u64>,
    /// Where `Location` stands in the buffer.
    location: Option<(usize, usize)>,
    range: Option<ContentRange>,
    /// Where the body begins.
    start: usize,
}

fn send<C: Write>(io: &mut C, asking: &Asking<'_>, body: &str) -> Result<(), CallError<C::Error>> {
    send_head(io, asking)?;
    io.write_all(body.as_bytes()).map_err(CallError::Io)?;
    io.flush().map_err(CallError::Io)
}

fn send_head<C: Write>(io: &mut C, asking: &Asking<'_>) -> Result<(), CallError<C::Error>> {
    let mut head = heapless::Vec::<u8, MAX_REQUEST_HEAD_BYTES>::new();
    let written = emit::request_head(&mut head, asking);
    let sent = written
        .map_err(|_| CallError::TooLarge)
        .and_then(|()| io.write_all(&head).map_err(CallError::Io));
    // A token may be in it.
    zeroize::Zeroize::zeroize(head.as_mut_slice());
    sent
}

fn read_head<C: Read>(
    io: &mut C,
    buffer: &mut [u8],
    filled: &mut usize,
) -> Result<Begun, CallError<C::Error>> {
    loop {
        let arrived = buffer.get(..*filled).unwrap_or_default();
        if let Some((head, start)) = AnswerHead::parse(arrived).map_err(CallError::Head)? {
            let place = |text: &str| {
                let at = text.as_ptr().addr().checked_sub(arrived.as_ptr().addr())?;
                Some((at, at.checked_add(text.len())?))
            };
            return Ok(Begun {
                status: head.status,
                length: head.length,
                after: match head.length {
                    Length::Bytes(_) => head.after,
                    Length::Unsaid => After::Close,
                },
                retry_after: head.retry_after,
                location: head.location.and_then(place),
                range: head.range,
                start,
            });
        }
        if !read_more(io, buffer, filled)? {
            return Err(CallError::Cut);
        }
    }
}

/// What becomes of an answer that is larger than its buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    /// It is an error.
    Refused,
    /// What came first is thrown away.
    Clipped,
}

/// Reads the rest of an answer's body into the buffer that its head is in.
fn finish<'b, C: Read>(
    io: &mut C,
    begun: &Begun,
    buffer: &'b mut [u8],
    mut filled: usize,
    overflow: Overflow,
) -> Result<Answer<'b>, CallError<C::Error>> {
    let end = match begun.length {
        // No body, whatever its head says.
        Length::Unsaid if begun.status == 204 => begun.start,
        Length::Bytes(length) => {
            let mut length = usize::try_from(length).map_err(|_| CallError::TooLarge)?;
            let room = buffer.len().saturating_sub(begun.start);
            while length > room && overflow == Overflow::Clipped {
                let arrived = buffer.get_mut(begun.start..filled).unwrap_or_default();
                // At most half of the room stays, so what comes after it has some.
                let over = arrived.len().saturating_sub(room / 2);
                arrived.copy_within(over.., 0);
                (filled, length) = (filled.saturating_sub(over), length.saturating_sub(over));
                if length > room && !read_more(io, buffer, &mut filled)? {
                    return Err(CallError::Cut);
                }
            }
            let end = begun.start.saturating_add(length);
            while filled < end {
                if !read_more(io, buffer, &mut filled)? {
                    return Err(CallError::Cut);
                }
            }
            end
        }
        Length::Unsaid => {
            while read_more(io, buffer, &mut filled)? {}
            filled
        }
    };
    let buffer: &'b [u8] = buffer;
    let text = |(from, to)| core::str::from_utf8(buffer.get(from..to)?).ok();
    Ok(Answer {
        status: begun.status,
        after: begun.after,
        retry_after: begun.retry_after,
        location: begun.location.and_then(text),
        body: buffer.get(begun.start..end).ok_or(CallError::TooLarge)?,
    })
}

fn at_most(limit: u64, length: usize) -> usize {
    usize::try_from(limit).map_or(length, |limit| limit.min(length))
}

fn u64_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Reads once more; `false` at the end of the stream.
fn read_more<C: Read>(
    io: &mut C,
    buffer: &mut [u8],
    filled: &mut usize,
) -> Result<bool, CallError<C::Error>> {
    match buffer.get_mut(*filled..) {
        Some(room) if !room.is_empty() => {
            let read = io.read(room).map_err(CallError::Io)?;
            *filled = filled.saturating_add(read);
            Ok(read > 0)
        }
        _ => Err(CallError::TooLarge),
    }
}

/// Room for the head of a request: its path holds identifiers, and its token is the longest.
const MAX_REQUEST_HEAD_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// A server that has answered already.
    struct Wire(&'static [u8]);

    impl embedded_io::ErrorType for Wire {
        type Error = core::convert::Infallible;
    }

    impl Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            let (now, later) = self.0.split_at(self.0.len().min(buffer.len()).min(7));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    #[test]
    fn downloads() {
        let cut = DownloadError::Call(CallError::Cut);
        type Row = (&'static str, u64, &'static [u8], Ended, &'static [u8]);
        type Ended = Result<u16, DownloadError<core::convert::Infallible, ()>>;
        let rows: [Row; 10] = [
            ("whole", 0, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", Ok(200), b"0123456789"),
            ("rest", 4, b"HTTP/1.1 206 P\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10\r\n\r\n456789", Ok(200), b"456789"),
            ("no ranges", 4, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", Ok(200), b"456789"),
            ("more than wanted", 4, b"HTTP/1.1 206 P\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10\r\n\r\n456789abc", Ok(200), b"456789"),
            ("cut", 0, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", Err(cut), b"01234"),
            ("longer", 0, b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890", Err(DownloadError::Range), b""),
            ("of no length", 0, b"HTTP/1.1 200 OK\r\n\r\n0123456789", Err(DownloadError::Range), b""),
            ("another range", 4, b"HTTP/1.1 206 P\r\nContent-Length: 6\r\nContent-Range: bytes 3-8/10\r\n\r\n345678", Err(DownloadError::Range), b""),
            ("another whole", 4, b"HTTP/1.1 206 P\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/11\r\n\r\n456789", Err(DownloadError::Range), b""),
            ("gone", 4, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", Ok(404), b""),
        ];
        for (name, from, answer, expected, bytes) in rows {
            let wanted = Download {
                path: "/x",
                host: "v",
                token: None,
                from,
                whole: 10,
            };
            let (mut got, mut buffer) = (Vec::new(), [0; 128]);
            let done = download(&mut Wire(answer), &wanted, &mut buffer, |piece| {
                got.extend_from_slice(piece);
                Ok(())
            });
            let done = done.map(|done| match done {
                Downloaded::Whole(_) => 200,
                Downloaded::Answered(answer) => answer.status,
            });
            assert_eq!((done, got.as_slice()), (expected, bytes), "{name}");
        }
    }

    #[test]
    fn answers_bring_their_location() {
        let answer = b"HTTP/1.1 201 Created\r\nLocation: /a/3\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\n{}";
        let asked = Call {
            verb: Verb::Post,
            path: "/a",
            host: "v",
            token: Some("t"),
            media: Media::JsonApi,
            body: "{}",
        };
        let mut buffer = [0; 128];
        let answer = call(&mut Wire(answer), &asked, &mut buffer).unwrap();
        assert_eq!((answer.status, answer.location), (201, Some("/a/3")));
        assert_eq!((answer.retry_after, answer.body), (Some(9), &b"{}"[..]));
    }
}
