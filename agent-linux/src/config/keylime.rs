//! What becomes of each key of Keylime's `agent.conf`, wherever its value comes from.
//!
//! `docs/agent-conf.md` is this table in words; a test holds both together. A default value never warns or fails.

use super::error::{ConfigError, Source};
use super::{Found, value};

/// A key of Keylime's.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Keylime's default.
    default: &'static str,
    /// Values that ask for nothing else than the default does; the text `default` always is one.
    same: &'static [&'static str],
    treatment: Treatment,
    /// What the operator is told.
    reason: &'static str,
}

/// What this agent does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// It is an option of ours, by the same name.
    Used,
    /// It is an option where the build can speak plain HTTP; anywhere else what follows holds.
    PlainHttp(Otherwise),
    /// It isn't an option.
    Unused(Otherwise),
}

/// What becomes of a value other than the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    /// A warning: without it the node is as safe, and does all else that it is told.
    Ignored,
    /// An error: it would make the node weaker, or the operator relies on what doesn't happen.
    Refused,
}

impl Key {
    /// The environment variable that Keylime's agent has for it.
    pub(super) fn variable(&self) -> String {
        format!("KEYLIME_AGENT_{}", self.name.to_ascii_uppercase())
    }

    /// What becomes of the key if it isn't an option of this build.
    fn otherwise(&self) -> Option<Otherwise> {
        match self.treatment {
            Treatment::Used => None,
            Treatment::PlainHttp(_) if cfg!(feature = "plain-http") => None,
            Treatment::PlainHttp(otherwise) | Treatment::Unused(otherwise) => Some(otherwise),
        }
    }

    fn is_default(&self, text: &str) -> bool {
        let same = |known: &str| match (value::switch(known), value::switch(text)) {
            (Ok(known), Ok(given)) => known == given,
            _ => known == text,
        };
        same(self.default) || self.same.iter().any(|known| same(known))
    }
}

/// The key by this name.
pub(super) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The keys that are no options of this build.
pub(super) fn not_options() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.otherwise().is_some())
}

/// Takes the keys that are no options out of what was found: all that are ignored become one warning, which names them and
/// never their values, some of which are passwords.
///
/// # Errors
/// [`ConfigError::Refused`].
pub(super) fn settle(found: &mut Found, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let mut ignored = Vec::new();
    for key in not_options() {
        let Some((text, source)) = found.remove(key.name) else {
            continue;
        };
        match key.otherwise() {
            _ if key.is_default(&text) => {}
            Some(Otherwise::Refused) => return Err(refusal(key, source)),
            _ => ignored.push(key.name),
        }
    }
    if !ignored.is_empty() {
        warnings.push(format!(
            "keys of Keylime's that have no effect here: {}",
            ignored.join(", ")
        ));
    }
    Ok(())
}

fn refusal(key: &Key, source: Source) -> ConfigError {
    ConfigError::Refused {
        key: key.name,
        default: key.default,
        source,
        reason: key.reason,
    }
}

impl Key {
    const fn or(mut self, same: &'static [&'static str]) -> Self {
        self.same = same;
        self
    }

    const fn unless_plain_http(mut self) -> Self {
        if let Treatment::Unused(otherwise) = self.treatment {
            self.treatment = Treatment::PlainHttp(otherwise);
        }
        self
    }
}

const fn used(name: &'static str, default: &'static str, reason: &'static str) -> Key {
    Key {
        name,
        default,
        same: &[],
        treatment: Treatment::Used,
        reason,
    }
}

const fn ignored(name: &'static str, default: &'static str, reason: &'static str) -> Key {
    let treatment = Treatment::Unused(Otherwise::Ignored);
    Key {
        treatment,
        ..used(name, default, reason)
    }
}

const fn refused(name: &'static str, default: &'static str, reason: &'static str) -> Key {
    let treatment = Treatment::Unused(Otherwise::Refused);
    Key {
        treatment,
        ..used(name, default, reason)
    }
}

