//! The client's side: one request, one answer.

use embedded_io::{Read, Write};

use crate::http::emit::{self, Verb};
use crate::http::head::{After, AnswerHead, HeadError, Length};

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'b> {
    /// The status code.
    pub status: u16,
    /// What becomes of the connection.
    pub after: After,
    /// The body.
    pub body: &'b [u8],
}

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
    let mut head = heapless::String::<MAX_REQUEST_HEAD_BYTES>::new();
    emit::request_head(&mut head, call.verb, call.path, call.host, call.body.len())
        .map_err(|_| CallError::TooLarge)?;
    io.write_all(head.as_bytes()).map_err(CallError::Io)?;
    io.write_all(call.body.as_bytes()).map_err(CallError::Io)?;
    io.flush().map_err(CallError::Io)?;

    let mut filled = 0usize;
    let (head, start) = loop {
        let arrived = buffer.get(..filled).unwrap_or_default();
        if let Some(found) = AnswerHead::parse(arrived).map_err(CallError::Head)? {
            break found;
        }
        if !read_more(io, buffer, &mut filled)? {
            return Err(CallError::Cut);
        }
    };
    let end = match head.length {
        Length::Bytes(length) => {
            let length = usize::try_from(length).map_err(|_| CallError::TooLarge)?;
            let end = start.saturating_add(length);
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
    Ok(Answer {
        status: head.status,
        after: match head.length {
            Length::Bytes(_) => head.after,
            Length::Unsaid => After::Close,
        },
        body: buffer.get(start..end).ok_or(CallError::TooLarge)?,
    })
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

/// Room for the head of a request: its path holds a uuid.
const MAX_REQUEST_HEAD_BYTES: usize = 512;
