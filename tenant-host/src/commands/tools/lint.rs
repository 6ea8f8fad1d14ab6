//! `policy lint`: what in a policy is wrong, or probably not meant.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::error::{Exit, Failure};
use crate::policy::lint::{self, Finding, Level};
use crate::policy::tool;
use crate::report::{Output, Report};

/// What is looked at.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// A runtime policy, signed or not, a tpm_policy, or a measured-boot policy.
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    let policy = tool::read_shaped(&arguments.policy)?;
    if policy.signed {
        output.say("it is signed; `policy verify` checks by whom");
    }
    let findings = lint::lint(&policy);
    let count = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let lines = findings
        .iter()
        .map(|Finding { level, rule, text }| format!("{}: {text} [{rule}]", level.name()));
    let lines: Vec<_> = lines.collect();
    let summary = format!(
        "{}, a {}: {errors} errors, {warnings} warnings",
        arguments.policy.display(),
        policy.kind
    );
    let json = json!({
        "kind": policy.kind.noun(),
        "signed": policy.signed,
        "errors": errors,
        "warnings": warnings,
        "findings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
    });
    if errors == 0 {
        let text = lines.into_iter().chain([summary]).collect::<Vec<_>>();
        return Ok(Report::done(text.join("\n"), json));
    }
    output.print(&lines.join("\n"))?;
    Ok(Report {
        exit: Exit::Other,
        text: summary,
        json,
    })
}
