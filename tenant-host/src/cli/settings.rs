//! Settings from the command line, the environment, Keylime's tenant.conf, and defaults, in this order.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use configparser::ini::Ini;
use verifier_host::link::Endpoint;
use zeroize::Zeroizing;

use super::Arguments;
use crate::ca::Passphrase;

/// Where configuration is looked for when none is named.
const DEFAULT_CONFIG: &str = "/etc/keylime/tenant.conf";

/// The section of tenant.conf that is read.
const SECTION: &str = "tenant";

/// How long a whole delivery may take by default, script and all.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long one request may take by default.
///
/// Source: `request_timeout` in Keylime's tenant.conf.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest passphrase file.
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// Why the configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A file can't be read.
    #[error("can't read {}: {reason}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A value isn't of its kind.
    #[error("{origin}: {option} = {value:?} is not {wanted}")]
    Value {
        /// Where it stands.
        origin: String,
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// Agents without mutual TLS.
    #[error(
        "enable_agent_mtls = False isn't supported: agents are talked to over mutual TLS alone"
    )]
    PlainAgents,
}

/// Everything that isn't about one node.
pub struct Settings {
    /// Keylime's data directory.
    pub keylime_dir: PathBuf,
    /// The verifier.
    pub verifier: Endpoint,
    /// The registrar's TLS port.
    pub registrar: Endpoint,
    /// Our certificate for TLS.
    pub client_cert: PathBuf,
    /// Its private key.
    pub client_key: PathBuf,
    /// The CA of registrar and verifier.
    pub server_ca: PathBuf,
    /// CA certificates of TPM vendors.
    pub tpm_cert_store: PathBuf,
    /// The file of known EKs.
    pub known_eks: PathBuf,
    /// Whether an EK needs a certificate.
    pub require_ek_cert: bool,
    /// Hashes that the verifier shall accept.
    pub accept_hash: Vec<String>,
    /// Transport keys that the verifier shall accept.
    pub accept_encryption: Vec<String>,
    /// Signature schemes that the verifier shall accept.
    pub accept_signing: Vec<String>,
    /// The largest sealed payload that is sent.
    pub max_payload_size: Option<u64>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long the whole may take.
    pub timeout: Duration,
    /// What opens the CA's keys.
    pub ca_passphrase: Option<Passphrase>,
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Flag,
    Environment(String),
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
struct Sources<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: Option<(PathBuf, Ini)>,
}

impl Settings {
    /// Reads the settings for these arguments.
    ///
    /// # Errors
    /// [`SettingsError`]: a file that can't be read, a value that isn't of its kind; says where it stands.
    pub fn read(arguments: &Arguments) -> Result<Self, SettingsError> {
        Self::from(arguments, &|name| std::env::var(name).ok())
    }

    fn from(
        arguments: &Arguments,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut sources = Sources {
            environment,
            file: None,
        };
        sources.file = sources.open_file(arguments.config.as_deref())?;
        let keylime_dir = arguments
            .keylime_dir
            .clone()
            .or_else(|| (sources.environment)("KEYLIME_DIR").map(Into::into));
        let keylime_dir = sources
            .path(keylime_dir.as_ref(), "keylime_dir")
            .unwrap_or_else(|| "/var/lib/keylime".into());
        let beside =
            |path: Option<PathBuf>, name: &str| path.unwrap_or_else(|| keylime_dir.join(name));
        let tls_dir = beside(sources.path(arguments.tls_dir.as_ref(), "tls_dir"), "cv_ca");
        let in_tls = |option, name: &str| {
            sources
                .path(None, option)
                .map_or_else(|| tls_dir.join(name), |path| tls_dir.join(path))
        };
        if !sources.flag("enable_agent_mtls")?.unwrap_or(true) {
            return Err(SettingsError::PlainAgents);
        }
        let endpoint =
            |host: &Option<String>, host_option, port: Option<u16>, port_option, default| {
                Ok(Endpoint {
                    host: sources
                        .text(host.clone(), host_option)
                        .map_or_else(|| "127.0.0.1".to_owned(), |found| found.0),
                    port: sources
                        .number(port, port_option, "a port")?
                        .unwrap_or(default),
                })
            };
        let (verifier, registrar) = (
            endpoint(
                &arguments.verifier_ip,
                "verifier_ip",
                arguments.verifier_port,
                "verifier_port",
                8881,
            )?,
            endpoint(
                &arguments.registrar_ip,
                "registrar_ip",
                arguments.registrar_port,
                "registrar_port",
                8891,
            )?,
        );
        let seconds = |flag, option, default| {
            Ok(sources
                .number(flag, option, "a number of seconds")?
                .map_or(default, Duration::from_secs))
        };
        Ok(Self {
            verifier,
            registrar,
            client_cert: in_tls("client_cert", "client-cert.crt"),
            client_key: in_tls("client_key", "client-private.pem"),
            server_ca: in_tls("trusted_server_ca", "cacert.crt"),
            tpm_cert_store: beside(
                sources.path(arguments.tpm_cert_store.as_ref(), "tpm_cert_store"),
                "tpm_cert_store",
            ),
            known_eks: beside(
                sources.path(arguments.known_eks.as_ref(), "known_eks"),
                "known_eks",
            ),
            require_ek_cert: sources.flag("require_ek_cert")?.unwrap_or(true),
            accept_hash: sources.list("accept_tpm_hash_algs", &["sha512", "sha384", "sha256"]),
            accept_encryption: sources.list("accept_tpm_encryption_algs", &["ecc", "rsa"]),
            accept_signing: sources.list("accept_tpm_signing_algs", &["ecdsa", "rsassa"]),
            max_payload_size: sources.number(
                arguments.max_payload_size,
                "max_payload_size",
                "a number of bytes",
            )?,
            request_timeout: seconds(None, "request_timeout", DEFAULT_REQUEST_TIMEOUT)?,
            timeout: seconds(arguments.timeout, "timeout", DEFAULT_TIMEOUT)?,
            ca_passphrase: sources.passphrase(arguments.ca_passphrase_file.as_ref())?,
            keylime_dir,
        })
    }
}

