//! What is wrong with a configuration, and where it came from.

use std::fmt;
use std::path::PathBuf;

use super::Command;
use super::file::FileFault;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Variable(String),
    /// The kernel's command line.
    KernelCommandLine,
    /// This file.
    File(PathBuf),
    /// Nobody gave one.
    Default,
}

/// What is wrong with the configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The command line can't be read.
    CommandLine(lexopt::Error),
    /// There is no such flag.
    UnknownFlag(String),
    /// There is no such command.
    UnknownCommand(String),
    /// This build doesn't have that command.
    NotBuilt(Command),
    /// The command doesn't take the flag.
    NotForCommand {
        /// The flag.
        flag: String,
        /// The command.
        command: Command,
    },
    /// No command is given.
    NoCommand,
    /// The file can't be used.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: FileFault,
    },
    /// A value isn't one that its option takes.
    Value {
        /// The option's key.
        option: &'static str,
        /// The value given.
        value: String,
        /// Where it came from.
        source: Source,
        /// What it must be.
        wanted: String,
    },
    /// A key of Keylime's asks for what this agent won't do. The value, which may be a password, isn't told.
    Refused {
        /// The key.
        key: &'static str,
        /// The value that is no error.
        default: &'static str,
        /// Where the other one came from.
        source: Source,
        /// Why not.
        reason: &'static str,
    },
}

impl From<lexopt::Error> for ConfigError {
    fn from(error: lexopt::Error) -> Self {
        Self::CommandLine(error)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine(error) => write!(f, "{error}; see keyhalf-agent --help"),
            Self::UnknownFlag(flag) => {
                write!(f, "there is no option --{flag}; see keyhalf-agent --help")
            }
            Self::UnknownCommand(word) => {
                write!(f, "there is no command {word:?}; see keyhalf-agent --help")
            }
            Self::NotBuilt(command) => write!(
                f,
                "this program was built without {}; another build of it has that",
                command.name()
            ),
            Self::NotForCommand { flag, command } => {
                let command = command.name();
                write!(f, "{command} takes no --{flag}; see keyhalf-agent {command} --help")
            }
            Self::NoCommand => f.write_str(
                "no command is given; write keyhalf-agent serve, for example, or see keyhalf-agent --help",
            ),
            Self::File { path, reason } => {
                write!(f, "configuration file {}: {reason}", path.display())
            }
            Self::Value {
                option,
                value,
                source,
                wanted,
            } => {
                match source {
                    Source::Flag => write!(f, "--{} {value:?}", option.replace('_', "-"))?,
                    Source::Variable(name) => write!(f, "{name}={value:?} in the environment")?,
                    Source::KernelCommandLine => {
                        write!(f, "keyhalf.{option}={value:?} on the kernel command line")?
                    }
                    Source::File(path) => write!(f, "{option} = {value:?} in {}", path.display())?,
                    Source::Default => write!(f, "{option}, of which the default is {value:?},")?,
                }
                write!(f, " can't be used: {wanted}")
            }
            Self::Refused {
                key,
                default,
                source,
                reason,
            } => {
                match source {
                    Source::Variable(name) => write!(f, "{name} in the environment")?,
                    Source::File(path) => write!(f, "{key} in {}", path.display())?,
                    Source::Flag | Source::KernelCommandLine | Source::Default => {
                        write!(f, "{key}")?
                    },
                }
                write!(f, " must be {default:?}, its default: {reason}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
