//! The receipt: how far a payload came on its node, by the node's own word.
//!
//! A quote signs it (see [`statement`](super::statement)), so that the verifier can't make it up.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`.

use core::fmt::{self, Write};

use serde::Deserialize;

use super::json::ObjectWriter;
use super::manifest::PayloadId;
use super::text::Uuid;

/// The longest receipt, in bytes of JSON.
pub const MAX_RECEIPT_BYTES: usize = 1024;

/// The longest reason in a receipt.
pub const MAX_REASON_BYTES: usize = 200;

/// How far a payload came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Its manifest was refused, or its release.
    Refused,
    /// Manifest and sealed bytes are there and fit together; it wasn't opened.
    Received,
    /// K is there and right; it wasn't unpacked.
    Opened,
    /// Its files are in place; no script has ended.
    Unpacked,
    /// Its script has ended, or it has none to run.
    Finished,
}

impl Reached {
    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Received => "received",
            Self::Opened => "opened",
            Self::Unpacked => "unpacked",
            Self::Finished => "finished",
        }
    }

    /// The stage of a word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Refused,
            Self::Received,
            Self::Opened,
            Self::Unpacked,
            Self::Finished,
        ];
        all.into_iter().find(|stage| stage.name() == name)
    }
}

/// What a node says of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The node.
    pub agent: Uuid,
    /// The payload.
    pub payload_id: PayloadId,
    /// How far it came.
    pub reached: Reached,
    /// The script's exit code, if it ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended the script, if one did.
    pub signal: Option<i32>,
    /// Whether the script was ended at its time limit.
    pub timed_out: bool,
    /// How long the script ran, in milliseconds, if one did.
    pub duration_ms: Option<u64>,
    /// What went wrong, if something did: one line, never a secret.
    pub error: Option<heapless::String<MAX_REASON_BYTES>>,
}

/// Why bytes are no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptError {
    /// More than [`MAX_RECEIPT_BYTES`].
    TooLong {
        /// How many came.
        have: usize,
    },
    /// Not the JSON object, or a member too few, too many, twice or of another type.
    Json,
    /// A member breaks its rule.
    Member {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for ReceiptError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { have } => write!(
                out,
                "the receipt has {have} bytes, at most {MAX_RECEIPT_BYTES} are taken"
            ),
            Self::Json => out.write_str("the receipt is not the JSON object that it should be"),
            Self::Member { name } => write!(out, "the receipt's {name} breaks its rule"),
        }
    }
}

impl core::error::Error for ReceiptError {}

impl Receipt {
    /// Reads a receipt's bytes.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let have = bytes.len();
        if have > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLong { have });
        }
        let (raw, _) =
            serde_json_core::from_slice::<Raw<'_>>(bytes).map_err(|_| ReceiptError::Json)?;
        member("format", (raw.format == FORMAT).then_some(()))?;
        let error = raw.error.map(|text| member("error", line(text)));
        Ok(Self {
            agent: member("agent", Uuid::parse(raw.agent))?,
            payload_id: member("payload_id", PayloadId::parse(raw.payload_id))?,
            reached: member("stage", Reached::from_name(raw.stage))?,
            exit_code: raw.exit_code,
            signal: raw.signal,
            timed_out: raw.timed_out,
            duration_ms: raw.duration_ms,
            error: error.transpose()?,
        })
    }

    /// Writes the receipt: the bytes whose hash goes into PCR 16.
    ///
    /// # Errors
    /// The writer's: less room than [`MAX_RECEIPT_BYTES`].
    pub fn write(&self, out: &mut impl Write) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        body.number("format", FORMAT)?;
        body.text("agent", &self.agent)?;
        body.text("payload_id", self.payload_id)?;
        body.text("stage", self.reached.name())?;
        number_or_null(&mut body, "exit_code", self.exit_code)?;
        number_or_null(&mut body, "signal", self.signal)?;
        body.flag("timed_out", self.timed_out)?;
        number_or_null(&mut body, "duration_ms", self.duration_ms)?;
        body.text_or_null("error", self.error.as_ref())?;
        body.end()
    }

    /// A reason as a receipt takes it: printable ASCII in one line, cut at [`MAX_REASON_BYTES`], quotes softened.
    #[must_use]
    pub fn reason(text: impl fmt::Display) -> heapless::String<MAX_REASON_BYTES> {
        let mut reason = Reason(heapless::String::new());
        // What doesn't fit is cut.
        let _ = write!(reason, "{text}");
        reason.0
    }
}

/// Takes what is written as far as a reason's rules go.
struct Reason(heapless::String<MAX_REASON_BYTES>);

impl Write for Reason {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| {
            let letter = match letter {
                '"' | '\\' => '\'',
                ' '..='~' => letter,
                _ => '?',
            };
            self.0.push(letter).map_err(|_| fmt::Error)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'b> {
    format: u64,
    agent: &'b str,
    payload_id: &'b str,
    stage: &'b str,
    exit_code: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    duration_ms: Option<u64>,
    error: Option<&'b str>,
}

fn member<T>(name: &'static str, value: Option<T>) -> Result<T, ReceiptError> {
    value.ok_or(ReceiptError::Member { name })
}

fn line(text: &str) -> Option<heapless::String<MAX_REASON_BYTES>> {
    let plain = |letter: char| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\');
    let fits = text.chars().all(plain);
    fits.then(|| heapless::String::try_from(text).ok())?
}

fn number_or_null<W: Write>(
    body: &mut ObjectWriter<'_, W>,
    name: &str,
    value: Option<impl Into<i128>>,
) -> fmt::Result {
    match value {
        Some(value) => body.number(name, value),
        None => body.null(name),
    }
}

const FORMAT: u64 = 1;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    fn sample() -> Receipt {
        Receipt {
            agent: Uuid::parse("node-1").unwrap(),
            payload_id: PayloadId([1; 8]),
            reached: Reached::Finished,
            exit_code: Some(-1),
            signal: None,
            timed_out: false,
            duration_ms: Some(17),
            error: Some(Receipt::reason("a \"bad\"\nline")),
        }
    }

    fn text(receipt: &Receipt) -> String {
        let mut text = String::new();
        receipt.write(&mut text).unwrap();
        text
    }

    #[test]
    fn reads_what_it_writes() {
        let bare = Receipt {
            reached: Reached::Refused,
            exit_code: None,
            signal: Some(9),
            timed_out: true,
            duration_ms: None,
            error: None,
            ..sample()
        };
        for receipt in [sample(), bare] {
            assert_eq!(Receipt::parse(text(&receipt).as_bytes()), Ok(receipt));
        }
    }

    #[test]
    fn the_longest_fits() {
        let receipt = Receipt {
            agent: Uuid::parse(&"x".repeat(128)).unwrap(),
            exit_code: Some(i32::MIN),
            signal: Some(i32::MIN),
            duration_ms: Some(u64::MAX),
            error: Some(Receipt::reason("y".repeat(300))),
            ..sample()
        };
        assert!(text(&receipt).len() <= MAX_RECEIPT_BYTES);
    }

    #[test]
    fn broken_members_are_named() {
        let good = text(&sample());
        let member = |name| Err(ReceiptError::Member { name });
        for (name, from, to, expected) in [
            ("format", "\"format\":1", "\"format\":2", member("format")),
            ("stage", "finished", "done", member("stage")),
            ("escape", "a '", "a \\u0027", member("error")),
            (
                "unknown",
                "\"format\":1",
                "\"format\":1,\"x\":1",
                Err(ReceiptError::Json),
            ),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{name}");
            assert_eq!(Receipt::parse(bad.as_bytes()), expected, "{name}");
        }
    }
}
