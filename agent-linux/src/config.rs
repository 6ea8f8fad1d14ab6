//! What the agent is told: flags first, then environment variables, then TOML files, then defaults.
//!
//! One table (in `options`) names each option once: its flag, its variables, its key in the file, its default, its help.
//! Another (in `keylime`) says what becomes of each key of Keylime's agent.conf. What flags, variables and files say is put
//! together first and judged then, so that a value that another one overrides does no harm.

mod error;
mod file;
mod help;
mod keylime;
mod options;
mod settings;
mod tables;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "plain-http")]
use agent_core::agent::Peer;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersions;
use log::LevelFilter;

use crate::identity::UuidMode;
use crate::privilege::UserSpec;
use crate::tpm::TctiName;
pub use error::{ConfigError, Source};
pub use file::FileFault;
pub use help::help;
use options::OPTIONS;
use settings::Settings;
pub use tables::SyntaxFault;

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
    /// How they are spoken to.
    pub transport: Transport,
    /// The API versions that they may use.
    pub api_versions: ApiVersions,
    /// The registrar's address.
    pub registrar_ip: String,
    /// The registrar's port for agents, plain HTTP.
    pub registrar_port: u16,
    /// The API versions that the registrar is asked for.
    pub registrar_api_versions: ApiVersions,
    /// The directory with `secure/` in it.
    pub keylime_dir: PathBuf,
    /// PEM files of the authorities whose clients may talk to the agent.
    pub trusted_client_ca: Vec<PathBuf>,
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
    /// Whether a payload that is an archive is unpacked.
    pub extract_payload_zip: bool,
    /// The file that a payload becomes which isn't unpacked.
    pub dec_payload_file: String,
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
    /// Whom the agent becomes once it has what only root gets.
    pub run_as: RunAs,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// Whom the agent becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// Nobody else: it stays the user that it was started as.
    AsStarted,
    /// Nobody else either: Keylime's file says [`KEYLIMES_USER`] unless somebody changes it, and then the scripts that
    /// Keylime documents, which need root, would fail.
    KeylimesDefault,
    /// This user.
    User(UserSpec),
}

/// Keylime's default for `run_as`.
pub const KEYLIMES_USER: &str = "keylime:tss";

/// What others speak with the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Mutual TLS.
    MutualTls,
    /// Plain HTTP, where everyone who comes is taken for this peer. For tests with a Keylime that is told to do the same.
    #[cfg(feature = "plain-http")]
    PlainHttp(Peer),
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
    /// Reads the command line, the environment (through `variable`) and the file that they name; if they name none, Keylime's
    /// files, where they are there.
    ///
    /// # Errors
    /// [`ConfigError`], which names the option, where its value came from, and what it may be.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::read_beneath(Path::new("/"), arguments, variable)
    }

    /// Reads with Keylime's files beneath another root directory.
    fn read_beneath(
        root: &Path,
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut found = match CommandLine::read(arguments)? {
            CommandLine::Help => return Ok(Self::Help),
            CommandLine::Version => return Ok(Self::Version),
            CommandLine::Serve(given) => given,
        };
        for (key, names) in variables() {
            let set = |name: String| variable(&name).map(|value| (value, Source::Variable(name)));
            if let Some(value) = names.into_iter().find_map(set) {
                found.entry(key).or_insert(value);
            }
        }
        let mut warnings = Vec::new();
        let files = match found.get(CONFIG) {
            Some((path, _)) if !path.is_empty() => vec![PathBuf::from(path)],
            _ => file::default_files(root)?,
        };
        // A later file wins over an earlier one.
        for path in files.iter().rev() {
            for (key, value) in file::read(path, &mut warnings)? {
                let source = Source::File(path.clone());
                found.entry(key).or_insert((value, source));
            }
        }
        // Keylime's word for a default.
        found.retain(|_, (value, _)| value != "default");
        keylime::settle(&mut found, &mut warnings)?;
        let config = Settings::new(found).finish(&mut warnings)?;
        Ok(Self::Serve(Box::new(config), warnings))
    }
}

/// The variables that each key can come from, the strongest first.
fn variables() -> impl Iterator<Item = (&'static str, Vec<String>)> {
    let options = OPTIONS
        .iter()
        .map(|option| (option.key, option.variables().collect()));
    options.chain(keylime::not_options().map(|key| (key.name, vec![key.variable()])))
}

/// Values by their keys, each with its source.
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

/// The key of the option that names the file.
const CONFIG: &str = "config";
