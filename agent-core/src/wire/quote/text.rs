//! The text of a quote: `r`, then attest, signature and PCR dump, each in base64, with colons between.

use core::fmt;

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::attest::{Attest, AttestError, MAX_ATTEST_BYTES};
use super::dump::{DumpError, MAX_DUMP_BYTES, PcrDump};
use super::signature::{MAX_SIGNATURE_BYTES, Signature, SignatureError};

/// A quote ready to be written; its `Display` is the text.
#[derive(Clone, Copy, Debug)]
pub struct QuoteWriter<'a> {
    /// Marshalled `TPMS_ATTEST`.
    pub attest: &'a [u8],
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// The quoted values.
    pub dump: &'a PcrDump,
}

impl fmt::Display for QuoteWriter<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dump = [0; MAX_DUMP_BYTES];
        write!(
            out,
            "r{}:{}:{}",
            Base64Display::new(self.attest, &STANDARD),
            Base64Display::new(self.signature, &STANDARD),
            Base64Display::new(self.dump.encode(&mut dump), &STANDARD),
        )
    }
}

/// A quote that was read: its three parts are well-formed. Whether they fit each other, the key and the nonce is for the
/// caller to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteText<'a> {
    /// The bytes under the signature.
    pub attest_bytes: &'a [u8],
    /// What they say.
    pub attest: Attest<'a>,
    /// The signature.
    pub signature: Signature<'a>,
    /// The quoted values, under no signature of their own: [`PcrDump::digest`] must be `attest.pcr_digest`.
    pub dump: PcrDump,
}

/// Room for the decoded parts of a quote.
#[derive(Clone, Debug)]
pub struct QuoteBuffer {
    attest: [u8; MAX_ATTEST_BYTES],
    signature: [u8; MAX_SIGNATURE_BYTES],
    dump: [u8; MAX_DUMP_BYTES],
}

/// Why text is no quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuoteError {
    /// It doesn't begin with `r`.
    Prefix,
    /// It isn't three parts with colons between.
    Parts,
    /// A part isn't base64, or is larger than it can be.
    Base64(Part),
    /// The first part is no quote.
    Attest(AttestError),
    /// The second part is no signature.
    Signature(SignatureError),
    /// The third part is no PCR dump.
    Dump(DumpError),
}

/// A part of a quote's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The `TPMS_ATTEST`.
    Attest,
    /// The `TPMT_SIGNATURE`.
    Signature,
    /// The PCR dump.
    Dump,
}

impl Default for QuoteBuffer {
    fn default() -> Self {
        Self {
            attest: [0; MAX_ATTEST_BYTES],
            signature: [0; MAX_SIGNATURE_BYTES],
            dump: [0; MAX_DUMP_BYTES],
        }
    }
}

impl<'a> QuoteText<'a> {
    /// Reads the text, decoding into `buffer`.
    ///
    /// # Errors
    /// [`QuoteError`]: some part isn't exactly what the protocol says.
    pub fn parse(text: &str, buffer: &'a mut QuoteBuffer) -> Result<Self, QuoteError> {
        let mut parts = text.strip_prefix('r').ok_or(QuoteError::Prefix)?.split(':');
        let (Some(attest), Some(signature), Some(dump), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(QuoteError::Parts);
        };
        let attest_bytes = decode(attest, &mut buffer.attest, Part::Attest)?;
        let signature = decode(signature, &mut buffer.signature, Part::Signature)?;
        let dump = decode(dump, &mut buffer.dump, Part::Dump)?;
        Ok(Self {
            attest_bytes,
            attest: Attest::parse(attest_bytes).map_err(QuoteError::Attest)?,
            signature: Signature::parse(signature).map_err(QuoteError::Signature)?,
            dump: PcrDump::parse(dump).map_err(QuoteError::Dump)?,
        })
    }
}

