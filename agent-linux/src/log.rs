//! The log: lines on standard error, a service manager adds the time.
//!
//! Secrets have no text form, so none can come here; what others sent is written with its control characters escaped, so
//! that it can't forge a line.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Starts logging at this level; a second call changes the level only.
pub fn start(level: LevelFilter) {
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}

/// Starts logging, with what is odd about the configuration.
pub fn begin(level: LevelFilter, warnings: &[String]) {
    start(level);
    warnings.iter().for_each(|text| log::warn!("{text}"));
}

/// A time as the log has it: seconds and thousandths. std's way is by fractions, which take tables.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0.as_secs(), self.0.subsec_millis())
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The TPM library logs each failed command as an error, also those that the agent expects and handles.
        log::max_level() == LevelFilter::Trace
            || !QUIET.iter().any(|name| metadata.target().starts_with(name))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line(prefix(record.level()).to_owned());
        let _ = write!(line, "{}", record.args());
        line.0.push('\n');
        // One write a line, so that lines of several threads don't mix; a log that can't be written is no reason to stop.
        let _ = std::io::stderr().write_all(line.0.as_bytes());
    }

    fn flush(&self) {}
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}

/// Text without control characters.
struct Line(String);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())?;
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

/// Libraries whose log isn't for the operator.
const QUIET: [&str; 2] = ["tss_esapi", "rustls"];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_time_is_in_seconds() {
        let rows = [
            (0, "0.000 s"),
            (7, "0.007 s"),
            (1_500, "1.500 s"),
            (61_000, "61.000 s"),
        ];
        for (millis, wanted) in rows {
            assert_eq!(Seconds(Duration::from_millis(millis)).to_string(), wanted);
        }
    }

    #[test]
    fn no_forged_lines() {
        let rows = [
            ("plain ä", "plain ä"),
            ("a\nerror: b", "a\\nerror: b"),
            ("\x1b[31m", "\\u{1b}[31m"),
            ("a\r", "a\\r"),
        ];
        for (text, wanted) in rows {
            let mut line = Line(String::new());
            write!(line, "{text}").unwrap();
            assert_eq!(line.0, wanted);
        }
    }
}
