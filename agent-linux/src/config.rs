//! What the agent is told: flags first, then environment variables, then the kernel's command line, then TOML files, then defaults.
//!
//! One table (in `options`) names each option once: its flag, its variables, its key in the file, its default, its help.
//! Another (in `keylime`) says what becomes of each key of Keylime's agent.conf. What flags, variables and files say is put
//! together first and judged then, so that a value that another one overrides does no harm.

mod boot;
mod command;
mod error;
mod file;
mod help;
#[cfg(feature = "install")]
mod install;
mod keylime;
mod options;
mod outbound;
#[cfg(feature = "pull")]
mod pull;
mod revocation;
mod settings;
mod tables;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::privilege::UserSpec;
pub use command::Command;
use command::CommandLine;
pub use error::{ConfigError, Source};
pub use file::FileFault;
pub use help::help;
#[cfg(feature = "install")]
pub use install::{InstallConfig, Maker};
use options::OPTIONS;
pub use outbound::{Backoff, CapConfig, FloorConfig, OutboundConfig};
#[cfg(feature = "pull")]
pub use pull::{Config, Transport};
pub use revocation::RevocationConfig;
use settings::Settings;
pub use tables::SyntaxFault;

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

/// What the command line asks for, each with what is odd about its configuration but no error, to be logged.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Keylime's pull model: listen, attest, receive.
    #[cfg(feature = "pull")]
    Serve(Box<Config>, Vec<String>),
    /// Keylime's push model: attest to the verifier again and again, and receive.
    Push(Box<OutboundConfig>, Vec<String>),
    /// Receive a payload once, and end.
    Provision(Box<OutboundConfig>, Vec<String>),
    /// End this boot's chance of a payload.
    Cap(CapConfig, Vec<String>),
    /// Show the counter against old payloads, or make it.
    Floor(FloorConfig, Vec<String>),
    /// Put what an initramfs takes where its maker looks.
    #[cfg(feature = "install")]
    InstallInitramfs(InstallConfig),
    /// Print [`help`] of all, or of one command.
    Help(Option<Command>),
    /// Print the version.
    Version,
}

impl Invocation {
    /// Reads the command line, the environment (through `variable`), the kernel's command line, and the file that they name; if
    /// they name none, Keylime's files, where they are there.
    ///
    /// # Errors
    /// [`ConfigError`], which names the option, where its value came from, and what it may be.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::read_beneath(Path::new("/"), arguments, variable)
    }

    /// Reads with the system's files beneath another root directory.
    fn read_beneath(
        root: &Path,
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (command, mut found, create) = match CommandLine::read(arguments)? {
            CommandLine::Help(command) => return Ok(Self::Help(command)),
            CommandLine::Version => return Ok(Self::Version),
            #[cfg(feature = "install")]
            CommandLine::Install(config) => return Ok(Self::InstallInitramfs(config)),
            CommandLine::Run {
                command,
                found,
                create,
            } => (command, found, create),
        };
        for (key, names) in variables() {
            let set = |name: String| variable(&name).map(|value| (value, Source::Variable(name)));
            if let Some(value) = names.into_iter().find_map(set) {
                found.entry(key).or_insert(value);
            }
        }
        let mut warnings = Vec::new();
        // An initramfs may not have mounted it yet. Nothing there keeps the cap away.
        let boot = fs::read_to_string(root.join("proc/cmdline"));
        if let (Ok(text), true) = (boot, command != Command::Cap) {
            boot::add(&text, &mut found, &mut warnings);
        }
        match files(root, &mut found, &mut warnings) {
            Err(error) if command == Command::Cap => {
                warnings.push(format!("{error}; the cap doesn't wait for it"));
            }
            read => read?,
        }
        // Keylime's word for a default.
        found.retain(|_, (value, _)| value != "default");
        if !matches!(command, Command::Cap | Command::Floor) {
            keylime::settle(&mut found, &mut warnings)?;
        }
        let settings = Settings::new(found);
        Ok(match command {
            #[cfg(feature = "pull")]
            Command::Serve => {
                let config = settings.finish(&mut warnings)?;
                Self::Serve(Box::new(config), warnings)
            }
            #[cfg(not(feature = "pull"))]
            Command::Serve => return Err(ConfigError::NotBuilt(command)),
            Command::Push => {
                let config = settings.outbound(command, &mut warnings)?;
                Self::Push(Box::new(config), warnings)
            }
            Command::Provision => {
                let config = settings.outbound(command, &mut warnings)?;
                Self::Provision(Box::new(config), warnings)
            }
            Command::Cap => Self::Cap(settings.cap(&mut warnings)?, warnings),
            Command::Floor => Self::Floor(settings.floor(create)?, warnings),
            // With the feature, the command line alone has said all of it.
            Command::InstallInitramfs => return Err(ConfigError::NotBuilt(command)),
        })
    }
}

/// Adds what the files say to what was found.
fn files(root: &Path, found: &mut Found, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let files = match found.get(CONFIG) {
        Some((path, _)) if !path.is_empty() => vec![PathBuf::from(path)],
        _ => file::default_files(root)?,
    };
    // A later file wins over an earlier one.
    for path in files.iter().rev() {
        for (key, value) in file::read(path, warnings)? {
            let source = Source::File(path.clone());
            found.entry(key).or_insert((value, source));
        }
    }
    Ok(())
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

/// The key of the option that names the file.
const CONFIG: &str = "config";