/// Every key of the agent.conf of Keylime's agent 0.2.9, in its order.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    ignored("version", "2.4", "it is the version of Keylime's file, whose keys are read by their names"),
    used("api_versions", "default", "2.1 to 2.6, `latest` is 2.6; unlike Keylime's agent, which then speaks all of them, it is an error if none of the list is known"),
    used("uuid", "d432fbb3-d2f1-4a97-9ef7-75bd81c00000", "without the key: `hash_ek`; an identifier that is none is an error, never replaced by a random one"),
    used("ip", "127.0.0.1", "an IP address, not a host name"),
    used("port", "9002", "as Keylime's agent"),
    used("contact_ip", "127.0.0.1", "without the key: `ip`"),
    used("contact_port", "9002", "without the key: `port`"),
    used("registrar_ip", "127.0.0.1", "as Keylime's agent"),
    used("registrar_port", "8890", "as Keylime's agent"),
    ignored("registrar_tls_port", "8891", "registration is plain HTTP: nothing in it is secret, and the TPM proves what counts"),
    refused("registrar_tls_enabled", "false", "registration over TLS isn't supported yet"),
    ignored("registrar_tls_ca_cert", "default", "registration is plain HTTP").or(&[""]),
    refused("enable_agent_mtls", "true", "this build speaks mutual TLS only; plain HTTP takes a debug build with the cargo feature `plain-http`, for tests").unless_plain_http(),
    used("keylime_dir", "/var/lib/keylime", "made if it isn't there; it has to be an absolute path"),
    refused("server_key", "default", "the key of the agent's certificate is derived from its TPM, never read from a file").or(&[""]),
    ignored("server_key_password", "", "there is no key file that it could open"),
    refused("payload_key", "default", "the key that halves are encrypted to never leaves the TPM").or(&[""]),
    ignored("payload_key_password", "", "there is no key file that it could open"),
    refused("server_cert", "default", "the agent's certificate is made for the key in its TPM").or(&[""]),
    used("trusted_client_ca", "default", "a list of files; `default` and without the key: `cv_ca/cacert.crt` in keylime_dir"),
    ignored("enc_keyname", "derived_tci_key", "K is never written to a file"),
    used("dec_payload_file", "decrypted_payload", "only for a payload that isn't unpacked: no copy of an archive stays beside its files"),
    used("secure_size", "1m", "without the key: 16m; a payload may unpack to half of it"),
    used("extract_payload_zip", "true", "with `false` an archive becomes the file that dec_payload_file names"),
    ignored("enable_revocation_notifications", "false", "it is about ZeroMQ; revocation notices come over REST and are always taken"),
    used("revocation_actions_dir", "/usr/libexec/keylime", "as Keylime's agent"),
    ignored("revocation_notification_ip", "127.0.0.1", "it is about ZeroMQ"),
    ignored("revocation_notification_port", "8992", "it is about ZeroMQ"),
    used("revocation_cert", "default", "`default` and without the key: `RevocationNotifier-cert.crt` of the payload"),
    used("revocation_actions", "", "as Keylime's agent"),
    used("payload_script", "autorun.sh", "the empty text runs none, whatever a payload brings; a payload without this file has nothing run either"),
    ignored("enable_insecure_payload", "false", "it is about agents whose mutual TLS is off; with mutual TLS it changes nothing").unless_plain_http(),
    used("allow_payload_revocation_actions", "true", "as Keylime's agent"),
    used("tpm_hash_alg", "sha256", "sha256, sha384 or sha512"),
    refused("tpm_encryption_alg", "rsa", "the transport key is RSA-2048").or(&["rsa2048"]),
    used("tpm_signing_alg", "rsassa", "without the key: `ecdsa`; rsassa or ecdsa"),
    refused("ek_handle", "generate", "the endorsement key is made from its standard template, or found at the standard's handle").or(&[""]),
    refused("enable_iak_idevid", "false", "IAK and IDevID aren't supported: the registrar binds the attestation key to the endorsement key"),
    ignored("iak_idevid_template", "detect", "IAK and IDevID aren't used"),
    ignored("iak_idevid_asymmetric_alg", "rsa", "IAK and IDevID aren't used"),
    ignored("iak_idevid_name_alg", "sha256", "IAK and IDevID aren't used"),
    ignored("idevid_password", "", "IAK and IDevID aren't used"),
    ignored("idevid_handle", "", "IAK and IDevID aren't used"),
    ignored("iak_password", "", "IAK and IDevID aren't used"),
    ignored("iak_handle", "", "IAK and IDevID aren't used"),
    ignored("iak_cert", "default", "IAK and IDevID aren't used").or(&[""]),
    ignored("idevid_cert", "default", "IAK and IDevID aren't used").or(&[""]),
    refused("tpm_ownerpassword", "", "no command takes the owner's password, and an endorsement hierarchy with one isn't supported; a password also has no place in this file"),
    used("run_as", "keylime:tss", "this default, from a file or `KEYLIME_AGENT_RUN_AS`, leaves the agent the user that it is started as, for scripts as Keylime documents them need root; see below").or(&[""]),
    ignored("agent_data_path", "default", "nothing is stored: the attestation key is the same at every start because its TPM is").or(&["", "agent_data.json"]),
    used("ima_ml_path", "default", "`default` and without the key: `/sys/kernel/security/ima/ascii_runtime_measurements`; the empty text sends none; opened at the start"),
    used("measuredboot_ml_path", "default", "`default` and without the key: `/sys/kernel/security/tpm0/binary_bios_measurements`; the empty text sends none; opened at the start"),
    used("attestation_interval_seconds", "60", "of `push`; a verifier that says when is obeyed"),
    used("verifier_url", "https://localhost:8881", "of `push` and `provision`: a list, tried in its order; port 8881 if none is written"),
    used("verifier_tls_ca_cert", "default", "of `push` and `provision`: a list of files; `default` and without the key: `cv_ca/cacert.crt` in keylime_dir; without effect beside verifier_cert").or(&["", "cv_ca/cacert.crt"]),
    used("registrar_api_versions", "default", "2.1 to 2.6; the newest that the registrar has too"),
    ignored("certification_keys_server_identifier", "ak", "it is about Keylime's push agent"),
    ignored("uefi_logs_evidence_version", "2.1", "it is about Keylime's push agent"),
    used("exponential_backoff_initial_delay", "10000", "of `push` and `provision`: milliseconds; without the key: 250; `serve` registers after 0.25 to 30 seconds"),
    used("exponential_backoff_max_retries", "5", "of `push`, which then begins a new session; nothing is given up before the deadline"),
    used("exponential_backoff_max_delay", "300000", "of `push` and `provision`: milliseconds; without the key: 30000"),
    refused("tls_accept_invalid_certs", "false", "no certificate is accepted that isn't valid"),
    refused("tls_accept_invalid_hostnames", "false", "no certificate is accepted that isn't valid"),
];

