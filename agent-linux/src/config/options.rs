//! The table of options, and how their texts become a [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use agent_core::wire::limits;
use agent_core::wire::quote::{HashAlg, SignAlg};

use super::{Config, ConfigError, Found, Source, value};

/// One option: `key` is its name in the file; the flag has dashes instead of underscores.
pub(super) struct Opt {
    pub(super) key: &'static str,
    pub(super) group: Group,
    /// What stands behind the flag in the help; a switch has none.
    pub(super) placeholder: &'static str,
    /// The value if nobody gives one; the empty text is none, or one that follows from another option.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    /// A variable that other software uses for the same thing.
    pub(super) other_variable: &'static str,
}

impl Opt {
    /// The flag, without its two dashes.
    pub(super) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Whether the flag stands alone.
    pub(super) fn is_switch(&self) -> bool {
        self.placeholder.is_empty()
    }

    /// The environment variables, the strongest first.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        let upper = self.key.to_ascii_uppercase();
        [
            format!("KEYHALF_{upper}"),
            format!("KEYLIME_AGENT_{upper}"),
            self.other_variable.to_owned(),
        ]
        .into_iter()
        .filter(|name| !name.is_empty())
    }
}

/// A heading in the help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Node,
    Servers,
    Tpm,
    Payload,
    Revocation,
    Program,
}

macro_rules! option {
    ($group:ident $key:literal [$placeholder:literal] = $default:literal $(or $variable:literal)?, $help:literal) => {
        Opt {
            key: $key,
            group: Group::$group,
            placeholder: $placeholder,
            default: $default,
            help: $help,
            other_variable: concat!($($variable)?),
        }
    };
}

#[rustfmt::skip]
pub(super) const OPTIONS: &[Opt] = &[
    option!(Node "uuid" ["ID"] = "hash_ek", "the node's identifier: a literal one, 'generate', or 'hash_ek' (SHA-256 of the TPM's endorsement key)"),
    option!(Node "ip" ["ADDRESS"] = "127.0.0.1", "listen on this address only"),
    option!(Node "port" ["PORT"] = "9002", "listen on this port"),
    option!(Node "contact_ip" ["ADDRESS"] = "", "address that verifier and tenant are told to use (default: --ip)"),
    option!(Node "contact_port" ["PORT"] = "", "port that they are told to use (default: --port)"),
    option!(Node "keylime_dir" ["DIR"] = "/var/lib/keylime" or "KEYLIME_DIR", "directory with secure/ and cv_ca/ in it"),
    option!(Servers "registrar_ip" ["ADDRESS"] = "127.0.0.1", "registrar to register with"),
    option!(Servers "registrar_port" ["PORT"] = "8890", "its port for agents"),
    option!(Servers "trusted_client_ca" ["FILE"] = "", "PEM file of the authorities whose clients may talk to this agent (default: KEYLIME_DIR/cv_ca/cacert.crt)"),
    option!(Servers "tenant_cert" ["FILE"] = "", "PEM file of the one client that may deliver key halves and payloads (default: any trusted client)"),
    option!(Tpm "tcti" ["NAME"] = "device:/dev/tpmrm0" or "TCTI", "the TPM, as tpm2-tss names it: device:/dev/tpmrm0, swtpm:host=127.0.0.1,port=2321"),
    option!(Tpm "tpm_hash_alg" ["ALG"] = "sha256", "PCR bank and signature hash: sha256, sha384 or sha512"),
    option!(Tpm "tpm_signing_alg" ["ALG"] = "ecdsa", "attestation key: ecdsa (P-256) or rsassa (RSA-2048; what Keylime's tenant accepts by default)"),
    option!(Payload "secure_size" ["SIZE"] = "", "size of the landing zone, twice what a payload may unpack to (default: 16m)"),
    option!(Payload "max_payload_size" ["SIZE"] = "", "largest sealed payload (default: 4m)"),
    option!(Payload "payload_script" ["NAME"] = "autorun.sh", "script in the payload to run once it is unpacked; \"\" runs none"),
    option!(Payload "payload_script_timeout" ["SECONDS"] = "600", "how long it may run"),
    option!(Payload "report_script_output" [""] = "false", "log the script's output and tell the tenant the end of it; it may hold secrets"),
    option!(Revocation "revocation_actions" ["NAMES"] = "", "actions that run on a revocation notice, beside those that the payload names: names with commas between them"),
    option!(Revocation "revocation_actions_dir" ["DIR"] = "/usr/libexec/keylime", "directory of the actions that belong to this node"),
    option!(Revocation "allow_payload_revocation_actions" [""] = "true", "let a payload bring actions of its own; on unless =false is written"),
    option!(Revocation "revocation_cert" ["FILE"] = "", "certificate of the revocation notifier (default: the payload's RevocationNotifier-cert.crt)"),
    option!(Program "config" ["FILE"] = "", "TOML file: table [agent], keys as these options with underscores, or Keylime's agent.conf"),
    option!(Program "log_level" ["LEVEL"] = "info", "off, error, warn, info, debug or trace"),
];

