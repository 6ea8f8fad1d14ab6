//! `policy diff`: what two policies of one kind differ in.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Exit, Failure};
use crate::policy::diff::{self, Change, Fate};
use crate::policy::tool::{self, ToolError};
use crate::report::{Output, Report};

/// What is compared.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The older policy.
    #[arg(value_name = "A")]
    pub first: PathBuf,

    /// The newer policy, of the same kind.
    #[arg(value_name = "B")]
    pub second: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    let first = tool::read_shaped(&arguments.first)?;
    let second = tool::read_shaped(&arguments.second)?;
    let changes = diff::compare(&first, &second).map_err(ToolError::from)?;
    let count = |fate| changes.iter().filter(|change| change.fate == fate).count();
    let (added, removed, changed) = (
        count(Fate::Added),
        count(Fate::Removed),
        count(Fate::Changed),
    );
    let json = json!({
        "kind": first.kind.noun(),
        "same": changes.is_empty(),
        "added": listed(&changes, Fate::Added),
        "removed": listed(&changes, Fate::Removed),
        "changed": listed(&changes, Fate::Changed),
    });
    if changes.is_empty() {
        return Ok(Report::done("the policies are the same", json));
    }
    let lines: Vec<_> = changes.iter().map(line).collect();
    output.print(&lines.join("\n"))?;
    let text = format!("the policies differ: {added} added, {removed} removed, {changed} changed");
    Ok(Report {
        exit: Exit::Other,
        text,
        json,
    })
}

fn listed(changes: &[Change], fate: Fate) -> Vec<Value> {
    let chosen = changes.iter().filter(|change| change.fate == fate);
    let json = |change: &Change| json!({ "part": change.part, "name": change.name, "removed": change.removed, "added": change.added });
    chosen.map(json).collect()
}

fn line(change: &Change) -> String {
    let sign = match change.fate {
        Fate::Added => '+',
        Fate::Removed => '-',
        Fate::Changed => '~',
    };
    let values = match change.fate {
        Fate::Added => change.added.join(" "),
        Fate::Removed => change.removed.join(" "),
        Fate::Changed => {
            let removed = change.removed.iter().map(|value| format!("-{value}"));
            let added = change.added.iter().map(|value| format!("+{value}"));
            removed.chain(added).collect::<Vec<_>>().join(" ")
        }
    };
    format!("{sign} {} {} {values}", change.part, change.name)
        .trim_end()
        .to_owned()
}
