//! The tools for policies: each action in a file of its own, with its arguments.

use crate::cli::Tool;
use crate::error::Failure;
use crate::report::{Output, Report};

pub mod next_boot;
pub mod verify;

/// Runs a tool.
///
/// # Errors
/// [`Failure`]: why it didn't happen. Findings and differences are a [`Report`] with exit code 1.
pub async fn run(tool: &Tool, output: &Output) -> Result<Report, Failure> {
    match tool {
        Tool::NextBoot(arguments) => next_boot::run(arguments, output),
        Tool::Verify(arguments) => verify::run(arguments),
    }
}