/// The values found, on their way to a [`Config`].
pub(super) struct Settings(Found);

impl Settings {
    pub(super) fn new(found: Found) -> Self {
        Self(found)
    }

    /// Checks every value.
    pub(super) fn finish(self) -> Result<Config, ConfigError> {
        let ip = self.value("ip", value::ip)?;
        let port = self.value("port", value::port)?;
        let keylime_dir = self.value("keylime_dir", absolute)?;
        let secure_size = self
            .optional("secure_size", value::size)?
            .unwrap_or(limits::LANDING_ZONE_BYTES);
        let contact_ip = match self.optional("contact_ip", value::host)? {
            Some(host) => host,
            None if ip.is_unspecified() => {
                let wanted =
                    "say at which address others reach this node, with --contact-ip ADDRESS";
                return Err(self.refused("ip", wanted.to_owned()));
            }
            None => ip.to_string(),
        };
        Ok(Config {
            uuid: self.value("uuid", |text| text.parse().map_err(text_of))?,
            contact_ip,
            contact_port: self.optional("contact_port", value::port)?.unwrap_or(port),
            registrar_ip: self.value("registrar_ip", value::host)?,
            registrar_port: self.value("registrar_port", value::port)?,
            trusted_client_ca: match self
                .optional("trusted_client_ca", |text| Ok(PathBuf::from(text)))?
            {
                Some(path) => path,
                None => keylime_dir.join("cv_ca").join("cacert.crt"),
            },
            tenant_cert: self.optional("tenant_cert", |text| Ok(PathBuf::from(text)))?,
            tcti: self.value("tcti", |text| text.parse().map_err(text_of))?,
            tpm_hash_alg: self.value("tpm_hash_alg", |text| {
                HashAlg::from_name(text).ok_or_else(|| "write sha256, sha384 or sha512".to_owned())
            })?,
            tpm_signing_alg: self.value("tpm_signing_alg", |text| {
                SignAlg::from_name(text).ok_or_else(|| "write ecdsa or rsassa".to_owned())
            })?,
            secure_size,
            max_payload_size: self
                .optional("max_payload_size", bytes)?
                .unwrap_or(limits::MAX_SEALED_BYTES),
            payload_script: self.value("payload_script", value::inside)?,
            payload_script_timeout: self.value("payload_script_timeout", seconds)?,
            report_script_output: self.value("report_script_output", value::switch)?,
            revocation_actions: self.text("revocation_actions").to_owned(),
            revocation_actions_dir: self.value("revocation_actions_dir", absolute)?,
            allow_payload_revocation_actions: self
                .value("allow_payload_revocation_actions", value::switch)?,
            revocation_cert: self.optional("revocation_cert", |text| Ok(PathBuf::from(text)))?,
            log_level: self.value("log_level", |text| {
                text.parse()
                    .map_err(|_| "write off, error, warn, info, debug or trace".to_owned())
            })?,
            ip,
            port,
            keylime_dir,
        })
    }