fn decode<'b>(text: &str, buffer: &'b mut [u8], part: Part) -> Result<&'b [u8], QuoteError> {
    let len = STANDARD
        .decode_slice(text, buffer)
        .map_err(|_| QuoteError::Base64(part))?;
    buffer.get(..len).ok_or(QuoteError::Base64(part))
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::*;
    use crate::wire::quote::samples::{ATTEST, ECDSA, dump};
    use crate::wire::quote::{HashAlg, MAX_QUOTE_TEXT_BYTES};

    fn sample() -> heapless::String<MAX_QUOTE_TEXT_BYTES> {
        let dump = dump(&[16]);
        let quote = QuoteWriter {
            attest: &ATTEST,
            signature: &ECDSA,
            dump: &dump,
        };
        let mut text = heapless::String::new();
        write!(text, "{quote}").unwrap();
        text
    }

    #[test]
    fn round_trips() {
        let text = sample();
        let mut buffer = QuoteBuffer::default();
        let quote = QuoteText::parse(&text, &mut buffer).unwrap();
        assert_eq!(quote.attest_bytes, ATTEST);
        assert_eq!(quote.attest.extra_data, b"hxlaYl6NEVXHAWPj1jV4");
        assert_eq!(quote.signature.hash(), HashAlg::Sha256);
        assert_eq!(quote.dump, dump(&[16]));
    }

    #[test]
    fn the_largest_parts_fit_exactly() {
        let mut buffer = QuoteBuffer::default();
        let all: [u8; 24] = core::array::from_fn(|n| n as u8);
        let dump = dump(&all);
        let mut text = heapless::String::<MAX_QUOTE_TEXT_BYTES>::new();
        let attest = [0; MAX_ATTEST_BYTES];
        let signature = [0; MAX_SIGNATURE_BYTES];
        let quote = QuoteWriter {
            attest: &attest,
            signature: &signature,
            dump: &dump,
        };
        write!(text, "{quote}").unwrap();
        assert_eq!(text.len(), MAX_QUOTE_TEXT_BYTES);
        // Decoded whole, and only then found to be no attest.
        assert_eq!(
            QuoteText::parse(&text, &mut buffer),
            Err(QuoteError::Attest(AttestError::Magic { got: 0 }))
        );
    }

    #[test]
    fn every_truncation_is_refused() {
        let text = sample();
        let mut buffer = QuoteBuffer::default();
        for len in 0..text.len() {
            assert!(
                QuoteText::parse(&text[..len], &mut buffer).is_err(),
                "cut to {len}"
            );
        }
    }

    #[test]
    fn a_flip_is_refused_or_changes_the_quote() {
        let text = sample();
        let (mut one, mut two) = (QuoteBuffer::default(), QuoteBuffer::default());
        let right = QuoteText::parse(&text, &mut one).unwrap();
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes: heapless::Vec<u8, MAX_QUOTE_TEXT_BYTES> =
                    heapless::Vec::from_slice(text.as_bytes()).unwrap();
                bytes[at] ^= 1 << bit;
                let flipped = core::str::from_utf8(&bytes).unwrap();
                if let Ok(other) = QuoteText::parse(flipped, &mut two) {
                    assert_ne!(other, right, "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_are_named() {
        let cases = [
            ("", QuoteError::Prefix),
            ("d/1RD:AA==:AA==", QuoteError::Prefix),
            ("r", QuoteError::Parts),
            ("rAA==:AA==", QuoteError::Parts),
            ("rAA==:AA==:AA==:AA==", QuoteError::Parts),
            ("rAA:AA==:AA==", QuoteError::Base64(Part::Attest)),
            ("rAA==:A A=:AA==", QuoteError::Base64(Part::Signature)),
            ("rAA==:AA==:AB==", QuoteError::Base64(Part::Dump)),
        ];
        let mut buffer = QuoteBuffer::default();
        for (text, want) in cases {
            assert_eq!(QuoteText::parse(text, &mut buffer), Err(want), "{text}");
        }
    }
}
