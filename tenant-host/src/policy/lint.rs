//! What in a policy is wrong, or probably not meant.
//!
//! An error is a policy that a verifier refuses, or one that lets everything or nothing pass. A warning is worth a look.

use agent_core::wire::quote::PcrMask;
use serde_json::{Value, json};
use verifier_host::policy::measured_boot::MeasuredBootPolicy;

use super::kind::{Kind, Shaped};

mod expression;
mod runtime;
mod tpm;

/// How many names a finding quotes.
const QUOTED: usize = 3;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The policy can't be used, or is no protection.
    Error,
    /// It may be meant.
    Warning,
}

impl Level {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The rule's name, for scripts.
    pub rule: &'static str,
    /// What it is, and what to do.
    pub text: String,
}

impl Finding {
    fn error(rule: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            rule,
            text: text.into(),
        }
    }

    fn warning(rule: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            rule,
            text: text.into(),
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "level": self.level.name(), "rule": self.rule, "text": self.text })
    }
}

/// Looks at a policy. Errors come first.
#[must_use]
pub fn lint(policy: &Shaped) -> Vec<Finding> {
    let mut findings = match policy.kind {
        Kind::Runtime => runtime::lint(&policy.bytes),
        Kind::Tpm => tpm::lint(&policy.bytes),
        Kind::MeasuredBoot => measured_boot(&policy.bytes),
    };
    findings.sort_by_key(|finding| finding.level);
    findings
}

fn measured_boot(bytes: &[u8]) -> Vec<Finding> {
    match MeasuredBootPolicy::read(bytes) {
        Ok(MeasuredBootPolicy::Nothing) => vec![Finding::error(
            "empty",
            "it says nothing: every boot passes, and no PCR is looked at",
        )],
        Ok(policy) if policy.pcrs() == PcrMask::EMPTY => vec![Finding::warning(
            "no-pcr",
            "it judges no PCR: the quote proves nothing of the log",
        )],
        Ok(_) => Vec::new(),
        Err(error) => vec![Finding::error(
            "unreadable",
            format!("no verifier takes it: {error}"),
        )],
    }
}

/// The first of some names, and how many more there are.
fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<_> = names.by_ref().take(QUOTED).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
