//! The command line.

use std::ffi::OsString;

#[cfg(feature = "install")]
use super::InstallConfig;
use super::options::{OPTIONS, Opt};
use super::{ConfigError, Found, Source};

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keylime's pull model: listen, attest, receive.
    Serve,
    /// Keylime's push model: call the verifier, again and again.
    Push,
    /// Call the verifier once, for a payload.
    Provision,
    /// End this boot's chance of a payload.
    Cap,
    /// Show or make the counter against old payloads.
    Floor,
    /// Put what an initramfs takes where its maker looks.
    InstallInitramfs,
}

impl Command {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 6] = [
        Self::Serve,
        Self::Push,
        Self::Provision,
        Self::Cap,
        Self::Floor,
        Self::InstallInitramfs,
    ];

    /// Its word on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Push => "push",
            Self::Provision => "provision",
            Self::Cap => "cap",
            Self::Floor => "floor",
            Self::InstallInitramfs => "install-initramfs",
        }
    }

    /// Whether this build has it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Serve => cfg!(feature = "pull"),
            Self::InstallInitramfs => cfg!(feature = "install"),
            Self::Push | Self::Provision | Self::Cap | Self::Floor => true,
        }
    }
}

/// What was written on it.
pub(super) enum CommandLine {
    Run {
        command: Command,
        found: Found,
        /// `--create`, of [`Command::Floor`] alone.
        create: bool,
    },
    #[cfg(feature = "install")]
    Install(InstallConfig),
    Help(Option<Command>),
    Version,
}

impl CommandLine {
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut given = Vec::new();
        let (mut command, mut create, mut help) = (None, false, false);
        #[cfg(feature = "install")]
        let mut install = InstallConfig::default();
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => help = true,
                lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => return Ok(Self::Version),
                lexopt::Arg::Long(CREATE) => create = true,
                #[cfg(feature = "install")]
                lexopt::Arg::Long(flag) if InstallConfig::knows(flag) => {
                    let flag = flag.to_owned();
                    install.take(&flag, &mut parser)?;
                }
                lexopt::Arg::Long(flag) => {
                    let option = OPTIONS.iter().find(|option| option.flag() == flag);
                    let option = option.ok_or_else(|| ConfigError::UnknownFlag(flag.to_owned()))?;
                    given.push((option, value(option, &mut parser)?));
                }
                lexopt::Arg::Value(word) if command.is_none() => {
                    command = Some(known(&word.to_string_lossy())?);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if help {
            return Ok(Self::Help(command));
        }
        let command = command.ok_or(ConfigError::NoCommand)?;
        let mut found = Found::new();
        for (option, value) in given {
            if !option.is_for(command) {
                let flag = option.flag();
                return Err(ConfigError::NotForCommand { flag, command });
            }
            found.insert(option.key, (value, Source::Flag));
        }
        if create && command != Command::Floor {
            let flag = CREATE.to_owned();
            return Err(ConfigError::NotForCommand { flag, command });
        }
        #[cfg(feature = "install")]
        match (command, install.first_flag()) {
            (Command::InstallInitramfs, _) => return Ok(Self::Install(install)),
            (_, None) => {}
            (_, Some(flag)) => {
                let flag = flag.to_owned();
                return Err(ConfigError::NotForCommand { flag, command });
            }
        }
        Ok(Self::Run {
            command,
            found,
            create,
        })
    }
}

fn value(option: &Opt, parser: &mut lexopt::Parser) -> Result<String, ConfigError> {
    let value = match parser.optional_value() {
        Some(value) => value,
        None if option.is_switch() => "true".into(),
        None => parser.value()?,
    };
    let value = value.into_string();
    Ok(value.map_err(lexopt::Error::NonUnicodeValue)?)
}

fn known(word: &str) -> Result<Command, ConfigError> {
    let command = Command::ALL
        .into_iter()
        .find(|command| command.name() == word);
    match command {
        Some(command) if command.is_built() => Ok(command),
        Some(command) => Err(ConfigError::NotBuilt(command)),
        None => Err(ConfigError::UnknownCommand(word.to_owned())),
    }
}

/// The one flag that is no option: it is about what is done now, so no file may say it.
pub(super) const CREATE: &str = "create";
