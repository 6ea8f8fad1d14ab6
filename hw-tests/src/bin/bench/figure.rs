//! A figure: a value, its unit, what was promised, and how it came about.

use std::fmt;

use serde_json::json;

/// One measured value.
pub(crate) struct Figure {
    /// Its name, unit included.
    pub(crate) name: &'static str,
    /// The value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// What was promised.
    pub(crate) budget: Budget,
    /// How it was measured.
    pub(crate) how: String,
}

/// What was promised.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Nothing.
    None,
}

impl Budget {
    fn keeps(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::None => None,
        }
    }
}

/// One line of JSON. Written by hand only to keep the order of the fields: each of them is escaped by `serde_json`.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit, how) = (json!(self.name), json!(self.unit), json!(self.how));
        let value = json!(rounded(self.value));
        write!(f, r#"{{"name":{name},"value":{value},"unit":{unit}"#)?;
        match self.budget {
            Budget::AtMost(most) => write!(f, r#","at_most":{}"#, json!(rounded(most)))?,
            Budget::AtLeast(least) => write!(f, r#","at_least":{}"#, json!(rounded(least)))?,
            Budget::None => {}
        }
        if let Some(within) = self.budget.keeps(self.value) {
            write!(f, r#","within":{within}"#)?;
        }
        write!(f, r#","how":{how}}}"#)
    }
}

/// The figures on standard error, for people.
pub(crate) fn show_table(figures: &[Figure]) {
    eprintln!("{:<32} {:>10} {:<6} budget", "figure", "value", "unit");
    for figure in figures {
        let promise = match figure.budget {
            Budget::AtMost(most) => format!("at most {}", rounded(most)),
            Budget::AtLeast(least) => format!("at least {}", rounded(least)),
            Budget::None => "-".to_owned(),
        };
        let verdict = match figure.budget.keeps(figure.value) {
            Some(false) => ": MISSED",
            Some(true) => ": kept",
            None => "",
        };
        let Figure {
            name, value, unit, ..
        } = figure;
        let value = rounded(*value);
        eprintln!("{name:<32} {value:>10} {unit:<6} {promise}{verdict}");
    }
}

/// The same thing measured several times.
pub(crate) struct Runs(Vec<f64>);

impl Runs {
    /// Measures `count` times.
    ///
    /// # Errors
    /// That of the measurement.
    pub(crate) fn of<E>(count: usize, measure: impl FnMut() -> Result<f64, E>) -> Result<Self, E> {
        std::iter::repeat_with(measure)
            .take(count)
            .collect::<Result<Vec<_>, E>>()
            .map(Self::from)
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least and the most.
    pub(crate) fn ends(&self) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (end(self.0.first()), end(self.0.last()))
    }
}

impl From<Vec<f64>> for Runs {
    fn from(mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        Self(runs)
    }
}

/// Says how many there were, and how far apart.
impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.ends();
        let (count, least, most) = (self.0.len(), rounded(least), rounded(most));
        write!(f, "median of {count} runs, {least} to {most}")
    }
}

/// Two digits after the point are more than two runs agree on.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
