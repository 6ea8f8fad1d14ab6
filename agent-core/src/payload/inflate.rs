//! Deflate through a window of 32 KiB, in memory that the caller lends.
//!
//! Output leaves in spans of up to a whole window and never exceeds the size that was announced for it.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress_with_limit};
use zeroize::Zeroize;

/// How far back a match can reach, and the most bytes that leave in one span.
///
/// Source: RFC 1951 section 2.
pub const WINDOW_BYTES: usize = TINFL_LZ_DICT_SIZE;

/// Memory for inflating, about 43 KiB: make one, box it or keep it in a static, lend it for each archive.
///
/// It holds plaintext while it works; [`Inflater::wipe`] clears that, and so does dropping it.
pub struct Inflater {
    state: Option<DecompressorOxide>,
    window: [u8; WINDOW_BYTES],
}

impl Inflater {
    /// An inflater at rest.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: None,
            window: [0; WINDOW_BYTES],
        }
    }

    /// Inflates all of `packed`, which has to give exactly `size` bytes, and hands them to `out` span by span.
    ///
    /// What an earlier stream left behind has no influence. On `Err` the spans handed out so far are worth nothing.
    ///
    /// # Errors
    /// [`InflateError::Broken`], [`InflateError::Short`], [`InflateError::Long`], [`InflateError::Trailing`]: the stream
    /// isn't what was announced; `E` from `out`.
    ///
    /// # Cost
    /// Proportional to `packed` and `size` together, whatever the stream says.
    pub fn inflate<E: From<InflateError>>(
        &mut self,
        packed: &[u8],
        size: u64,
        out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut stream = self.begin(to_u64(packed.len()), size);
        stream.push(packed, out)?;
        stream.end().map_err(E::from)
    }

    /// Begins a stream that comes in pieces: `packed` bytes altogether, which have to give exactly `size`.
    ///
    /// What an earlier stream left behind has no influence.
    pub fn begin(&mut self, packed: u64, size: u64) -> Inflation<'_> {
        let Self { state, window } = self;
        let state = state.get_or_insert_with(DecompressorOxide::new);
        state.init();
        Inflation {
            state,
            window,
            at: 0,
            unread: packed,
            left: size,
            size,
            is_first_window: true,
            is_done: false,
        }
    }

    /// Overwrites what the last stream left in the window and the tables.
    pub fn wipe(&mut self) {
        self.window.zeroize();
        if let Some(state) = &mut self.state {
            *state = DecompressorOxide::new();
        }
    }
}

/// A stream that comes in pieces; see [`Inflater::begin`].
pub struct Inflation<'i> {
    state: &'i mut DecompressorOxide,
    window: &'i mut [u8; WINDOW_BYTES],
    /// Where the next span begins in the window.
    at: usize,
    /// Packed bytes that are still to come.
    unread: u64,
    /// Bytes that are still to be given.
    left: u64,
    size: u64,
    /// Until the window has filled once, a match that reaches before the stream's start is an error, not old bytes.
    is_first_window: bool,
    is_done: bool,
}

impl Inflation<'_> {
    /// Takes the next bytes of the stream and hands what they give to `out`, span by span.
    ///
    /// # Errors
    /// As [`Inflater::inflate`]. The stream is over then.
    pub fn push<E: From<InflateError>>(
        &mut self,
        mut piece: &[u8],
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let comes_more = to_u64(piece.len()) < self.unread;
        loop {
            let (status, read, written) = self.step(piece, comes_more);
            let end = self.at.saturating_add(written);
            let (Some(span), Some(rest), Some(left), Some(unread)) = (
                self.window.get(self.at..end),
                piece.get(read..),
                self.left.checked_sub(to_u64(written)),
                self.unread.checked_sub(to_u64(read)),
            ) else {
                return Err(InflateError::Broken.into());
            };
            (piece, self.left, self.unread, self.at) = (rest, left, unread, end);
            if !span.is_empty() {
                out(span)?;
            }
            match status {
                TINFLStatus::Done => {
                    self.is_done = true;
                    return finished(left, unread).map_err(E::from);
                }
                TINFLStatus::NeedsMoreInput if comes_more => return Ok(()),
                TINFLStatus::HasMoreOutput if left == 0 && written == 0 => {
                    // The stream's last bits may be in the next piece.
                    let is_open = comes_more && piece.is_empty();
                    let long = InflateError::Long { limit: self.size };
                    return if is_open { Ok(()) } else { Err(long.into()) };
                }
                TINFLStatus::HasMoreOutput if end == WINDOW_BYTES => {
                    (self.at, self.is_first_window) = (0, false);
                }
                TINFLStatus::HasMoreOutput if left == 0 => {}
                _ => return Err(InflateError::Broken.into()),
            }
        }
    }

    /// What the decompressor makes of these bytes: its status, how many it took, how many it gave.
    fn step(&mut self, piece: &[u8], comes_more: bool) -> (TINFLStatus, usize, usize) {
        let mut flags = 0;
        if self.is_first_window {
            flags |= TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        }
        if comes_more {
            flags |= TINFL_FLAG_HAS_MORE_INPUT;
        }
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX);
        decompress_with_limit(self.state, piece, self.window, self.at, limit, flags)
    }

    /// The stream is complete.
    ///
    /// # Errors
    /// [`InflateError::Broken`] if it isn't.
    pub fn end(self) -> Result<(), InflateError> {
        if self.is_done {
            Ok(())
        } else {
            Err(InflateError::Broken)
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Why a stream isn't what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InflateError {
    /// Not a deflate stream, or one that ends early.
    Broken,
    /// The stream ends before the announced size.
    Short {
        /// Bytes that are missing.
        missing: u64,
    },
    /// The stream goes on after the announced size.
    Long {
        /// The announced size.
        limit: u64,
    },
    /// The stream ends before its bytes do.
    Trailing {
        /// Packed bytes after its end.
        unread: usize,
    },
}

fn finished(missing: u64, unread: u64) -> Result<(), InflateError> {
    if missing != 0 {
        Err(InflateError::Short { missing })
    } else if unread != 0 {
        Err(InflateError::Trailing {
            unread: usize::try_from(unread).unwrap_or(usize::MAX),
        })
    } else {
        Ok(())
    }
}

/// No target has a `usize` beyond 64 bits.
fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `secret` in one block that isn't compressed.
    const PACKED: [u8; 11] = *b"\x01\x06\x00\xF9\xFFsecret";

    #[test]
    fn wiping_leaves_nothing_in_the_window() {
        let mut inflater = Inflater::new();
        let inflated = inflater.inflate(&PACKED, 6, |span| {
            assert_eq!(span, b"secret");
            Ok::<(), InflateError>(())
        });
        assert_eq!(inflated, Ok(()));
        assert!(inflater.window.starts_with(b"secret"));
        inflater.wipe();
        assert!(inflater.window.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_is_what_the_documentation_says() {
        assert!(
            size_of::<Inflater>() <= 44 * 1024,
            "{}",
            size_of::<Inflater>()
        );
    }
}
