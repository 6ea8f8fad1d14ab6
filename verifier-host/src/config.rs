//! Where each option's value comes from: a flag, else a variable, else the configuration file, else the default.
//!
//! The file is Keylime's `verifier.conf` (and `registrar.conf`, or both in one): sections, `name = value`, `#` comments.
//! Options of Keylime that this program doesn't have are left alone there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::revocation::webhook::HookUrl;

/// Everything that the program is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The Keylime directory: certificates, database, at-rest key.
    pub keylime_dir: PathBuf,
    /// Where the verifier listens.
    pub verifier: SocketAddr,
    /// Where the registrar listens for nodes, without TLS.
    pub registrar: SocketAddr,
    /// Where the registrar listens with TLS.
    pub registrar_tls: SocketAddr,
    /// Time between two rounds of a node.
    pub quote_interval: Duration,
    /// The largest sealed payload that is taken, in bytes.
    pub max_payload_bytes: u64,
    /// Whether revocations are brought to agents that are polled.
    pub notify_agents: bool,
    /// Where else they are brought.
    pub webhook: Option<HookUrl>,
    /// PEM of the CAs that the webhook's server is trusted under; none is the CA of `cv_ca`.
    pub webhook_ca: Option<PathBuf>,
    /// What is logged.
    pub log_level: LevelFilter,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration file {path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line that is neither a section, a comment nor `name = value`.
    #[error("configuration file {path}, line {line}: neither [section] nor name = value")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
    /// The webhook is to be told, and nothing says where it is.
    #[error(
        "enabled_revocation_notifications has \"webhook\", but webhook_url is not set; set it (--webhook-url), or take \
         \"webhook\" out of the list"
    )]
    NoWebhookUrl,
    /// A value that the option can't have.
    #[error("{source_name} is \"{value}\", but {wanted} is needed")]
    Value {
        /// Flag, variable, or place in the file.
        source_name: String,
        /// What it is set to.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
}

/// An option: its flag's name, the variables besides `KEYHALF_<FLAG>`, and its place in the file.
struct Source {
    flag: &'static str,
    variables: &'static [&'static str],
    section: &'static str,
    key: &'static str,
}

/// Values by name of their flag, as given on the command line.
pub type Flags = HashMap<&'static str, String>;

impl Config {
    /// Resolves every option. `variable` looks up the environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn resolve(
        flags: &Flags,
        variable: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let file = file.map(read_file).transpose()?.unwrap_or_default();
        let layers = Layers {
            flags,
            variable: &variable,
            file: &file,
        };
        let home = Ipv4Addr::LOCALHOST.into();
        let ip: IpAddr = layers.get(&IP, ADDRESS)?.unwrap_or(home);
        let registrar_ip: IpAddr = layers.get(&REGISTRAR_IP, ADDRESS)?.unwrap_or(home);
        let enabled: Notified = layers
            .get(
                &NOTIFICATIONS,
                "a list of agent, webhook, both or none of them",
            )?
            .unwrap_or_default();
        let url: Option<HookUrl> = layers.get(
            &WEBHOOK_URL,
            "a URL of the form http://host:port/path or https://host:port/path",
        )?;
        let webhook = match (enabled.webhook, url) {
            (false, _) => None,
            (true, Some(url)) => Some(url),
            (true, None) => return Err(ConfigError::NoWebhookUrl),
        };
        let port = |source, default| {
            Ok::<u16, ConfigError>(layers.get(source, "a port number")?.unwrap_or(default))
        };
        Ok(Self {
            keylime_dir: layers
                .get(&KEYLIME_DIR, "a directory")?
                .unwrap_or_else(|| DEFAULT_DIR.into()),
            verifier: (ip, port(&PORT, 8881)?).into(),
            registrar: (registrar_ip, port(&REGISTRAR_PORT, 8890)?).into(),
            registrar_tls: (registrar_ip, port(&REGISTRAR_TLS_PORT, 8891)?).into(),
            quote_interval: layers
                .get(&QUOTE_INTERVAL, "a number of seconds from 0.01 to 86400")?
                .map_or(DEFAULT_INTERVAL, |Seconds(interval)| interval),
            max_payload_bytes: layers
                .get(&MAX_PAYLOAD_BYTES, "a number of bytes")?
                .unwrap_or(DEFAULT_PAYLOAD_BYTES),
            notify_agents: enabled.agent,
            webhook,
            webhook_ca: layers.get(&WEBHOOK_CA, "a file")?,
            log_level: layers
                .get(&LOG_LEVEL, "error, warn, info, debug or trace")?
                .unwrap_or(LevelFilter::INFO),
        })
    }
}

struct Layers<'a> {
    flags: &'a Flags,
    variable: &'a dyn Fn(&str) -> Option<String>,
    file: &'a File,
}