#[cfg(all(test, feature = "pull"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;
    use toml::{Table, Value};

    use super::super::options::OPTIONS;
    use super::super::{Config, Invocation, RunAs};
    use super::*;

    /// Reads Keylime's file with this text in it, and one variable.
    fn read(text: &str, variable: Option<(&str, &str)>) -> Result<(Config, Vec<String>), String> {
        let root = TempDir::new().unwrap();
        let directory = root.path().join("etc/keylime");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("agent.conf"), text).unwrap();
        read_beneath(root.path(), variable)
    }

    fn read_beneath(
        root: &Path,
        set: Option<(&str, &str)>,
    ) -> Result<(Config, Vec<String>), String> {
        let variable = |name: &str| {
            let found = set.filter(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned())
        };
        match Invocation::read_beneath(root, ["serve".into()], variable) {
            Ok(Invocation::Serve(config, warnings)) => Ok((*config, warnings)),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn line(key: &Key, value: &str) -> String {
        let bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
        let quote = if bare { "" } else { "\"" };
        format!("[agent]\n{} = {quote}{value}{quote}\n", key.name)
    }

    /// A value that the key's default isn't.
    fn another(key: &Key) -> &'static str {
        match key.default {
            "true" => "false",
            "false" => "true",
            _ => "hunter2",
        }
    }

    #[test]
    fn keylimes_own_file_works_unchanged() {
        let (config, warnings) = read(KEYLIMES_FILE, None).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(config.tpm_signing_alg.name(), "rsassa");
        assert_eq!(config.secure_size, 1 << 20);
        assert_eq!(config.revocation.cert, None);
        assert_eq!(config.run_as, RunAs::KeylimesDefault);
        let ca = Path::new("/var/lib/keylime/cv_ca/cacert.crt");
        assert_eq!(config.trusted_client_ca, [ca]);
    }

    #[test]
    fn the_table_is_keylimes_file() {
        let file: Table = KEYLIMES_FILE.parse().unwrap();
        let agent = file["agent"].as_table().unwrap();
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            other => panic!("{other:?}"),
        };
        for (name, value) in agent {
            assert_eq!(key(name).unwrap().default, text(value), "{name}");
        }
        assert_eq!(agent.len(), KEYS.len());
    }

    #[test]
    fn what_is_used_is_an_option() {
        for key in KEYS {
            let option = OPTIONS.iter().any(|option| option.key == key.name);
            assert_eq!(option, key.otherwise().is_none(), "{}", key.name);
        }
    }

    #[test]
    fn default_values_never_fail() {
        for key in KEYS {
            for value in [key.default, "default"].iter().chain(key.same) {
                let in_file = read(&line(key, value), None);
                let in_variable = read("[agent]", Some((&key.variable(), value)));
                for read in [in_file, in_variable] {
                    let (_, warnings) = read.unwrap();
                    assert_eq!(warnings, Vec::<String>::new(), "{} = {value}", key.name);
                }
            }
        }
    }

    #[test]
    fn what_weakens_is_refused() {
        for key in not_options().filter(|key| key.otherwise() == Some(Otherwise::Refused)) {
            let value = another(key);
            let in_file = read(&line(key, value), None).unwrap_err();
            let in_variable = read("[agent]", Some((&key.variable(), value))).unwrap_err();
            assert!(in_file.contains(key.name), "{in_file}");
            assert!(in_variable.contains(&key.variable()), "{in_variable}");
            for error in [in_file, in_variable] {
                assert!(error.contains(key.reason), "{error}");
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }

    #[test]
    fn a_variable_takes_back_what_the_file_asks_for() {
        let file = "[agent]\nregistrar_tls_enabled = true\n";
        let variable = ("KEYLIME_AGENT_REGISTRAR_TLS_ENABLED", "False");
        let (_, warnings) = read(file, Some(variable)).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn pieces_win_over_the_file() {
        let root = TempDir::new().unwrap();
        let pieces = root.path().join("etc/keylime/agent.conf.d");
        fs::create_dir_all(&pieces).unwrap();
        fs::write(
            root.path().join("etc/keylime/agent.conf"),
            "[agent]\nport = 1\ncontact_port = 1\nregistrar_port = 1\npayload_script = \"a\"\n",
        )
        .unwrap();
        fs::write(
            pieces.join("1.conf"),
            "[agent]\nport = 2\ncontact_port = 2\n",
        )
        .unwrap();
        fs::write(
            pieces.join("2.conf"),
            "[agent]\nport = 3\npayload_script = \"default\"\n",
        )
        .unwrap();
        let (config, _) = read_beneath(root.path(), None).unwrap();
        let ports = (config.port, config.contact_port, config.registrar_port);
        assert_eq!(ports, (3, 2, 1));
        assert_eq!(config.payload_script.as_deref(), Some("autorun.sh"));
    }

    #[test]
    fn ignored_keys_are_named_once_without_values() {
        let mut text = "[agent]\n".to_owned();
        let ignored = || not_options().filter(|key| key.otherwise() == Some(Otherwise::Ignored));
        for key in ignored() {
            text += line(key, another(key)).trim_start_matches("[agent]\n");
        }
        let (_, warnings) = read(&text, None).unwrap();
        let [warning] = &*warnings else {
            panic!("{warnings:?}");
        };
        assert!(!warning.contains("hunter2"), "{warning}");
        for key in ignored() {
            let words = warning.split([' ', ',']);
            let named = words.filter(|word| *word == key.name).count();
            assert_eq!(named, 1, "{}: {warning}", key.name);
            let variable = (&*key.variable(), another(key));
            let (_, warnings) = read("[agent]", Some(variable)).unwrap();
            assert!(warnings[0].ends_with(&format!(": {}", key.name)));
        }
    }

    #[test]
    fn the_documentation_is_the_table() {
        let code = |value: &str| match value {
            "" => "`\"\"`".to_owned(),
            value => format!("`{value}`"),
        };
        let mut table = "| key | default | here | why, or what differs |\n".to_owned();
        table += "| --- | --- | --- | --- |\n";
        for key in KEYS {
            let values: Vec<_> = [&key.default].into_iter().chain(key.same).collect();
            let values: Vec<_> = values.into_iter().map(|value| code(value)).collect();
            let here = match key.treatment {
                Treatment::Used => "used",
                Treatment::Unused(Otherwise::Ignored) => "ignored",
                Treatment::Unused(Otherwise::Refused) => "refused",
                Treatment::PlainHttp(Otherwise::Ignored) => "ignored, used with `plain-http`",
                Treatment::PlainHttp(Otherwise::Refused) => "refused, used with `plain-http`",
            };
            let (name, reason) = (key.name, key.reason);
            table += &format!("| `{name}` | {} | {here} | {reason} |\n", values.join(", "));
        }
        let text = include_str!("../../docs/agent-conf.md");
        assert!(text.contains(&table), "the table should be:\n{table}");
    }

    /// See its first lines.
    const KEYLIMES_FILE: &str = include_str!("vectors/keylime-agent-0.2.9.conf");
}
