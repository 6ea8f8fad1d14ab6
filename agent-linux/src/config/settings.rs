//! How the options' texts become a [`Config`].

use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "plain-http")]
use agent_core::agent::Peer;
use agent_core::wire::limits;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersions;
use log::LevelFilter;

use super::options::default_of;
use super::{Config, ConfigError, Found, KEYLIMES_USER, RunAs, Source, Transport, value};

/// The values found, on their way to a [`Config`].
pub(super) struct Settings(Found);

impl Settings {
    pub(super) fn new(found: Found) -> Self {
        Self(found)
    }

    /// Checks every value; what is odd about one but no error becomes a warning.
    pub(super) fn finish(self, warnings: &mut Vec<String>) -> Result<Config, ConfigError> {
        let port = self.value("port", value::port)?;
        let keylime_dir = self.value("keylime_dir", value::absolute)?;
        Ok(Config {
            uuid: self.value("uuid", |text| text.parse().map_err(text_of))?,
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
            tcti: self.value("tcti", |text| text.parse().map_err(text_of))?,
            tpm_hash_alg: self.value("tpm_hash_alg", hash)?,
            tpm_signing_alg: self.value("tpm_signing_alg", scheme)?,
            secure_size: self
                .optional("secure_size", value::size)?
                .unwrap_or(limits::LANDING_ZONE_BYTES),
            max_payload_size: self
                .optional("max_payload_size", bytes)?
                .unwrap_or(limits::MAX_SEALED_BYTES),
            extract_payload_zip: self.value("extract_payload_zip", value::switch)?,
            dec_payload_file: self.value("dec_payload_file", value::file_name)?,
            payload_script: self.value("payload_script", value::inside)?,
            payload_script_timeout: self.value("payload_script_timeout", seconds)?,
            report_script_output: self.value("report_script_output", value::switch)?,
            revocation_actions: self.text("revocation_actions").to_owned(),
            revocation_actions_dir: self.value("revocation_actions_dir", value::absolute)?,
            allow_payload_revocation_actions: self
                .value("allow_payload_revocation_actions", value::switch)?,
            revocation_cert: self.optional("revocation_cert", |text| {
                Ok(self.path("revocation_cert", text, &keylime_dir))
            })?,
            run_as: self.run_as()?,
            log_level: self.value("log_level", level)?,
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

    fn versions(
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
    fn run_as(&self) -> Result<RunAs, ConfigError> {
        let is_keylimes = match self.0.get("run_as") {
            Some((_, Source::File(_))) => true,
            Some((_, Source::Variable(name))) => name.starts_with("KEYLIME_"),
            _ => false,
        };
        if is_keylimes && self.text("run_as") == KEYLIMES_USER {
            return Ok(RunAs::KeylimesDefault);
        }
        let user = self.optional("run_as", |text| text.parse().map_err(text_of))?;
        Ok(user.map_or(RunAs::AsStarted, RunAs::User))
    }

    fn client_authorities(&self, keylime_dir: &Path) -> Vec<PathBuf> {
        let key = "trusted_client_ca";
        let usual = || keylime_dir.join("cv_ca").join("cacert.crt");
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

    /// A file's path: who types a relative one means the place where they are, everybody else, as Keylime, `keylime_dir`.
    fn path(&self, key: &str, text: &str, keylime_dir: &Path) -> PathBuf {
        match self.0.get(key) {
            Some((_, Source::Flag)) => PathBuf::from(text),
            _ => keylime_dir.join(text),
        }
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

fn hash(text: &str) -> Result<HashAlg, String> {
    HashAlg::from_name(text).ok_or_else(|| "write sha256, sha384 or sha512".to_owned())
}

fn scheme(text: &str) -> Result<SignAlg, String> {
    SignAlg::from_name(text).ok_or_else(|| "write ecdsa or rsassa".to_owned())
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "write off, error, warn, info, debug or trace".to_owned())
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
        let rows: [(&[&str], &str); 17] = [
            (&[], "no command"),
            (&["run"], "no command \"run\""),
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
        assert_eq!(config.revocation_cert, Some(PathBuf::from("/k/r.crt")));
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
