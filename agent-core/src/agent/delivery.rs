//! How far the newest payload has come, as its tenant is told.

use core::fmt::{self, Display, Write};

use crate::wire::json::ObjectWriter;
use crate::wire::text::Hex;

/// How much of a script's output is kept for the tenant; the log has more.
pub const OUTPUT_TAIL_BYTES: usize = 1024;

/// The longest reason that is kept.
const MAX_REASON_BYTES: usize = 256;

/// Which delivery: a later one has a larger number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryNumber(u32);

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptReport {
    /// The end.
    pub end: ScriptEnd,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// The last of its output, for a configuration that lets the tenant see it.
    pub output_tail: Option<Clipped<OUTPUT_TAIL_BYTES>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// It returned.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal killed it.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// It took longer than it was given, and was killed.
    TimedOut,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has come.
    #[default]
    Waiting,
    /// U has come, and the payload if there is one.
    Received,
    /// The payload is decrypted.
    Opened,
    /// Its files are in place; its script may run.
    Unpacked,
    /// All is done; the script says how it went.
    Finished,
    /// It ended before its script did.
    Failed,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Received => "received",
            Self::Opened => "opened",
            Self::Unpacked => "unpacked",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// The newest delivery.
#[derive(Default)]
pub(super) struct Delivery {
    number: DeliveryNumber,
    stage: Stage,
    sha256: Option<[u8; 32]>,
    script: Option<ScriptReport>,
    reason: Option<Clipped<MAX_REASON_BYTES>>,
}

impl Delivery {
    /// A new one is here.
    pub(super) fn receive(&mut self, sha256: Option<[u8; 32]>) {
        *self = Self {
            number: DeliveryNumber(self.number.0.wrapping_add(1)),
            stage: Stage::Received,
            sha256,
            script: None,
            reason: None,
        };
    }

    pub(super) const fn number(&self) -> DeliveryNumber {
        self.number
    }

    /// Whether the shell is at work on it: from the open payload to the script's end.
    pub(super) const fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Opened | Stage::Unpacked)
    }

    pub(super) fn reach(&mut self, stage: Stage) {
        self.stage = stage;
    }

    pub(super) fn finish(&mut self, script: Option<ScriptReport>) {
        (self.stage, self.script) = (Stage::Finished, script);
    }

    pub(super) fn fail(&mut self, reason: impl Display) {
        (self.stage, self.reason) = (Stage::Failed, Some(Clipped::head(reason)));
    }

    /// The results of the outcome route.
    pub(super) fn write(&self, results: &mut ObjectWriter<'_, impl Write + ?Sized>) -> fmt::Result {
        let sha256 = self.sha256.as_ref().map(|digest| Hex(digest));
        results.text_or_null("sealed_sha256", sha256)?;
        results.text("stage", self.stage.name())?;
        match &self.script {
            None => results.null("script")?,
            Some(report) => {
                let mut script = results.object("script")?;
                match report.end {
                    ScriptEnd::Exited { code } => script.number("exit_code", code)?,
                    ScriptEnd::Killed { signal } => script.number("signal", signal)?,
                    ScriptEnd::TimedOut => script.flag("timed_out", true)?,
                }
                script.number("duration_ms", report.duration_ms)?;
                if let Some(tail) = &report.output_tail {
                    script.text("output_tail", tail)?;
                }
                script.end()?;
            }
        }
        results.text_or_null("error", self.reason.as_ref())
    }
}

/// A text of at most `N` bytes: what doesn't fit is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clipped<const N: usize>(heapless::String<N>);

impl<const N: usize> Clipped<N> {
    /// The beginning of the text.
    pub fn head(text: impl Display) -> Self {
        let mut clipped = Self::default();
        // Full is no error here.
        let _ = write!(clipped, "{text}");
        clipped
    }

    /// The end of the text.
    #[must_use]
    pub fn tail(text: &str) -> Self {
        let from = text.len().saturating_sub(N);
        let fits = (from..=text.len()).find_map(|start| text.get(start..));
        Self::head(fits.unwrap_or_default())
    }
}

impl<const N: usize> Write for Clipped<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.0.push(letter).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

impl<const N: usize> Display for Clipped<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(delivery: &Delivery) -> heapless::String<512> {
        let mut out = heapless::String::new();
        let mut results = ObjectWriter::begin(&mut out).unwrap();
        delivery.write(&mut results).unwrap();
        results.end().unwrap();
        out
    }

    #[test]
    fn outcomes() {
        let mut delivery = Delivery::default();
        let nothing = r#"{"sealed_sha256":null,"stage":"waiting","script":null,"error":null}"#;
        assert_eq!(written(&delivery), nothing);

        delivery.receive(None);
        delivery.reach(Stage::Opened);
        assert!(delivery.is_under_way());
        delivery.fail("no room");
        let failed = r#"{"sealed_sha256":null,"stage":"failed","script":null,"error":"no room"}"#;
        assert_eq!(written(&delivery), failed);

        delivery.receive(None);
        let cases = [
            (ScriptEnd::Exited { code: 3 }, r#""exit_code":3"#),
            (ScriptEnd::Killed { signal: 9 }, r#""signal":9"#),
            (ScriptEnd::TimedOut, r#""timed_out":true"#),
        ];
        for (end, want) in cases {
            delivery.finish(Some(ScriptReport {
                end,
                duration_ms: 7,
                output_tail: Some(Clipped::tail("a\"")),
            }));
            let text = written(&delivery);
            assert!(text.contains(r#""stage":"finished""#), "{text}");
            assert!(text.contains(want), "{text}");
            assert!(
                text.contains(r#""duration_ms":7,"output_tail":"a\"""#),
                "{text}"
            );
        }
        assert!(!delivery.is_under_way());
    }

    #[test]
    fn clips_between_letters() {
        assert_eq!(Clipped::<4>::head("abéc").0, "abé");
        assert_eq!(Clipped::<3>::head("abéc").0, "ab");
        assert_eq!(Clipped::<3>::tail("abéc").0, "éc");
        assert_eq!(Clipped::<2>::tail("abéc").0, "c");
        assert_eq!(Clipped::<9>::tail("abéc").0, "abéc");
    }
}
