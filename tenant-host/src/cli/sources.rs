//! Where options are looked for after the command line: environment, then Keylime's tenant.conf.

use std::fmt;
use std::path::{Path, PathBuf};

use configparser::ini::Ini;
use zeroize::Zeroizing;

use super::SettingsError;
use crate::ca::Passphrase;

/// Where configuration is looked for when none is named.
const DEFAULT_CONFIG: &str = "/etc/keylime/tenant.conf";

/// The section of tenant.conf that is read.
const SECTION: &str = "tenant";

/// The largest passphrase file.
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The places where options are looked for, after the command line.
pub(super) struct Sources<'a> {
    /// Looks a variable up.
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The configuration file and what is in it.
    file: Option<(PathBuf, Ini)>,
}

impl<'a> Sources<'a> {
    /// Opens the configuration file: the named one, else the usual one if it is there.
    ///
    /// # Errors
    /// [`SettingsError::File`].
    pub(super) fn open(
        environment: &'a dyn Fn(&str) -> Option<String>,
        named: Option<&Path>,
    ) -> Result<Self, SettingsError> {
        let mut sources = Self {
            environment,
            file: None,
        };
        sources.file = sources.open_file(named)?;
        Ok(sources)
    }

    fn open_file(&self, named: Option<&Path>) -> Result<Option<(PathBuf, Ini)>, SettingsError> {
        let named = named
            .map(Path::to_owned)
            .or_else(|| self.variable("config").map(|(path, _)| path.into()));
        let path = match named {
            Some(path) => path,
            None if Path::new(DEFAULT_CONFIG).exists() => DEFAULT_CONFIG.into(),
            None => return Ok(None),
        };
        let error = |reason| SettingsError::File {
            path: path.clone(),
            reason,
        };
        let text = std::fs::read_to_string(&path).map_err(|source| error(source.to_string()))?;
        let mut ini = Ini::new();
        // As Python's configparser, which Keylime uses: a `#` inside a value belongs to it.
        ini.set_inline_comment_symbols(Some(&[]));
        ini.read(text).map_err(error)?;
        Ok(Some((path, ini)))
    }

    fn variable(&self, option: &str) -> Option<(String, Origin)> {
        let option = option.to_ascii_uppercase();
        ["KEYHALF_", "KEYLIME_TENANT_"].iter().find_map(|prefix| {
            let name = format!("{prefix}{option}");
            (self.environment)(&name).map(|value| (value, Origin::Environment(name)))
        })
    }

    /// The option's text and where it was found. An empty value, and Keylime's word `default`, count as none.
    pub(super) fn text(&self, flag: Option<String>, option: &str) -> Option<(String, Origin)> {
        let from_file = || {
            let (path, ini) = self.file.as_ref()?;
            Some((ini.get(SECTION, option)?, Origin::File(path.clone())))
        };
        let (value, origin) = flag
            .map(|value| (value, Origin::Flag))
            .or_else(|| self.variable(option))
            .or_else(from_file)?;
        let bare = unquoted(value.trim());
        (!bare.is_empty() && bare != "default").then(|| (bare.to_owned(), origin))
    }

    pub(super) fn path(&self, flag: Option<&PathBuf>, option: &str) -> Option<PathBuf> {
        flag.cloned()
            .or_else(|| self.text(None, option).map(|(text, _)| text.into()))
    }

    pub(super) fn number<T: std::str::FromStr>(
        &self,
        flag: Option<T>,
        option: &'static str,
        wanted: &'static str,
    ) -> Result<Option<T>, SettingsError> {
        if flag.is_some() {
            return Ok(flag);
        }
        let Some((value, origin)) = self.text(None, option) else {
            return Ok(None);
        };
        let parsed = value.parse().map_err(|_| SettingsError::Value {
            origin: origin.to_string(),
            option,
            value,
            wanted,
        });
        parsed.map(Some)
    }

    pub(super) fn flag(&self, option: &'static str) -> Result<Option<bool>, SettingsError> {
        let Some((value, origin)) = self.text(None, option) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Some(true)),
            "false" | "no" | "off" | "0" => Ok(Some(false)),
            _ => Err(SettingsError::Value {
                origin: origin.to_string(),
                option,
                value,
                wanted: "True or False",
            }),
        }
    }

    /// A list as Keylime writes it, `['a', 'b']`, or with commas alone.
    pub(super) fn list(&self, option: &str, default: &[&str]) -> Vec<String> {
        let Some((value, _)) = self.text(None, option) else {
            return default.iter().map(|word| (*word).to_owned()).collect();
        };
        let inner = value.trim_start_matches('[').trim_end_matches(']');
        let words = inner.split(',').map(|word| unquoted(word.trim()));
        words
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn passphrase(
        &self,
        flag: Option<&PathBuf>,
    ) -> Result<Option<Passphrase>, SettingsError> {
        if let Some(path) = self.path(flag, "ca_passphrase_file") {
            let bytes = crate::seal::read_file(&path, MAX_PASSPHRASE_BYTES);
            let text = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
                let text = std::str::from_utf8(&bytes).map_err(|_| "it isn't text".to_owned())?;
                Ok(Zeroizing::new(text.to_owned()))
            });
            let error = |reason| SettingsError::File {
                path: path.clone(),
                reason,
            };
            let passphrase = Passphrase::new(text.map_err(error)?);
            return passphrase
                .map(Some)
                .ok_or_else(|| error("it is empty".to_owned()));
        }
        let value = self
            .variable("ca_passphrase")
            .map(|(value, _)| Zeroizing::new(value));
        Ok(value.and_then(Passphrase::new))
    }
}

/// The text without the quotes around it, if they match.
fn unquoted(text: &str) -> &str {
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    quoted.unwrap_or(text)
}
