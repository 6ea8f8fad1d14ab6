//! The TOML file: table `[agent]` with Keylime's keys and ours.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;
use super::options::OPTIONS;

/// What is wrong with a configuration file.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileFault {
    /// It can't be read.
    Read(io::Error),
    /// It is larger than any sensible one.
    TooLarge,
    /// It isn't TOML.
    Syntax(String),
    /// It has no table `[agent]`.
    NoTable,
    /// A key's value is neither text, number nor boolean.
    Shape(String),
    /// A key of Keylime's asks for something that this agent won't do.
    Refused {
        /// The key.
        key: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "can't be read: {error}"),
            Self::TooLarge => write!(f, "is larger than {MAX_FILE_BYTES} bytes"),
            Self::Syntax(text) => write!(f, "isn't TOML: {text}"),
            Self::NoTable => f.write_str("has no table [agent]"),
            Self::Shape(key) => write!(f, "{key} must be a text, a number, true or false"),
            Self::Refused { key, reason } => write!(f, "{key}: {reason}"),
        }
    }
}

/// Reads a file: the options in it, by key. What it has beyond them becomes a warning each.
///
/// # Errors
/// [`ConfigError::File`].
pub(super) fn read(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, String)>, ConfigError> {
    text(path)
        .and_then(|text| parse(&text, warnings))
        .map_err(|reason| ConfigError::File {
            path: path.to_owned(),
            reason,
        })
}

fn text(path: &Path) -> Result<String, FileFault> {
    let mut text = String::new();
    let file = File::open(path).map_err(FileFault::Read)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(FileFault::Read)?;
    if u64::try_from(text.len()).is_ok_and(|len| len > MAX_FILE_BYTES) {
        Err(FileFault::TooLarge)
    } else {
        Ok(text)
    }
}

fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Vec<(&'static str, String)>, FileFault> {
    let root: Table = text
        .parse()
        .map_err(|error: toml::de::Error| FileFault::Syntax(error.message().to_owned()))?;
    let Some(Value::Table(agent)) = root.get("agent") else {
        return Err(FileFault::NoTable);
    };
    let mut found = Vec::new();
    for (key, value) in agent {
        let value = plain(value).ok_or_else(|| FileFault::Shape(key.clone()))?;
        if let Some(refusal) = REFUSED
            .iter()
            .find(|refusal| refusal.key == key && refusal.value == value)
        {
            return Err(FileFault::Refused {
                key: refusal.key,
                reason: refusal.reason,
            });
        }
        match OPTIONS.iter().find(|option| option.key == key) {
            // Keylime's word for a default is the text "default".
            Some(option) if value != "default" => found.push((option.key, value)),
            Some(_) => {}
            None if UNUSED.contains(&key.as_str()) => {}
            None => warnings.push(format!(
                "the configuration has an unknown key {key:?}: it has no effect"
            )),
        }
    }
    Ok(found)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A wish of a Keylime configuration that this agent doesn't grant, and doesn't pass over in silence.
struct Refusal {
    key: &'static str,
    value: &'static str,
    reason: &'static str,
}

const REFUSED: &[Refusal] = &[
    Refusal {
        key: "enable_agent_mtls",
        value: "false",
        reason: "this agent speaks mutual TLS only; remove the key",
    },
    Refusal {
        key: "enable_insecure_payload",
        value: "true",
        reason: "payloads come over mutual TLS only; remove the key",
    },
    Refusal {
        key: "registrar_tls_enabled",
        value: "true",
        reason: "registration over TLS isn't supported yet; registration needs no secrecy, remove the key",
    },
    Refusal {
        key: "extract_payload_zip",
        value: "false",
        reason: "a payload that is a zip is always unpacked; remove the key",
    },
];

/// Keys of Keylime's agent.conf that mean nothing here: there is no key file, no stored state, no user to change to.
const UNUSED: &[&str] = &[
    "agent_data_path",
    "api_versions",
    "attestation_interval_seconds",
    "certification_keys_server_identifier",
    "dec_payload_file",
    "ek_handle",
    "enable_agent_mtls",
    "enable_iak_idevid",
    "enable_insecure_payload",
    "enable_revocation_notifications",
    "enc_keyname",
    "exponential_backoff_initial_delay",
    "exponential_backoff_max_delay",
    "exponential_backoff_max_retries",
    "extract_payload_zip",
    "iak_cert",
    "iak_handle",
    "iak_idevid_asymmetric_alg",
    "iak_idevid_name_alg",
    "iak_idevid_template",
    "iak_password",
    "idevid_cert",
    "idevid_handle",
    "idevid_password",
    "ima_ml_path",
    "measuredboot_ml_path",
    "payload_key",
    "payload_key_password",
    "registrar_api_versions",
    "registrar_tls_ca_cert",
    "registrar_tls_enabled",
    "registrar_tls_port",
    "revocation_notification_ip",
    "revocation_notification_port",
    "run_as",
    "server_cert",
    "server_key",
    "server_key_password",
    "tls_accept_invalid_certs",
    "tls_accept_invalid_hostnames",
    "tpm_encryption_alg",
    "tpm_ownerpassword",
    "uefi_logs_evidence_version",
    "verifier_tls_ca_cert",
    "verifier_url",
    "version",
];

const MAX_FILE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files() {
        type Wanted = Result<&'static [(&'static str, &'static str)], &'static str>;
        let rows: [(&str, &str, Wanted, usize); 10] = [
            (
                "options",
                "[agent]\nip = \"127.0.0.2\"\nport = 9003",
                Ok(&[("ip", "127.0.0.2"), ("port", "9003")]),
                0,
            ),
            (
                "a switch",
                "[agent]\nreport_script_output = true",
                Ok(&[("report_script_output", "true")]),
                0,
            ),
            (
                "default",
                "[agent]\ntrusted_client_ca = \"default\"",
                Ok(&[]),
                0,
            ),
            (
                "Keylime's other keys",
                "[agent]\nrun_as = \"keylime:tss\"",
                Ok(&[]),
                0,
            ),
            ("unknown key", "[agent]\nprot = 1", Ok(&[]), 1),
            ("other tables", "[agent]\n[tenant]\nx = 1", Ok(&[]), 0),
            ("no table", "ip = \"127.0.0.2\"", Err("no table"), 0),
            ("no TOML", "[agent\n", Err("isn't TOML"), 0),
            (
                "an array",
                "[agent]\nip = [\"127.0.0.2\"]",
                Err("ip must be"),
                0,
            ),
            (
                "plain HTTP",
                "[agent]\nenable_agent_mtls = false",
                Err("mutual TLS only"),
                0,
            ),
        ];
        for (name, text, wanted, warned) in rows {
            let mut warnings = Vec::new();
            match (parse(text, &mut warnings), wanted) {
                (Ok(found), Ok(wanted)) => {
                    let found: Vec<_> = found
                        .iter()
                        .map(|(key, value)| (*key, value.as_str()))
                        .collect();
                    assert_eq!(found, wanted, "{name}");
                }
                (Err(fault), Err(text)) => {
                    assert!(fault.to_string().contains(text), "{name}: {fault}")
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
            assert_eq!(warnings.len(), warned, "{name}: {warnings:?}");
        }
    }

    #[test]
    fn unused_keys_are_no_options() {
        for key in UNUSED {
            assert!(OPTIONS.iter().all(|option| option.key != *key), "{key}");
        }
    }

    #[test]
    fn a_file_that_is_not_there() {
        let error = read(Path::new("/nonexistent/agent.toml"), &mut Vec::new()).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/agent.toml"),
            "{error}"
        );
    }
}
