//! What is printed: the result on standard output, everything said on the way on standard error.
//!
//! With `--json` standard output gets exactly one JSON document, also when the command fails.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::error::{Exit, Failure};

/// How often the progress line moves.
const TICK: Duration = Duration::from_millis(100);

/// A wait that is shorter isn't worth a progress line.
const SHOW_AFTER: Duration = Duration::from_millis(300);

/// What a command ends with.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the program ends.
    pub exit: Exit,
    /// The result for people.
    pub text: String,
    /// The result for programs.
    pub json: Value,
}

impl Report {
    /// A result of something that happened.
    #[must_use]
    pub fn done(text: impl Into<String>, json: Value) -> Self {
        Self {
            exit: Exit::Done,
            text: text.into(),
            json,
        }
    }
}

/// Where output goes.
pub struct Output {
    json: bool,
    terminal: bool,
}

impl Output {
    /// Output for people, or with one JSON document on standard output.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Says something on the way.
    pub fn say(&self, text: &str) {
        // Nobody may be reading standard error; that is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Prints what a report with another exit code than 0 has to show, unless a program reads along: it gets the report.
    ///
    /// # Errors
    /// [`Failure::Output`] if standard output can't be written.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match self.json {
            true => Ok(()),
            false => writeln!(stdout, "{text}").map_err(Failure::Output),
        }
    }

    /// A progress line, shown where standard error is a terminal.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            enabled: self.terminal,
            bar: None,
        }
    }

    /// Prints the result.
    ///
    /// # Errors
    /// [`Failure::Output`] if standard output can't be written.
    pub fn finish(&self, report: &Report) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let failed = report.exit != Exit::Done;
        if failed {
            self.say(&format!("keyhalf-tenant: {}", report.text));
        }
        let written = match self.json {
            true => writeln!(stdout, "{}", report.json),
            false if failed => Ok(()),
            false => writeln!(stdout, "{}", report.text),
        };
        written
            .and_then(|()| stdout.flush())
            .map_err(Failure::Output)
    }

    /// Prints why the command failed.
    pub fn fail(&self, failure: &Failure) {
        self.say(&format!("keyhalf-tenant: {failure}"));
        self.fail_silently(&failure.to_string(), failure.exit());
    }

    /// Tells programs alone why the command failed.
    pub fn fail_silently(&self, error: &str, exit: Exit) {
        if self.json {
            let document = json!({ "error": error, "exit_code": exit as u8 });
            // The exit code tells it too, if nobody reads this.
            let _ = writeln!(io::stdout(), "{document}");
        }
    }
}

/// A line that shows that something is waited for. It appears only if the wait is long, and goes when it is dropped.
pub struct Progress {
    enabled: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows what is waited for, and for how long now.
    pub fn show(&mut self, text: &str, waited: Duration) {
        if !self.enabled || waited < SHOW_AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(format!("{text} ({} s)", waited.as_secs()));
    }
}

impl Progress {
    /// Shows how far a transfer is.
    pub fn show_bytes(&mut self, text: &str, done: u64, all: u64, waited: Duration) {
        const MIB: u64 = 1 << 20;
        if all >= MIB {
            self.show(
                &format!("{text}: {} of {} MiB", done / MIB, all.div_ceil(MIB)),
                waited,
            );
        } else {
            self.show(text, waited);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