    /// The value of an option that has one, given or by default.
    fn value<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        read(self.text(key)).map_err(|wanted| self.refused(key, wanted))
    }

    /// The value of an option that may have none: the empty text is none.
    fn optional<T>(
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

    fn text(&self, key: &'static str) -> &str {
        match self.0.get(key) {
            Some((text, _)) => text,
            None => default_of(key),
        }
    }

    fn refused(&self, option: &'static str, wanted: String) -> ConfigError {
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

fn default_of(key: &str) -> &'static str {
    OPTIONS
        .iter()
        .find(|option| option.key == key)
        .map_or("", |option| option.default)
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("write an absolute path".to_owned())
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    usize::try_from(value::size(text)?).map_err(|_| "it doesn't fit into memory".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .parse()
        .ok()
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("write a number of seconds from 1 to {MAX_SECONDS}"))
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A week: longer than any script that still is one.
const MAX_SECONDS: u64 = 7 * 24 * 3600;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::super::Invocation;
    use super::*;

    fn read(words: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match Invocation::read(words.iter().map(Into::into), variable) {
            Ok(Invocation::Serve(config, _)) => Ok(*config),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn defaults() {
        let config = read(&["serve"], &[]).unwrap();
        assert_eq!(config.port, 9002);
        assert_eq!(config.contact_port, 9002);
        assert_eq!(config.contact_ip, "127.0.0.1");
        assert_eq!(
            config.trusted_client_ca,
            PathBuf::from("/var/lib/keylime/cv_ca/cacert.crt")
        );
        assert_eq!(config.secure_size, 16 << 20);
        assert_eq!(config.tpm_signing_alg, SignAlg::Ecdsa);
        assert_eq!(config.payload_script.as_deref(), Some("autorun.sh"));
        assert!(!config.report_script_output);
    }

    #[test]
    fn precedence() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("agent.conf");
        std::fs::write(
            &file,
            "[agent]\nport = 1\nregistrar_port = 1\nip = \"127.0.0.9\"\nsecure_size = \"1m\"\n",
        )
        .unwrap();
        let file = file.to_str().unwrap();
        let variables = [
            ("KEYLIME_AGENT_PORT", "2"),
            ("KEYHALF_REGISTRAR_PORT", "3"),
            ("KEYLIME_AGENT_REGISTRAR_PORT", "4"),
        ];
        let config = read(&["serve", "--config", file, "--port=5"], &variables).unwrap();
        assert_eq!((config.port, config.registrar_port), (5, 3));
        assert_eq!(
            (config.ip.to_string().as_str(), config.secure_size),
            ("127.0.0.9", 1 << 20)
        );
        let config = read(
            &["serve"],
            &[
                ("KEYHALF_CONFIG", file),
                ("KEYLIME_DIR", "/k"),
                ("TCTI", "swtpm"),
            ],
        )
        .unwrap();
        assert_eq!((config.port, config.keylime_dir), (1, PathBuf::from("/k")));
        assert_eq!(config.tcti.to_string(), "swtpm");
    }

    #[test]
    fn refusals() {
        let rows: [(&[&str], &str); 14] = [
            (&[], "no command"),
            (&["run"], "no command \"run\""),
            (&["serve", "extra"], "extra"),
            (&["serve", "--prot", "1"], "no option --prot"),
            (&["serve", "--port"], "--port"),
            (&["serve", "--port", "0"], "--port \"0\""),
            (&["serve", "--ip", "0.0.0.0"], "--contact-ip"),
            (&["serve", "--ip", "localhost"], "IP address"),
            (&["serve", "--uuid", "a/b"], "no identifier"),
            (&["serve", "--tcti", "swtpm:path=/x"], "key that this kind"),
            (&["serve", "--tpm-signing-alg", "rsapss"], "ecdsa or rsassa"),
            (&["serve", "--secure-size", "lots"], "16m"),
            (&["serve", "--payload-script", "../x"], "autorun.sh"),
            (&["serve", "--keylime-dir", "relative"], "absolute"),
        ];
        for (words, text) in rows {
            let error = read(words, &[]).unwrap_err();
            assert!(error.contains(text), "{words:?}: {error}");
        }
    }

    #[test]
    fn switches() {
        for (words, wanted) in [
            (&["serve", "--report-script-output"][..], true),
            (&["serve", "--report-script-output=false"], false),
            (&["serve", "--report-script-output", "--port", "1"], true),
        ] {
            assert_eq!(
                read(words, &[]).unwrap().report_script_output,
                wanted,
                "{words:?}"
            );
        }
    }

    #[test]
    fn keylimes_own_file() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("agent.conf");
        std::fs::write(&file, KEYLIME_DEFAULTS).unwrap();
        match Invocation::read(["serve".into(), "--config".into(), file.into()], |_| None).unwrap()
        {
            Invocation::Serve(config, warnings) => {
                assert_eq!(warnings, Vec::<String>::new());
                assert_eq!(config.tpm_signing_alg, SignAlg::Rsassa);
                assert_eq!(config.secure_size, 1 << 20);
            }
            other => panic!("{other:?}"),
        }
    }

    /// From Keylime's agent.conf, version 2.4.
    const KEYLIME_DEFAULTS: &str = r#"
[agent]
version = "2.4"
api_versions = "default"
uuid = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000"
ip = "127.0.0.1"
port = 9002
contact_ip = "127.0.0.1"
contact_port = 9002
registrar_ip = "127.0.0.1"
registrar_port = 8890
registrar_tls_enabled = false
enable_agent_mtls = true
keylime_dir = "/var/lib/keylime"
server_key = "default"
trusted_client_ca = "default"
secure_size = "1m"
extract_payload_zip = true
payload_script = "autorun.sh"
enable_insecure_payload = false
tpm_hash_alg = "sha256"
tpm_encryption_alg = "rsa"
tpm_signing_alg = "rsassa"
ek_handle = "generate"
run_as = "keylime:tss"
attestation_interval_seconds = 60
tls_accept_invalid_certs = false
"#;
}
