//! A log's text in a JSON string.

use core::fmt::{self, Write};

/// Turns bytes into text as they come, in pieces of any size.
///
/// A file's name can be of any bytes, while JSON is UTF-8: what isn't becomes U+FFFD. That line then fits neither its hash nor the
/// PCR any more, so it fails and can't pass as another.
#[derive(Debug, Default)]
pub struct TextWriter {
    /// The beginning of a character whose rest hasn't come.
    open: heapless::Vec<u8, 4>,
}

impl TextWriter {
    /// Writes what is complete. A line's end completes all before it.
    ///
    /// # Errors
    /// The writer's.
    pub fn feed(&mut self, bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
        let mut rest = bytes;
        while !self.open.is_empty()
            && let Some((first, later)) = rest.split_first()
        {
            // One byte at a time: the longest character has four.
            let _ = self.open.push(*first);
            rest = later;
            self.settle(out)?;
        }
        for chunk in rest.utf8_chunks() {
            if !self.open.is_empty() {
                // What follows has no part in it.
                self.open.clear();
                out.write_char(char::REPLACEMENT_CHARACTER)?;
            }
            out.write_str(chunk.valid())?;
            self.open = heapless::Vec::from_slice(chunk.invalid()).unwrap_or_default();
            self.settle(out)?;
        }
        Ok(())
    }

    /// Writes what is decided of the open character.
    fn settle(&mut self, out: &mut dyn Write) -> fmt::Result {
        while !self.open.is_empty() {
            let bad = match core::str::from_utf8(&self.open) {
                Ok(text) => {
                    out.write_str(text)?;
                    self.open.clear();
                    return Ok(());
                }
                Err(error) => error.error_len(),
            };
            let Some(bad) = bad else {
                return Ok(());
            };
            out.write_char(char::REPLACEMENT_CHARACTER)?;
            let rest = self.open.get(bad..).unwrap_or_default();
            self.open = heapless::Vec::from_slice(rest).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    #[test]
    fn pieces_make_no_difference() {
        let rows: [(&[u8], &str); 9] = [
            (b"plain\n", "plain\n"),
            (
                "gr\u{fc}n \u{20ac} \u{1f600}\n".as_bytes(),
                "gr\u{fc}n \u{20ac} \u{1f600}\n",
            ),
            (b"\xff\n", "\u{fffd}\n"),
            (b"a\xe2\x82b\n", "a\u{fffd}b\n"),
            (b"\xe2\xe2\x82\xac\n", "\u{fffd}\u{20ac}\n"),
            (b"\xf0\x90\n", "\u{fffd}\n"),
            (b"\xed\xa0\x80\n", "\u{fffd}\u{fffd}\u{fffd}\n"),
            (b"\xc3\xff\xc3\xa4\n", "\u{fffd}\u{fffd}\u{e4}\n"),
            (b"\x80\x80\n", "\u{fffd}\u{fffd}\n"),
        ];
        for (bytes, want) in rows {
            assert_eq!(String::from_utf8_lossy(bytes), want);
            for size in 1..=bytes.len() {
                let (mut writer, mut text) = (TextWriter::default(), String::new());
                for piece in bytes.chunks(size) {
                    writer.feed(piece, &mut text).unwrap();
                }
                assert_eq!(text, want, "{bytes:x?} by {size}");
                assert!(writer.open.is_empty());
            }
        }
    }
}
