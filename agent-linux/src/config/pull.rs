//! The configuration of `serve`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "plain-http")]
use agent_core::agent::Peer;
use agent_core::wire::limits;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersions;
use log::LevelFilter;

use super::settings::{self, Settings};
use super::{ConfigError, RevocationConfig, RunAs, value};
use crate::identity::UuidMode;
use crate::logs::LogPaths;
use crate::tpm::TctiName;

/// The configuration of `serve`, complete and checked.
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
    /// Whose word counts on a revocation, and what it sets off.
    pub revocation: RevocationConfig,
    /// Whom the agent becomes once it has what only root gets.
    pub run_as: RunAs,
    /// The kernel's logs that go along with quotes.
    pub logs: LogPaths,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// What others speak with the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Mutual TLS.
    MutualTls,
    /// Plain HTTP, where everyone who comes is taken for this peer. For tests with a Keylime that is told to do the same.
    #[cfg(feature = "plain-http")]
    PlainHttp(Peer),
}

impl Settings {
    /// Checks every value; what is odd about one but no error becomes a warning.
    pub(super) fn finish(self, warnings: &mut Vec<String>) -> Result<Config, ConfigError> {
        let port = self.value("port", value::port)?;
        let keylime_dir = self.value("keylime_dir", value::absolute)?;
        Ok(Config {
            uuid: self.value("uuid", settings::parsed)?,
            ip: self.value("ip", value::ip)?,
            port,
            contact_ip: self.contact_ip()?,
            contact_port: self.optional("contact_port", value::port)?.unwrap_or(port),
            transport: self.transport()?,
            api_versions: self.versions("api_versions", warnings)?,
            registrar_ip: self.value("registrar_ip", value::host)?,
            registrar_port: self.value("registrar_port", value::port)?,
            registrar_api_versions: self.versions("registrar_api_versions", warnings)?,
            trusted_client_ca: self.client_authorities(&keylime_dir),
            tenant_cert: self.optional("tenant_cert", |text| Ok(PathBuf::from(text)))?,
            tcti: self.value("tcti", settings::parsed)?,
            tpm_hash_alg: self.value("tpm_hash_alg", settings::hash)?,
            tpm_signing_alg: self.value("tpm_signing_alg", settings::scheme)?,
            secure_size: self
                .optional("secure_size", value::size)?
                .unwrap_or(limits::LANDING_ZONE_BYTES),
            max_payload_size: self
                .optional("max_payload_size", settings::bytes)?
                .unwrap_or(limits::MAX_SEALED_BYTES),
            extract_payload_zip: self.value("extract_payload_zip", value::switch)?,
            dec_payload_file: self.value("dec_payload_file", value::file_name)?,
            payload_script: self.value("payload_script", value::inside)?,
            payload_script_timeout: self.value("payload_script_timeout", settings::seconds)?,
            report_script_output: self.value("report_script_output", value::switch)?,
            revocation: self.revocation(&keylime_dir)?,
            run_as: self.run_as()?,
            logs: self.logs()?,
            log_level: self.value("log_level", settings::level)?,
            keylime_dir,
        })
    }

    fn contact_ip(&self) -> Result<String, ConfigError> {
        let ip = self.value("ip", value::ip)?;
        match self.optional("contact_ip", value::host)? {
            Some(host) => Ok(host),
            None if ip.is_unspecified() => {
                let wanted =
                    "say at which address others reach this node, with --contact-ip ADDRESS";
                Err(self.refused("ip", wanted.to_owned()))
            }
            None => Ok(ip.to_string()),
        }
    }

    #[cfg(not(feature = "plain-http"))]
    fn transport(&self) -> Result<Transport, ConfigError> {
        Ok(Transport::MutualTls)
    }

    #[cfg(feature = "plain-http")]
    fn transport(&self) -> Result<Transport, ConfigError> {
        let mutual_tls = self.value("enable_agent_mtls", value::switch)?;
        let payloads = self.value("enable_insecure_payload", value::switch)?;
        match (mutual_tls, payloads) {
            (true, _) => Ok(Transport::MutualTls),
            (false, _) if !self.text("tenant_cert").is_empty() => {
                let wanted = "over plain HTTP nobody shows a certificate, so none can be asked for";
                Err(self.refused("tenant_cert", wanted.to_owned()))
            }
            (false, true) => Ok(Transport::PlainHttp(Peer::Tenant)),
            (false, false) => Ok(Transport::PlainHttp(Peer::Unknown)),
        }
    }