impl Sources<'_> {
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
    fn text(&self, flag: Option<String>, option: &str) -> Option<(String, Origin)> {
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

    fn path(&self, flag: Option<&PathBuf>, option: &str) -> Option<PathBuf> {
        flag.cloned()
            .or_else(|| self.text(None, option).map(|(text, _)| text.into()))
    }

    fn number<T: std::str::FromStr>(
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

    fn flag(&self, option: &'static str) -> Result<Option<bool>, SettingsError> {
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
    fn list(&self, option: &str, default: &[&str]) -> Vec<String> {
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

    fn passphrase(&self, flag: Option<&PathBuf>) -> Result<Option<Passphrase>, SettingsError> {
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use clap::Parser as _;

    use super::*;

    fn read(
        words: &str,
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<Settings, SettingsError> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("tenant.conf");
        std::fs::write(&path, file).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let words = format!("keyhalf-tenant --config {path} {words}");
        let arguments = Arguments::try_parse_from(words.split_whitespace()).unwrap();
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::from(&arguments, &lookup)
    }

    #[test]
    fn the_nearest_place_wins() {
        let file = "[tenant]\nverifier_ip = 10.0.0.4\nverifier_port = 4\n";
        let keylime = ("KEYLIME_TENANT_VERIFIER_IP", "10.0.0.3");
        let ours = ("KEYHALF_VERIFIER_IP", "10.0.0.2");
        type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let rows: [Row<'_>; 5] = [
            ("default", "", &[], "", "127.0.0.1:8881"),
            ("file", "", &[], file, "10.0.0.4:4"),
            ("Keylime's variable", "", &[keylime], file, "10.0.0.3:4"),
            ("our variable", "", &[keylime, ours], file, "10.0.0.2:4"),
            ("flag", "-v 10.0.0.1", &[keylime, ours], file, "10.0.0.1:4"),
        ];
        for (name, words, environment, file, wanted) in rows {
            assert_eq!(
                read(words, environment, file).unwrap().verifier.to_string(),
                wanted,
                "{name}"
            );
        }
    }

    #[test]
    fn keylimes_own_file_is_read() {
        let file = "[tenant]\nversion = 2.6\nregistrar_port = 8891\ntls_dir = default\nenable_agent_mtls = True\n\
            client_key = default\nclient_key_password =\ntrusted_server_ca = \"default\"\n\
            tpm_cert_store = /store\nmax_payload_size = 1048576\n# a comment\n\
            accept_tpm_signing_algs = ['ecschnorr', 'rsassa']\nrequire_ek_cert = False\nrequest_timeout = 7\n";
        let settings = read("--keylime-dir /k", &[], file).unwrap();
        assert_eq!(
            settings.client_key,
            Path::new("/k/cv_ca/client-private.pem")
        );
        assert_eq!(settings.server_ca, Path::new("/k/cv_ca/cacert.crt"));
        assert_eq!(settings.tpm_cert_store, Path::new("/store"));
        assert_eq!(settings.accept_signing, ["ecschnorr", "rsassa"]);
        assert_eq!(settings.accept_hash, ["sha512", "sha384", "sha256"]);
        assert_eq!(
            (settings.require_ek_cert, settings.max_payload_size),
            (false, Some(1_048_576))
        );
        assert_eq!(settings.request_timeout, Duration::from_secs(7));
    }

    #[test]
    fn the_data_directory_holds_the_defaults() {
        let settings = read("", &[("KEYLIME_DIR", "/k")], "").unwrap();
        assert_eq!(settings.known_eks, Path::new("/k/known_eks"));
        assert_eq!(settings.tpm_cert_store, Path::new("/k/tpm_cert_store"));
        let settings = read("--tls-dir /t --known-eks /e", &[("KEYLIME_DIR", "/k")], "").unwrap();
        assert_eq!(settings.client_cert, Path::new("/t/client-cert.crt"));
        assert_eq!(settings.known_eks, Path::new("/e"));
    }

    #[test]
    fn what_is_wrong_says_where_it_stands() {
        let port = read("", &[("KEYHALF_VERIFIER_PORT", "many")], "")
            .err()
            .unwrap();
        assert_eq!(
            port.to_string(),
            "environment variable KEYHALF_VERIFIER_PORT: verifier_port = \"many\" is not a port"
        );
        let flag = read("", &[], "[tenant]\nrequire_ek_cert = perhaps\n")
            .err()
            .unwrap();
        assert!(
            flag.to_string()
                .contains("tenant.conf: require_ek_cert = \"perhaps\" is not True or False")
        );
        let plain = read("", &[], "[tenant]\nenable_agent_mtls = False\n")
            .err()
            .unwrap();
        assert_eq!(plain, SettingsError::PlainAgents);
    }
}
