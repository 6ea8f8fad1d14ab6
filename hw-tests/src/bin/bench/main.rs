//! The figures that this project promises: one JSON object a line on standard output, a table on standard error.
//!
//! `./hw-tests/bench` builds the programs with optimisation and runs this. Figures that miss their budget are marked, and
//! don't fail: only what couldn't be measured does.

mod open;
mod whole;

use std::process::ExitCode;
use std::time::Duration;

use hw_tests::Result;
use serde_json::json;

/// One measured value and what was promised.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    budget: Budget,
    how: String,
}

/// What was promised.
#[derive(Clone, Copy)]
enum Budget {
    AtMost(f64),
    AtLeast(f64),
    None,
}

fn main() -> ExitCode {
    let parts: [fn() -> Result<Vec<Figure>>; 2] = [open::figures, whole::figures];
    let mut measured = Vec::new();
    let mut complete = true;
    for part in parts {
        match part() {
            Ok(figures) => measured.extend(figures),
            Err(error) => {
                eprintln!("could not measure: {error}");
                complete = false;
            }
        }
    }
    for Figure {
        name,
        value,
        unit,
        how,
        ..
    } in &measured
    {
        println!(
            "{}",
            json!({ "name": name, "value": value, "unit": unit, "how": how })
        );
    }
    eprintln!("{:<34} {:>10} {:<7} budget", "figure", "value", "unit");
    for figure in &measured {
        let Figure {
            name, value, unit, ..
        } = figure;
        eprintln!("{name:<34} {value:>10} {unit:<7} {}", figure.verdict());
    }
    if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Figure {
    fn verdict(&self) -> String {
        let (promise, kept) = match self.budget {
            Budget::AtMost(most) => (format!("at most {most}"), self.value <= most),
            Budget::AtLeast(least) => (format!("at least {least}"), self.value >= least),
            Budget::None => return "-".to_owned(),
        };
        if kept {
            promise
        } else {
            format!("{promise}: MISSED")
        }
    }
}

/// The middle one of several runs.
fn median(mut runs: Vec<Duration>) -> Duration {
    runs.sort();
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

/// Two digits after the point are more than runs agree on.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