    fn client_authorities(&self, keylime_dir: &Path) -> Vec<PathBuf> {
        let key = "trusted_client_ca";
        let usual = || keylime_dir.join(settings::KEYLIMES_CA);
        let files = value::list(self.text(key)).map(|text| match text {
            "default" => usual(),
            text => self.path(key, text, keylime_dir),
        });
        let files: Vec<_> = files.collect();
        if files.is_empty() {
            vec![usual()]
        } else {
            files
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use agent_core::wire::quote::SignAlg;
    use agent_core::wire::route::ApiVersions;

    use super::super::{Invocation, RunAs};
    use super::*;

    fn read(words: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let root = tempfile::TempDir::new().unwrap();
        match Invocation::read_beneath(root.path(), words.iter().map(Into::into), variable) {
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
            [PathBuf::from("/var/lib/keylime/cv_ca/cacert.crt")]
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
        let rows: [(&[&str], &str); 20] = [
            (&[], "no command"),
            (&["run"], "no command \"run\""),
            (&["serve", "--deadline", "1s"], "serve takes no --deadline"),
            (&["serve", "extra"], "extra"),
            (&["serve", "--prot", "1"], "no option --prot"),
            (&["serve", "--port"], "--port"),
            (&["serve", "--port", "0"], "--port \"0\""),
            (&["serve", "--ip", "0.0.0.0"], "--contact-ip"),
            (&["serve", "--ip", "localhost"], "IP address"),
            (&["serve", "--uuid", "a/b"], "no identifier"),
            (
                &["serve", "--tcti", "swtpm:socket=/x"],
                "key that this kind",
            ),
            (&["serve", "--tpm-signing-alg", "rsapss"], "ecdsa or rsassa"),
            (&["serve", "--secure-size", "lots"], "16m"),
            (&["serve", "--payload-script", "../x"], "autorun.sh"),
            (&["serve", "--keylime-dir", "relative"], "absolute"),
            (&["serve", "--dec-payload-file", "a/b"], "name of a file"),
            (&["serve", "--api-versions", "3.0"], "some of 2.1 to 2.6"),
            (&["serve", "--registrar-api-versions", ""], "some of 2.1"),
            (
                &["serve", "--revocation-without-payload"],
                "set revocation_cert",
            ),
            (&["serve", "--crl-path", "relative"], "absolute"),
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
    fn paths_are_relative_as_in_keylime_or_as_typed() {
        let there = ["/k/a.crt", "/b.crt", "/k/cv_ca/cacert.crt"].map(PathBuf::from);
        let variables = [
            ("KEYLIME_DIR", "/k"),
            ("KEYLIME_AGENT_TRUSTED_CLIENT_CA", "a.crt, /b.crt, default"),
            ("KEYLIME_AGENT_REVOCATION_CERT", "r.crt"),
        ];
        let config = read(&["serve"], &variables).unwrap();
        assert_eq!(config.trusted_client_ca, there);
        assert_eq!(config.revocation.cert, Some(PathBuf::from("/k/r.crt")));
        let words = ["serve", "--trusted-client-ca", "a.crt"];
        let config = read(&words, &variables).unwrap();
        assert_eq!(config.trusted_client_ca, [PathBuf::from("a.crt")]);
    }

    #[test]
    fn run_as() {
        let user = |text: &str| RunAs::User(text.parse().unwrap());
        let ours = ("KEYHALF_RUN_AS", "keylime:tss");
        let theirs = ("KEYLIME_AGENT_RUN_AS", "keylime:tss");
        let others = ("KEYLIME_AGENT_RUN_AS", "nobody");
        let empty = ("KEYLIME_AGENT_RUN_AS", "");
        let flag = ["serve", "--run-as", "keylime:tss"];
        let rows = [
            (&flag[..1], None, RunAs::AsStarted),
            (&flag[..1], Some(empty), RunAs::AsStarted),
            (&flag[..1], Some(theirs), RunAs::KeylimesDefault),
            (&flag[..1], Some(ours), user("keylime:tss")),
            (&flag[..1], Some(others), user("nobody")),
            (&flag, Some(others), user("keylime:tss")),
        ];
        for (words, variable, wanted) in rows {
            let config = read(words, variable.as_slice()).unwrap();
            assert_eq!(config.run_as, wanted, "{words:?} {variable:?}");
        }
        let error = read(&["serve", "--run-as", "a b"], &[]).unwrap_err();
        assert!(error.contains("nobody, keylime:tss"), "{error}");
    }

    #[test]
    fn versions() {
        let variables = [("KEYLIME_AGENT_API_VERSIONS", "2.1, 2.4")];
        let words = ["serve", "--registrar-api-versions", "latest"];
        let config = read(&words, &variables).unwrap();
        let texts = |versions: ApiVersions| -> Vec<String> {
            versions.iter().map(|version| version.to_string()).collect()
        };
        assert_eq!(texts(config.api_versions), ["2.1", "2.4"]);
        assert_eq!(texts(config.registrar_api_versions), ["2.6"]);
    }

    #[test]
    #[cfg(feature = "plain-http")]
    fn plain_http_is_asked_for_twice() {
        let off = ("KEYLIME_AGENT_ENABLE_AGENT_MTLS", "false");
        let payloads = ("KEYLIME_AGENT_ENABLE_INSECURE_PAYLOAD", "true");
        let rows = [
            (&[][..], Transport::MutualTls),
            (&[payloads], Transport::MutualTls),
            (&[off], Transport::PlainHttp(Peer::Unknown)),
            (&[off, payloads], Transport::PlainHttp(Peer::Tenant)),
        ];
        for (variables, wanted) in rows {
            let config = read(&["serve"], variables).unwrap();
            assert_eq!(config.transport, wanted, "{variables:?}");
        }
        let error = read(&["serve", "--tenant-cert", "/t.crt"], &[off, payloads]).unwrap_err();
        assert!(error.contains("nobody shows a certificate"), "{error}");
    }
}
