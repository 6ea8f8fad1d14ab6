//! What the agent is told: flags first, then environment variables, then a TOML file, then defaults.
//!
//! One table (in `options`) names each option once: its flag, its variables, its key in the file, its default, its help.

mod file;
mod help;
mod options;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::wire::quote::{HashAlg, SignAlg};
use log::LevelFilter;

use crate::identity::UuidMode;
use crate::tpm::tss::TctiName;
pub use file::FileFault;
pub use help::help;
use options::{OPTIONS, Settings};

/// The agent's configuration, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the agent's identifier comes from.
    pub uuid: UuidMode,
    /// The address to listen on, and no other.
    pub ip: IpAddr,
    /// The port to listen on.
    pub port: u16,
    /// The address that others are told to use: an IP address or a host name.
    pub contact_ip: String,
    /// The port that others are told to use.
    pub contact_port: u16,
    /// The registrar's address.
    pub registrar_ip: String,
    /// The registrar's port for agents, plain HTTP.
    pub registrar_port: u16,
    /// The directory with `secure/` in it.
    pub keylime_dir: PathBuf,
    /// A PEM file of the authorities whose clients may talk to the agent.
    pub trusted_client_ca: PathBuf,
    /// The one certificate whose owner may deliver key halves and payloads; any trusted client if there is none.
    pub tenant_cert: Option<PathBuf>,
    /// The TPM.
    pub tcti: TctiName,
    /// The PCR bank, and the hash of the attestation key's signatures.
    pub tpm_hash_alg: HashAlg,
    /// The attestation key's scheme.
    pub tpm_signing_alg: SignAlg,
    /// The landing zone's size in bytes.
    pub secure_size: u64,
    /// The largest sealed payload in bytes.
    pub max_payload_size: usize,
    /// The script in the payload to run, relative to the payload; none runs nothing.
    pub payload_script: Option<String>,
    /// How long it may run.
    pub payload_script_timeout: Duration,
    /// Whether the end of the script's output may be told to the tenant and to the log.
    pub report_script_output: bool,
    /// The node's actions for a revocation notice, as given: names with commas between them.
    pub revocation_actions: String,
    /// The directory of the node's actions.
    pub revocation_actions_dir: PathBuf,
    /// Whether a payload may bring actions of its own.
    pub allow_payload_revocation_actions: bool,
    /// The notifier's certificate; the payload's `RevocationNotifier-cert.crt` if there is none.
    pub revocation_cert: Option<PathBuf>,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Keylime's pull model: listen, attest, receive. With what is odd about the configuration but no error, to be logged.
    Serve(Box<Config>, Vec<String>),
    /// Print [`help`].
    Help,
    /// Print the version.
    Version,
}

impl Invocation {
    /// Reads the command line, the environment (through `variable`) and the file that they name.
    ///
    /// # Errors
    /// [`ConfigError`], which names the option, where its value came from, and what it may be.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let given = match CommandLine::read(arguments)? {
            CommandLine::Help => return Ok(Self::Help),
            CommandLine::Version => return Ok(Self::Version),
            CommandLine::Serve(given) => given,
        };
        let mut warnings = Vec::new();
        let mut found = given;
        for option in OPTIONS {
            let set = |name: String| variable(&name).map(|value| (value, Source::Variable(name)));
            if let Some(value) = option.variables().find_map(set) {
                found.entry(option.key).or_insert(value);
            }
        }
        if let Some((path, _)) = found.get(CONFIG) {
            let path = PathBuf::from(path);
            for (key, value) in file::read(&path, &mut warnings)? {
                found
                    .entry(key)
                    .or_insert((value, Source::File(path.clone())));
            }
        }
        let config = Settings::new(found).finish()?;
        Ok(Self::Serve(Box::new(config), warnings))
    }
}

/// Values by the option's key, each with its source.
type Found = BTreeMap<&'static str, (String, Source)>;

enum CommandLine {
    Serve(Found),
    Help,
    Version,
}

impl CommandLine {
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut found = Found::new();
        let mut command = None;
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(Self::Help),
                lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => return Ok(Self::Version),
                lexopt::Arg::Long(flag) => {
                    let option = OPTIONS.iter().find(|option| option.flag() == flag);
                    let option = option.ok_or_else(|| ConfigError::UnknownFlag(flag.to_owned()))?;
                    let value = match parser.optional_value() {
                        Some(value) => value,
                        None if option.is_switch() => "true".into(),
                        None => parser.value()?,
                    };
                    let value = value
                        .into_string()
                        .map_err(lexopt::Error::NonUnicodeValue)?;
                    found.insert(option.key, (value, Source::Flag));
                }
                lexopt::Arg::Value(word) if command.is_none() => command = Some(word),
                other => return Err(other.unexpected().into()),
            }
        }
        match command {
            Some(word) if word == "serve" => Ok(Self::Serve(found)),
            Some(word) => Err(ConfigError::UnknownCommand(
                word.to_string_lossy().into_owned(),
            )),
            None => Err(ConfigError::NoCommand),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Variable(String),
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
                write!(f, "there is no command {word:?}; write keyhalf-agent serve")
            }
            Self::NoCommand => f.write_str(
                "no command is given; write keyhalf-agent serve, or see keyhalf-agent --help",
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
                    Source::File(path) => write!(f, "{option} = {value:?} in {}", path.display())?,
                    Source::Default => write!(f, "{option}, of which the default is {value:?},")?,
                }
                write!(f, " can't be used: {wanted}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The key of the option that names the file.
const CONFIG: &str = "config";
