//! Where a payload's package says that its log begins.

use core::fmt;

use super::entry::{PREVIOUS, place};
use crate::wire::json::Value;
use crate::wire::text::LogId;

/// The file of a package that says from where on a node acts.
pub const HEAD_FILE: &str = "revocation_log.json";

/// The longest such file.
pub const MAX_HEAD_BYTES: usize = 512;

/// The entry up to which a payload knows of everything: a node acts on those after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The log.
    pub log_id: LogId,
    /// The entry's number; 0 before the first.
    pub number: u64,
    /// SHA-256 of its text; zeros for number 0.
    pub previous: [u8; 32],
}

/// Why a file says nothing of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// It is longer than [`MAX_HEAD_BYTES`].
    TooLong {
        /// Its bytes, or as many as were read.
        have: usize,
    },
    /// It isn't JSON.
    Json,
    /// A member is missing, or isn't what it should be.
    Member {
        /// Its name.
        name: &'static str,
    },
}

impl LogHead {
    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn read(bytes: &[u8]) -> Result<Self, HeadError> {
        let have = bytes.len();
        if have > MAX_HEAD_BYTES {
            return Err(HeadError::TooLong { have });
        }
        let fault = |name| HeadError::Member { name };
        let root = Value::parse(bytes).map_err(|_| HeadError::Json)?;
        let (log_id, number, previous) = place(root).map_err(fault)?;
        if number == 0 && previous != [0; 32] {
            return Err(fault(PREVIOUS));
        }
        Ok(Self {
            log_id,
            number,
            previous,
        })
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { have } => write!(out, "it has {have} bytes, {MAX_HEAD_BYTES} at most"),
            Self::Json => out.write_str("it is not JSON"),
            Self::Member { name } => write!(out, "it has no {name}, or one that can't be used"),
        }
    }
}

impl core::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn heads() {
        let log = format!("{}-{}", "ab".repeat(32), "01".repeat(8));
        let file = |number: &str, digit: &str| {
            format!(
                r#"{{"log_id": "{log}", "number": {number}, "previous": "{}"}}"#,
                digit.repeat(64)
            )
        };
        let read = |text: &str| LogHead::read(text.as_bytes());
        let head = read(&file("7", "1")).unwrap();
        assert_eq!(
            (head.log_id.as_str(), head.number, head.previous),
            (&*log, 7, [0x11; 32])
        );
        assert_eq!(read(&file("0", "0")).map(|head| head.number), Ok(0));
        let long = format!("{:>513}", file("7", "1"));
        let fault = |name| Err(HeadError::Member { name });
        for (text, wanted) in [
            (file("0", "1"), fault("previous")),
            (file("-1", "1"), fault("number")),
            (file("7", "x"), fault("previous")),
            (file("7", "1").replace("ab", "AB"), fault("log_id")),
            ("{}".into(), fault("log_id")),
            ("{".into(), Err(HeadError::Json)),
            (long, Err(HeadError::TooLong { have: 513 })),
        ] {
            assert_eq!(read(&text), wanted, "{text}");
        }
        assert!(read(&format!("{:>512}", file("7", "1"))).is_ok());
    }
}