impl Layers<'_> {
    fn get<T: FromStr>(
        &self,
        source: &Source,
        wanted: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let Some((source_name, value)) = self.text(source) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(ConfigError::Value {
                source_name,
                value,
                wanted,
            }),
        }
    }

    /// The value and where it comes from. An empty variable counts as not set.
    fn text(&self, source: &Source) -> Option<(String, String)> {
        if let Some(value) = self.flags.get(source.flag) {
            return Some((format!("--{}", source.flag), value.clone()));
        }
        let own = format!("KEYHALF_{}", source.flag.replace('-', "_").to_uppercase());
        let names = std::iter::once(own.as_str()).chain(source.variables.iter().copied());
        for name in names {
            if let Some(value) = (self.variable)(name).filter(|value| !value.is_empty()) {
                return Some((name.to_owned(), value));
            }
        }
        let place = (source.section.to_owned(), source.key.to_owned());
        let value = self.file.get(&place)?;
        Some((
            format!("[{}] {}", source.section, source.key),
            value.clone(),
        ))
    }
}

/// Values of a file by section and name.
type File = HashMap<(String, String), String>;

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    parse_file(&text).map_err(|line| ConfigError::Line {
        path: path.to_owned(),
        line,
    })
}

/// The file's values, or the number of the first line that is none.
fn parse_file(text: &str) -> Result<File, usize> {
    let mut values = File::new();
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        // An indented line continues a value of Keylime's that this program doesn't have.
        let continued = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || continued {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            name.trim().clone_into(&mut section);
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let value = value.trim().trim_matches(['"', '\'']);
        if !value.is_empty() && value != "default" {
            values.insert((section.clone(), name.trim().to_owned()), value.to_owned());
        }
    }
    Ok(values)
}

/// An interval as seconds, fractions allowed.
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let seconds: f64 = text.parse().map_err(|_| ())?;
        let sane = (0.01..=86_400.0).contains(&seconds);
        if sane {
            Ok(Self(Duration::from_secs_f64(seconds)))
        } else {
            Err(())
        }
    }
}

/// Keylime's `enabled_revocation_notifications`: a list in Python's form, or names with commas between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Notified {
    agent: bool,
    webhook: bool,
}

impl Default for Notified {
    fn default() -> Self {
        Self {
            agent: true,
            webhook: false,
        }
    }
}

impl FromStr for Notified {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut notified = Self {
            agent: false,
            webhook: false,
        };
        let text = text.trim().trim_start_matches('[').trim_end_matches(']');
        for name in text.split(',') {
            match name.trim_matches([' ', '\t', '"', '\'']) {
                "" => {}
                "agent" => notified.agent = true,
                "webhook" => notified.webhook = true,
                _ => return Err(()),
            }
        }
        Ok(notified)
    }
}

const fn source(
    flag: &'static str,
    variables: &'static [&'static str],
    section: &'static str,
    key: &'static str,
) -> Source {
    Source {
        flag,
        variables,
        section,
        key,
    }
}

const KEYLIME_DIR: Source = source("keylime-dir", &["KEYLIME_DIR"], "verifier", "keylime_dir");
const IP: Source = source("ip", &["KEYLIME_VERIFIER_IP"], "verifier", "ip");
const PORT: Source = source("port", &["KEYLIME_VERIFIER_PORT"], "verifier", "port");
const REGISTRAR_IP: Source = source("registrar-ip", &["KEYLIME_REGISTRAR_IP"], "registrar", "ip");
const REGISTRAR_PORT: Source = source(
    "registrar-port",
    &["KEYLIME_REGISTRAR_PORT"],
    "registrar",
    "port",
);
const REGISTRAR_TLS_PORT: Source = source(
    "registrar-tls-port",
    &["KEYLIME_REGISTRAR_TLS_PORT"],
    "registrar",
    "tls_port",
);
const QUOTE_INTERVAL: Source = source(
    "quote-interval",
    &["KEYLIME_VERIFIER_QUOTE_INTERVAL"],
    "verifier",
    "quote_interval",
);
const MAX_PAYLOAD_BYTES: Source = source("max-payload-bytes", &[], "verifier", "max_payload_bytes");
const NOTIFICATIONS: Source = source(
    "enabled-revocation-notifications",
    &["KEYLIME_VERIFIER_REVOCATIONS_ENABLED_REVOCATION_NOTIFICATIONS"],
    "revocations",
    "enabled_revocation_notifications",
);
const WEBHOOK_URL: Source = source(
    "webhook-url",
    &["KEYLIME_VERIFIER_REVOCATIONS_WEBHOOK_URL"],
    "revocations",
    "webhook_url",
);
const WEBHOOK_CA: Source = source("webhook-ca", &[], "revocations", "webhook_ca");
const LOG_LEVEL: Source = source("log-level", &[], "verifier", "log_level");

