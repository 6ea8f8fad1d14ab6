//! The logs of a boot, IMA's list and the firmware's events, as bodies carry them.
//!
//! A log isn't held in memory: it is read twice. The first time says what there is and how long the body becomes
//! ([`LineSurvey`], [`Extent::of_bytes`]), the second time exactly that part is written ([`TextWriter`], or base64). A log only
//! grows, so what comes in between is left for the next time.

mod lines;
mod members;
mod text;

pub use lines::{Extent, LineSurvey, Lines};
pub use members::{Attached, Found, LogWriter};
pub use text::TextWriter;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// IMA's measurement list: text, an entry a line. It grows.
    Ima,
    /// The firmware's event log: bytes, complete before Linux runs.
    Boot,
}
