//! How the options' texts become values.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersions;
use log::LevelFilter;

use super::options::default_of;
use super::{ConfigError, Found, KEYLIMES_USER, RunAs, Source, value};
use crate::logs::LogPaths;

/// The values found, on their way to a command's configuration.
pub(super) struct Settings(Found);

impl Settings {
    pub(super) fn new(found: Found) -> Self {
        Self(found)
    }

    pub(super) fn versions(
        &self,
        key: &'static str,
        warnings: &mut Vec<String>,
    ) -> Result<ApiVersions, ConfigError> {
        let list = self.value(key, value::versions)?;
        if !list.unknown.is_empty() {
            let unknown = list.unknown.join(", ");
            warnings.push(format!("{key}: this agent doesn't speak {unknown}"));
        }
        Ok(list.enabled)
    }

    /// Keylime's default, where Keylime's file or variable has it, isn't a wish: whoever means it says so with a flag or a
    /// variable of ours.
    pub(super) fn run_as(&self) -> Result<RunAs, ConfigError> {
        let is_keylimes = match self.0.get("run_as") {
            Some((_, Source::File(_))) => true,
            Some((_, Source::Variable(name))) => name.starts_with("KEYLIME_"),
            _ => false,
        };
        if is_keylimes && self.text("run_as") == KEYLIMES_USER {
            return Ok(RunAs::KeylimesDefault);
        }
        let user = self.optional("run_as", parsed)?;
        Ok(user.map_or(RunAs::AsStarted, RunAs::User))
    }

    /// Where the kernel's logs are: the empty text is nowhere.
    pub(super) fn logs(&self) -> Result<LogPaths, ConfigError> {
        Ok(LogPaths {
            ima: self.optional("ima_ml_path", value::absolute)?,
            boot: self.optional("measuredboot_ml_path", value::absolute)?,
        })
    }

    /// A file's path: who types a relative one means the place where they are, everybody else, as Keylime, `keylime_dir`.
    pub(super) fn path(&self, key: &str, text: &str, keylime_dir: &Path) -> PathBuf {
        match self.0.get(key) {
            Some((_, Source::Flag)) => PathBuf::from(text),
            _ => keylime_dir.join(text),
        }
    }

    /// The value of an option that has one, given or by default.
    pub(super) fn value<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        read(self.text(key)).map_err(|wanted| self.refused(key, wanted))
    }

    /// The value of an option that may have none: the empty text is none.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        if self.text(key).is_empty() {
            Ok(None)
        } else {
            self.value(key, read).map(Some)
        }
    }

    /// The value of an option that mustn't keep anything from being done: what can't be used is passed over with a warning,
    /// unless it was typed just now.
    pub(super) fn value_or_default<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
        warnings: &mut Vec<String>,
    ) -> Result<T, ConfigError> {
        match self.value(key, &read) {
            Err(error) if !matches!(self.0.get(key), None | Some((_, Source::Flag))) => {
                warnings.push(format!("{error}; the default is taken"));
                self.0.remove(key);
                self.value(key, read)
            }
            value => value,
        }
    }

    pub(super) fn text(&self, key: &'static str) -> &str {
        match self.0.get(key) {
            Some((text, _)) => text,
            None => default_of(key),
        }
    }

    pub(super) fn refused(&self, option: &'static str, wanted: String) -> ConfigError {
        let source = self
            .0
            .get(option)
            .map_or(Source::Default, |(_, source)| source.clone());
        ConfigError::Value {
            option,
            value: self.text(option).to_owned(),
            source,
            wanted,
        }
    }
}

pub(super) fn hash(text: &str) -> Result<HashAlg, String> {
    HashAlg::from_name(text).ok_or_else(|| "write sha256, sha384 or sha512".to_owned())
}

pub(super) fn scheme(text: &str) -> Result<SignAlg, String> {
    SignAlg::from_name(text).ok_or_else(|| "write ecdsa or rsassa".to_owned())
}

pub(super) fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "write off, error, warn, info, debug or trace".to_owned())
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    usize::try_from(value::size(text)?).map_err(|_| "it doesn't fit into memory".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .parse()
        .ok()
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("write a number of seconds from 1 to {MAX_SECONDS}"))
}

pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    let given = text.parse().ok().map(Duration::from_millis);
    given
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(MAX_SECONDS))
        .ok_or_else(|| "write a number of milliseconds, a week at most".to_owned())
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "write a number above 0".to_owned())
}

/// A value that knows how to be read.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(text_of)
}

fn text_of(error: impl Display) -> String {
    error.to_string()
}

/// Where Keylime's verifier leaves its authority's certificate, beneath `keylime_dir`.
pub(super) const KEYLIMES_CA: &str = "cv_ca/cacert.crt";

/// A week: longer than any script that still is one.
const MAX_SECONDS: u64 = 7 * 24 * 3600;
