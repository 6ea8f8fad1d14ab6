//! The tools for policies: each action in a file of its own, with its arguments.

use crate::cli::Tool;
use crate::error::Failure;
use crate::report::{Output, Report};

pub mod create;
pub mod diff;
pub mod explain;
pub mod lint;
pub mod next_boot;
pub mod sign;
pub mod verify;

/// Runs a tool.
///
/// # Errors
/// [`Failure`]: why it didn't happen. Findings and differences are a [`Report`] with exit code 1.
pub async fn run(tool: &Tool, output: &Output) -> Result<Report, Failure> {
    match tool {
        Tool::Create(create) => create::run(create, output).await,
        Tool::Lint(arguments) => lint::run(arguments, output),
        Tool::Diff(arguments) => diff::run(arguments, output),
        Tool::Explain(arguments) => explain::run(arguments, output).await,
        Tool::Sign(arguments) => sign::run(arguments),
        Tool::NextBoot(arguments) => next_boot::run(arguments, output).await,
        Tool::Verify(arguments) => verify::run(arguments),
    }
}