const ADDRESS: &str = "an IP address";
const DEFAULT_DIR: &str = "/var/lib/keylime";
const DEFAULT_PAYLOAD_BYTES: u64 = 1 << 30;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn flag_beats_variable_beats_file_beats_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("verifier.conf");
        let text = "# Keylime's\n[verifier]\nip = \"127.0.0.3\"\nport = 1003\nuuid = default\n\n[registrar]\nip = 127.0.0.3\n";
        std::fs::write(&path, text).unwrap();
        for (name, flag, ours, keylimes, file, expected) in [
            ("default", None, None, None, false, "127.0.0.1:8881"),
            ("file", None, None, None, true, "127.0.0.3:1003"),
            (
                "Keylime's variable",
                None,
                None,
                Some("127.0.0.4"),
                true,
                "127.0.0.4:1003",
            ),
            (
                "our variable",
                None,
                Some("127.0.0.5"),
                Some("127.0.0.4"),
                true,
                "127.0.0.5:1003",
            ),
            (
                "flag",
                Some("127.0.0.6"),
                Some("127.0.0.5"),
                None,
                true,
                "127.0.0.6:1003",
            ),
            (
                "empty variable",
                None,
                Some(""),
                None,
                true,
                "127.0.0.3:1003",
            ),
        ] {
            let flags: Flags = flag
                .iter()
                .map(|ip: &&str| ("ip", (*ip).to_owned()))
                .collect();
            let variable = |variable: &str| match variable {
                "KEYHALF_IP" => ours.map(str::to_owned),
                "KEYLIME_VERIFIER_IP" => keylimes.map(str::to_owned),
                _ => None,
            };
            let config = Config::resolve(&flags, variable, file.then_some(path.as_path())).unwrap();
            assert_eq!(config.verifier.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn wrong_values_are_named_with_their_source() {
        for (flag, value, expected) in [
            (
                "ip",
                "localhost",
                "--ip is \"localhost\", but an IP address is needed",
            ),
            (
                "port",
                "70000",
                "--port is \"70000\", but a port number is needed",
            ),
            (
                "quote-interval",
                "0",
                "--quote-interval is \"0\", but a number of seconds from 0.01 to 86400 is needed",
            ),
            (
                "quote-interval",
                "NaN",
                "--quote-interval is \"NaN\", but a number of seconds from 0.01 to 86400 is needed",
            ),
            (
                "log-level",
                "loud",
                "--log-level is \"loud\", but error, warn, info, debug or trace is needed",
            ),
        ] {
            let flags = Flags::from([(flag, value.to_owned())]);
            let error = Config::resolve(&flags, |_| None, None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn who_is_told_of_revocations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("verifier.conf");
        let url = "webhook_url = \"https://a.example/hook\"\n";
        for (lines, expected) in [
            ("", Ok((true, None))),
            (
                "enabled_revocation_notifications = ['agent']\n",
                Ok((true, None)),
            ),
            (
                "enabled_revocation_notifications = ['agent','webhook']\n",
                Ok((true, Some("a.example"))),
            ),
            (
                "enabled_revocation_notifications = [\"webhook\"]\n",
                Ok((false, Some("a.example"))),
            ),
            (
                "enabled_revocation_notifications = webhook, agent\n",
                Ok((true, Some("a.example"))),
            ),
            ("enabled_revocation_notifications = []\n", Ok((false, None))),
            (
                "enabled_revocation_notifications = ['zeromq']\n",
                Err("zeromq"),
            ),
        ] {
            std::fs::write(&path, format!("[revocations]\n{lines}{url}")).unwrap();
            let found = Config::resolve(&Flags::new(), |_| None, Some(&path));
            let found = found.map_err(|error| error.to_string());
            match (&found, expected) {
                (Ok(found), Ok((agents, host))) => {
                    let webhook = found.webhook.as_ref();
                    assert_eq!(found.notify_agents, agents, "{lines}");
                    assert_eq!(
                        webhook.map(|url| url.endpoint.host.as_str()),
                        host,
                        "{lines}"
                    );
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{lines}: {found:?}"),
            }
        }
        let flags = Flags::from([("enabled-revocation-notifications", "webhook".to_owned())]);
        let error = Config::resolve(&flags, |_| None, None).unwrap_err();
        assert!(matches!(error, ConfigError::NoWebhookUrl), "{error}");
    }

    #[test]
    fn fractions_of_a_second() {
        let flags = Flags::from([("quote-interval", "0.25".to_owned())]);
        let config = Config::resolve(&flags, |_| None, None).unwrap();
        assert_eq!(config.quote_interval, Duration::from_millis(250));
    }

    #[test]
    fn lines() {
        for (text, expected) in [
            ("[verifier]\nip = a\n", Ok(1)),
            ("list = [\n  \"a\",\n  \"b\"]\n", Ok(1)),
            ("[verifier]\nnonsense\n", Err(2)),
            ("; comment\n# comment\n", Ok(0)),
        ] {
            assert_eq!(parse_file(text).map(|file| file.len()), expected, "{text}");
        }
    }
}
