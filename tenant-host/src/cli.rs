//! Arguments, configuration, and which command runs.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

mod args;
mod argv;
mod ca;
mod command;
mod policies;
mod prompt;
mod push;
mod revocation;
mod settings;
mod sources;
mod tools;

pub use args::{Arguments, PayloadSource};
pub use ca::{CaArguments, CaTool, Place};
pub use command::{Command, PolicyAction};
pub use policies::PolicyArguments;
pub use prompt::PromptError;
pub(crate) use prompt::{ask, ask_twice, can_ask};
pub use push::PushArguments;
pub use revocation::RevocationArguments;
pub use settings::{Settings, SettingsError};
pub(crate) use tools::node_arguments;
pub use tools::{Tool, ToolArguments};

use crate::commands;
use crate::error::{Exit, Failure};
use crate::policy::NameError;
use crate::report::{Output, Report};

/// What is wrong with the command line, beyond what the parser of arguments sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// An option of Keylime's tenant that has another way here.
    #[error("{option} isn't taken: {instead}")]
    Instead {
        /// The option.
        option: &'static str,
        /// What to use instead.
        instead: &'static str,
    },
    /// A command that doesn't exist.
    #[error("there is no command {name:?}. Commands: {}", Command::names().collect::<Vec<_>>().join(", "))]
    UnknownCommand {
        /// What was given.
        name: String,
    },
    /// Neither `-u` nor `-t`.
    #[error("which node? Give its address with -t, or its identifier with -u")]
    NoNode,
    /// The identifier isn't one.
    #[error("{text:?} is no agent identifier: 1 to 128 letters, digits, `_`, `.` or `-`")]
    BadUuid {
        /// What was given.
        text: String,
    },
    /// Two options that exclude each other.
    #[error("{0} and {1} exclude each other: give one of them")]
    Both(&'static str, &'static str),
    /// An option without the one it needs.
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
    /// The API version isn't one.
    #[error("--agent-api-version {text:?}: versions 2.1 to 2.6 are known")]
    BadVersion {
        /// What was given.
        text: String,
    },
    /// `--ek-hash` isn't a hash.
    #[error(
        "--ek-hash wants 64 hexadecimal digits: the SHA-256 of the EK as an agent with uuid = hash_ek is called"
    )]
    BadHash,
    /// `--runtime-policy-checksum` isn't one.
    #[error(
        "--runtime-policy-checksum wants 64 hexadecimal digits: the SHA-256 of the policy's bytes"
    )]
    BadChecksum,
    /// A span of time isn't one.
    #[error("{option} {text:?}: a number with s, m, h, d or w, such as 12h, up to ten years")]
    BadSpan {
        /// The option.
        option: &'static str,
        /// What was given.
        text: String,
    },
    /// The name of a group.
    #[error("--group {text:?}: 1 to 64 letters, digits, `_`, `.` or `-`")]
    BadGroup {
        /// What was given.
        text: String,
    },
    /// Why a node is revoked.
    #[error("--reason wants one sentence, of 1 to 512 characters on one line")]
    BadReason,
    /// Options after `--`.
    #[error("the options after `--`: {0}")]
    Options(String),
    /// The terms of a deposit.
    #[error(transparent)]
    Terms(#[from] crate::deposit::terms::TermsError),
    /// An option that a command or model doesn't take.
    #[error("{option} isn't taken here: {instead}")]
    NotHere {
        /// The option.
        option: &'static str,
        /// What to use instead.
        instead: &'static str,
    },
    /// The name of a policy isn't one.
    #[error(transparent)]
    BadName(#[from] NameError),
}

/// Runs the program: parses, acts, prints. Returns the exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let wants_json = argv.iter().any(|word| word == "--json");
    let output = Output::new(wants_json);
    if let Some(words) = tools::words(&argv, tools::WORD) {
        return match ToolArguments::try_parse_from(words) {
            Ok(arguments) => end(execute_tool(&arguments, &output), &output),
            Err(error) => refuse_arguments(&error, &output),
        };
    }
    if let Some(words) = tools::words(&argv, ca::WORD) {
        return match CaArguments::try_parse_from(words) {
            Ok(arguments) => end(execute_ca(&arguments, &output), &output),
            Err(error) => refuse_arguments(&error, &output),
        };
    }
    let argv = argv::expand(argv);
    let result = match argv::refuse_replaced(&argv) {
        Ok(()) => match Arguments::try_parse_from(argv) {
            Ok(arguments) => execute(&arguments, &output),
            Err(error) => return refuse_arguments(&error, &output),
        },
        Err(error) => Err(error.into()),
    };
    end(result, &output)
}

/// Prints what came of it.
fn end(result: Result<Report, Failure>, output: &Output) -> ExitCode {
    let exit = match result.and_then(|report| output.finish(&report).map(|()| report.exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            output.fail(&failure);
            failure.exit()
        }
    };
    exit.into()
}

/// Help and version are errors of the parser too; it knows where each is printed.
fn refuse_arguments(error: &clap::Error, output: &Output) -> ExitCode {
    // Nobody may be reading; the exit code tells it too.
    let _ = error.print();
    if error.use_stderr() {
        output.fail_silently(&error.kind().to_string(), Exit::Usage);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

fn execute(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    verifier_host::memory::keep_private().map_err(Failure::Memory)?;
    let command = Command::parse(arguments.command_name())?;
    arguments
        .deprecated()
        .iter()
        .for_each(|warning| output.say(warning));
    let settings = Arc::new(Settings::read(arguments)?);
    runtime()?.block_on(commands::run(command, arguments, &settings, output))
}

fn execute_tool(arguments: &ToolArguments, output: &Output) -> Result<Report, Failure> {
    verifier_host::memory::keep_private().map_err(Failure::Memory)?;
    runtime()?.block_on(commands::tools::run(&arguments.tool, output))
}

fn execute_ca(arguments: &CaArguments, output: &Output) -> Result<Report, Failure> {
    verifier_host::memory::keep_private().map_err(Failure::Memory)?;
    runtime()?.block_on(commands::ca::run(&arguments.tool, output))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Output)
}
