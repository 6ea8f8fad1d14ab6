//! Settings from the command line, the environment, Keylime's tenant.conf, and defaults, in this order.

use std::path::PathBuf;
use std::time::Duration;

use verifier_host::link::Endpoint;

use super::Arguments;
use super::sources::Sources;
use crate::ca::{ListPoint, Passphrase};
use crate::deposit::record::State;

/// Keylime's data directory.
const DEFAULT_DIR: &str = "/var/lib/keylime";

/// How long a whole delivery may take by default, script and all.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long one request may take by default.
///
/// Source: `request_timeout` in Keylime's tenant.conf.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// The CAs of registrar and verifier.
    pub server_cas: Vec<PathBuf>,
    /// CA certificates of TPM vendors.
    pub tpm_cert_store: PathBuf,
    /// The file of known EKs.
    pub known_eks: PathBuf,
    /// Requests for nodes that haven't registered.
    pub queue: State,
    /// What was deposited last, by node.
    pub deposits: State,
    /// The measured-boot policy that the word `default` stands for.
    pub mb_policy: Option<PathBuf>,
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
    /// Where new certificates say that the revocation list is.
    pub list_point: ListPoint,
    /// What opens the CA's keys.
    pub ca_passphrase: Option<Passphrase>,
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
        let sources = Sources::open(environment, arguments.config.as_deref())?;
        if !sources.flag("enable_agent_mtls")?.unwrap_or(true) {
            return Err(SettingsError::PlainAgents);
        }
        let keylime_dir = arguments
            .keylime_dir
            .clone()
            .or_else(|| environment("KEYLIME_DIR").map(Into::into));
        let keylime_dir = sources
            .path(keylime_dir.as_ref(), "keylime_dir")
            .unwrap_or_else(|| DEFAULT_DIR.into());
        let beside = |flag: &Option<PathBuf>, option| {
            sources
                .path(flag.as_ref(), option)
                .unwrap_or_else(|| keylime_dir.join(option))
        };
        let tls_dir = sources
            .path(arguments.tls_dir.as_ref(), "tls_dir")
            .unwrap_or_else(|| keylime_dir.join("cv_ca"));
        let in_tls = |option, name: &str| {
            tls_dir.join(sources.path(None, option).unwrap_or_else(|| name.into()))
        };
        let seconds = |flag, option, default| {
            Ok(sources
                .number(flag, option, "a number of seconds")?
                .map_or(default, Duration::from_secs))
        };
        let (verifier, registrar) = servers(arguments, &sources)?;
        let crl_url = sources.text(arguments.revocation.crl_url.clone(), "crl_url");
        let crl_url = crl_url.as_ref().map(|(url, _)| url.as_str());
        Ok(Self {
            list_point: ListPoint::of(crl_url, &registrar.host),
            verifier,
            registrar,
            client_cert: in_tls("client_cert", "client-cert.crt"),
            client_key: in_tls("client_key", "client-private.pem"),
            server_cas: sources
                .list("trusted_server_ca", &["cacert.crt"])
                .into_iter()
                .map(|name| tls_dir.join(name))
                .collect(),
            tpm_cert_store: beside(&arguments.tpm_cert_store, "tpm_cert_store"),
            known_eks: beside(&arguments.known_eks, "known_eks"),
            queue: State::at(beside(&arguments.push.queue_dir, "queue")),
            deposits: State::at(beside(&None, "deposits")),
            mb_policy: sources.path(None, "mb_refstate"),
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

/// Verifier and registrar.
fn servers(
    arguments: &Arguments,
    sources: &Sources<'_>,
) -> Result<(Endpoint, Endpoint), SettingsError> {
    let host = |flag: &Option<String>, option| {
        sources
            .text(flag.clone(), option)
            .map_or_else(|| "127.0.0.1".to_owned(), |(host, _)| host)
    };
    let port = |flag: Option<u16>, option, default| {
        sources
            .number(flag, option, "a port")
            .map(|port| port.unwrap_or(default))
    };
    let verifier = Endpoint {
        host: host(&arguments.verifier_ip, "verifier_ip"),
        port: port(arguments.verifier_port, "verifier_port", 8881)?,
    };
    let registrar = Endpoint {
        host: host(&arguments.registrar_ip, "registrar_ip"),
        port: port(arguments.registrar_port, "registrar_port", 8891)?,
    };
    Ok((verifier, registrar))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use std::path::Path;

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
        assert_eq!(settings.server_cas, [Path::new("/k/cv_ca/cacert.crt")]);
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
    fn lists_are_at_the_registrar_unless_that_is_here() {
        let url = |url: &str| ListPoint::Url(url.to_owned());
        let rows = [
            ("here", "", ListPoint::Nowhere),
            (
                "there",
                "-r r.example",
                ListPoint::Registrar("r.example".to_owned()),
            ),
            (
                "not wanted",
                "-r r.example --crl-url none",
                ListPoint::Nowhere,
            ),
            ("elsewhere", "--crl-url http://a/b", url("http://a/b")),
        ];
        for (name, words, wanted) in rows {
            let settings = read(words, &[], "").unwrap();
            assert_eq!(settings.list_point, wanted, "{name}");
        }
        let settings = read("", &[("KEYHALF_CRL_URL", "http://c/d")], "").unwrap();
        assert_eq!(settings.list_point, url("http://c/d"));
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
