//! Deflate through a window of 32 KiB, in memory that the caller lends.
//!
//! Output leaves in spans of up to a whole window and never exceeds the size that was announced for it.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
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
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let state = self.state.get_or_insert_with(DecompressorOxide::new);
        state.init();
        let (mut unread, mut left, mut at) = (packed, size, 0);
        // Until the window has filled once, a match that reaches before the stream's start is an error, not old bytes.
        let mut flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        loop {
            let limit = usize::try_from(left).unwrap_or(usize::MAX);
            let (status, read, written) =
                decompress_with_limit(state, unread, &mut self.window, at, limit, flags);
            let span = self.window.get(at..).and_then(|tail| tail.get(..written));
            let (Some(span), Some(rest), Some(less)) =
                (span, unread.get(read..), left.checked_sub(to_u64(written)))
            else {
                return Err(InflateError::Broken.into());
            };
            (unread, left) = (rest, less);
            at = at.saturating_add(written);
            if !span.is_empty() {
                out(span)?;
            }
            match status {
                TINFLStatus::Done => return finished(left, unread).map_err(E::from),
                TINFLStatus::HasMoreOutput if left == 0 && written == 0 => {
                    return Err(InflateError::Long { limit: size }.into());
                }
                TINFLStatus::HasMoreOutput if at == WINDOW_BYTES => (at, flags) = (0, 0),
                TINFLStatus::HasMoreOutput if left == 0 => {}
                _ => return Err(InflateError::Broken.into()),
            }
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

fn finished(missing: u64, unread: &[u8]) -> Result<(), InflateError> {
    if missing != 0 {
        Err(InflateError::Short { missing })
    } else if !unread.is_empty() {
        Err(InflateError::Trailing {
            unread: unread.len(),
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
