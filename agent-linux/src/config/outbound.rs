//! The configurations of the commands that listen nowhere: `push`, `provision`, `cap` and `floor`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::wire::limits;
use agent_core::wire::manifest::DEFAULT_CAP_PCR;
use agent_core::wire::quote::{HashAlg, PCR_COUNT, SignAlg};
use agent_core::wire::route::ApiVersions;
use log::LevelFilter;

use super::settings::{self, Settings};
use super::{Command, ConfigError, RevocationConfig, RunAs, value};
use crate::identity::UuidMode;
use crate::logs::LogPaths;
use crate::net::reach::{ServerAddress, ServerTrust};
use crate::tpm::TctiName;
use crate::trust::Pin;

/// The configuration of `push` and `provision`, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundConfig {
    /// Where the agent's identifier comes from.
    pub uuid: UuidMode,
    /// The registrar's address: an IP address or a host name.
    pub registrar_ip: String,
    /// The registrar's port for agents, plain HTTP.
    pub registrar_port: u16,
    /// The API versions that the registrar is asked for.
    pub registrar_api_versions: ApiVersions,
    /// The verifiers, tried in this order; at least one.
    pub verifiers: Vec<ServerAddress>,
    /// Whose certificates theirs are.
    pub verifier_trust: ServerTrust,
    /// The certificates whose owners' payloads count. `provision` has at least one; a `push` without any attests alone.
    pub tenant_signers: Vec<Pin>,
    /// The TPM.
    pub tcti: TctiName,
    /// The PCR bank, and the hash of the attestation key's signatures.
    pub tpm_hash_alg: HashAlg,
    /// The attestation key's scheme.
    pub tpm_signing_alg: SignAlg,
    /// `provision`: within what everything ends, the script too. `push`: how long one round may take.
    pub deadline: Duration,
    /// How often `push` attests, unless the verifier says otherwise.
    pub attestation_interval: Duration,
    /// How long to wait before a failed step is tried again.
    pub backoff: Backoff,
    /// Where a payload's files go: a file system in memory is mounted there.
    pub landing_dir: PathBuf,
    /// The landing zone's size in bytes.
    pub secure_size: u64,
    /// Where sealed payloads are spooled, of whatever size; none keeps them in memory.
    pub spool_dir: Option<PathBuf>,
    /// The largest sealed payload that is taken into memory, in bytes.
    pub max_payload_size: usize,
    /// How long the payload's script may run.
    pub payload_script_timeout: Duration,
    /// Whether the end of the script's output may be logged.
    pub report_script_output: bool,
    /// Whom the agent becomes once it has what only root gets.
    pub run_as: RunAs,
    /// The PCR that is capped where no manifest says which.
    pub cap_pcr: u8,
    /// The NV index of the counter against old payloads, which the node then must have; without one there is no floor.
    pub floor_index: Option<u32>,
    /// Whether a copy may be kept in [`OutboundConfig::spool_dir`] for boots without a link.
    pub last_good: bool,
    /// Whose word counts on a revocation, and what it sets off.
    pub revocation: RevocationConfig,
    /// The kernel's logs that the verifier may ask for.
    pub logs: LogPaths,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// How long to wait before something is tried again: twice as long each time, with some chance in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// After how many tries `push` begins anew with a session; `provision` tries until its deadline.
    pub retries: Option<u32>,
}

/// The configuration of `cap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapConfig {
    /// The TPM.
    pub tcti: TctiName,
    /// The PCR that is extended in every bank.
    pub cap_pcr: u8,
    /// How long the TPM is waited for.
    pub deadline: Duration,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// The configuration of `floor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloorConfig {
    /// The TPM.
    pub tcti: TctiName,
    /// The counter's NV index.
    pub floor_index: u32,
    /// Whether it is made if it isn't there.
    pub create: bool,
    /// How long the TPM is waited for.
    pub deadline: Duration,
    /// How much is logged.
    pub log_level: LevelFilter,
}

impl Settings {
    /// What `push` or `provision` is told.
    pub(super) fn outbound(
        self,
        command: Command,
        warnings: &mut Vec<String>,
    ) -> Result<OutboundConfig, ConfigError> {
        let keylime_dir = self.value("keylime_dir", value::absolute)?;
        let spool_dir = self.optional("spool_dir", value::absolute)?;
        let revocation = self.revocation(&keylime_dir)?;
        #[cfg(not(feature = "revocations"))]
        if !revocation.actions.is_empty() || revocation.cert.is_some() {
            warnings.push("this build doesn't act on revocations".to_owned());
        }
        let last_good = self.value("last_good", value::switch)?;
        if last_good && spool_dir.is_none() {
            let wanted = "a copy needs a place that outlives the boot: set spool_dir too";
            return Err(self.refused("last_good", wanted.to_owned()));
        }
        Ok(OutboundConfig {
            uuid: self.value("uuid", settings::parsed)?,
            registrar_ip: self.value("registrar_ip", value::host)?,
            registrar_port: self.value("registrar_port", value::port)?,
            registrar_api_versions: self.versions("registrar_api_versions", warnings)?,
            verifiers: self.value("verifier_url", servers)?,
            verifier_trust: self.verifier_trust(&keylime_dir)?,
            tenant_signers: self.tenant_signers(command, &keylime_dir)?,
            tcti: self.value("tcti", settings::parsed)?,
            tpm_hash_alg: self.value("tpm_hash_alg", settings::hash)?,
            tpm_signing_alg: self.value("tpm_signing_alg", settings::scheme)?,
            deadline: self.value("deadline", value::duration)?,
            attestation_interval: self.value("attestation_interval_seconds", settings::seconds)?,
            backoff: self.backoff()?,
            landing_dir: self.value("landing_dir", value::absolute)?,
            secure_size: self
                .optional("secure_size", value::size)?
                .unwrap_or(limits::LANDING_ZONE_BYTES),
            spool_dir,
            max_payload_size: self
                .optional("max_payload_size", settings::bytes)?
                .unwrap_or(limits::MAX_SEALED_BYTES),
            payload_script_timeout: self.value("payload_script_timeout", settings::seconds)?,
            report_script_output: self.value("report_script_output", value::switch)?,
            run_as: self.run_as()?,
            cap_pcr: self.value("cap_pcr", cap_pcr)?,
            floor_index: self.optional("floor_index", nv_index)?,
            last_good,
            revocation,
            logs: self.logs()?,
            log_level: self.value("log_level", settings::level)?,
        })
    }

    /// What `cap` is told. A value that nobody typed just now and that can't be used is passed over: the cap comes first.
    pub(super) fn cap(mut self, warnings: &mut Vec<String>) -> Result<CapConfig, ConfigError> {
        Ok(CapConfig {
            tcti: self.value_or_default("tcti", settings::parsed, warnings)?,
            cap_pcr: self.value_or_default("cap_pcr", cap_pcr, warnings)?,
            deadline: self.value_or_default("deadline", value::duration, warnings)?,
            log_level: self.value_or_default("log_level", settings::level, warnings)?,
        })
    }

    /// What `floor` is told.
    pub(super) fn floor(self, create: bool) -> Result<FloorConfig, ConfigError> {
        Ok(FloorConfig {
            tcti: self.value("tcti", settings::parsed)?,
            floor_index: self
                .optional("floor_index", nv_index)?
                .unwrap_or(FLOOR_INDEX),
            create,
            deadline: self.value("deadline", value::duration)?,
            log_level: self.value("log_level", settings::level)?,
        })
    }

    fn verifier_trust(&self, keylime_dir: &Path) -> Result<ServerTrust, ConfigError> {
        let pins = self.value("verifier_cert", |text| {
            self.pins("verifier_cert", text, keylime_dir)
        })?;
        if !pins.is_empty() {
            return Ok(ServerTrust::Pinned(pins));
        }
        let key = "verifier_tls_ca_cert";
        let files: Vec<_> = value::list(self.text(key))
            .map(|file| self.path(key, file, keylime_dir))
            .collect();
        Ok(ServerTrust::Authorities(if files.is_empty() {
            vec![keylime_dir.join(settings::KEYLIMES_CA)]
        } else {
            files
        }))
    }

    fn tenant_signers(
        &self,
        command: Command,
        keylime_dir: &Path,
    ) -> Result<Vec<Pin>, ConfigError> {
        let key = "tenant_signer";
        let pins = self.value(key, |text| self.pins(key, text, keylime_dir))?;
        if pins.is_empty() && command == Command::Provision {
            let wanted = "say whose payloads count, with --tenant-signer FILE or sha256:HEX";
            return Err(self.refused(key, wanted.to_owned()));
        }
        Ok(pins)
    }

    /// Certificates by file or by digest.
    fn pins(&self, key: &str, text: &str, keylime_dir: &Path) -> Result<Vec<Pin>, String> {
        value::list(text)
            .map(|item| match item.split_once("sha256:") {
                Some(("", hex)) => {
                    Pin::digest(hex).ok_or_else(|| "behind sha256: write 64 hex digits".to_owned())
                }
                _ => Ok(Pin::File(self.path(key, item, keylime_dir))),
            })
            .collect()
    }

    fn backoff(&self) -> Result<Backoff, ConfigError> {
        let milliseconds = |key, default| {
            let given = self.optional(key, settings::milliseconds);
            given.map(|given| given.unwrap_or(default))
        };
        let initial = milliseconds("exponential_backoff_initial_delay", FIRST_WAIT)?;
        Ok(Backoff {
            initial,
            max: milliseconds("exponential_backoff_max_delay", LAST_WAIT)?.max(initial),
            retries: self.optional("exponential_backoff_max_retries", settings::number)?,
        })
    }
}

fn servers(text: &str) -> Result<Vec<ServerAddress>, String> {
    let servers: Vec<ServerAddress> = value::list(text)
        .map(settings::parsed)
        .collect::<Result<_, _>>()?;
    if servers.is_empty() {
        return Err("write https://HOST:PORT, several with commas between them".to_owned());
    }
    Ok(servers)
}

/// A PCR that stays as it is until the machine is reset.
fn cap_pcr(text: &str) -> Result<u8, String> {
    text.parse()
        .ok()
        .filter(|pcr| *pcr < PCR_COUNT && !RESETTABLE.contains(pcr))
        .ok_or_else(|| {
            format!("write a PCR from 0 to 15 (usual: {DEFAULT_CAP_PCR}): others can be reset, or not be extended")
        })
}

/// An index that an owner may define.
fn nv_index(text: &str) -> Result<u32, String> {
    let index = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    index
        .filter(|index| OWNERS_INDICES.contains(index))
        .ok_or_else(|| "write an NV index from 0x01000000 to 0x01bfffff".to_owned())
}

/// Where `floor` makes the counter unless it is told: one of the owner's indices.
const FLOOR_INDEX: u32 = 0x0180_6B68;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// By a program, or by what starts the machine dynamically.
///
/// Source: TCG PC Client Platform TPM Profile, table 5.
const RESETTABLE: std::ops::RangeInclusive<u8> = 16..=23;
/// Source: TCG Registry of Reserved TPM 2.0 Handles, section 2.2.
const OWNERS_INDICES: std::ops::RangeInclusive<u32> = 0x0100_0000..=0x01BF_FFFF;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::ffi::OsString;
    use std::fs;

    use tempfile::TempDir;

    use super::super::Invocation;
    use super::*;

    /// Reads a command line on a machine with these files, and these variables.
    fn read(
        words: &str,
        files: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> Result<Invocation, String> {
        let root = TempDir::new().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let words = words.split_whitespace().map(OsString::from);
        Invocation::read_beneath(root.path(), words, variable).map_err(|error| error.to_string())
    }

    fn outbound(words: &str, files: &[(&str, &str)]) -> (OutboundConfig, Vec<String>) {
        match read(words, files, &[]).unwrap() {
            Invocation::Push(config, warnings) | Invocation::Provision(config, warnings) => {
                (*config, warnings)
            }
            other => panic!("{other:?}"),
        }
    }

    const FILE: &str = "etc/keylime/agent.conf";
    const BOOT: &str = "proc/cmdline";

    #[test]
    fn defaults() {
        let (config, warnings) = outbound("push", &[]);
        assert_eq!(config.verifiers[0].to_string(), "localhost:8881");
        let ca = PathBuf::from("/var/lib/keylime/cv_ca/cacert.crt");
        assert_eq!(config.verifier_trust, ServerTrust::Authorities(vec![ca]));
        assert_eq!(config.tenant_signers, []);
        assert_eq!(config.deadline, Duration::from_secs(30));
        assert_eq!(config.landing_dir, PathBuf::from("/run/keyhalf"));
        assert_eq!((config.cap_pcr, config.last_good), (15, false));
        assert_eq!(config.floor_index, None);
        assert_eq!(config.backoff.initial, Duration::from_millis(250));
        assert_eq!(config.backoff.retries, None);
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn one_file_for_all() {
        let hex = "ab".repeat(32);
        let text = format!(
            "[agent]\nverifier_url = [\"https://a:1\", \"https://[::1]\"]\nverifier_cert = \"v.pem\"\n\
             tenant_signer = [\"sha256:{hex}\", \"/etc/s.pem\"]\ndeadline = \"2m\"\nspool_dir = \"/s\"\n\
             last_good = true\nfloor_index = \"\"\nexponential_backoff_max_retries = 5\ncap_pcr = 14\n"
        );
        let (config, warnings) = outbound("provision", &[(FILE, &text)]);
        let verifiers: Vec<_> = config.verifiers.iter().map(ToString::to_string).collect();
        assert_eq!(verifiers, ["a:1", "[::1]:8881"]);
        let beneath = Pin::File("/var/lib/keylime/v.pem".into());
        assert_eq!(config.verifier_trust, ServerTrust::Pinned(vec![beneath]));
        let signers = [Pin::Sha256([0xAB; 32]), Pin::File("/etc/s.pem".into())];
        assert_eq!(config.tenant_signers, signers);
        assert_eq!(config.deadline, Duration::from_secs(120));
        assert_eq!(config.spool_dir, Some("/s".into()));
        assert!(config.last_good && config.floor_index.is_none());
        assert_eq!((config.backoff.retries, config.cap_pcr), (Some(5), 14));
        assert_eq!(warnings, Vec::<String>::new());
        // The same file is no error for the others.
        let capped = read("cap", &[(FILE, &text)], &[]).unwrap();
        assert!(matches!(
            capped,
            Invocation::Cap(CapConfig { cap_pcr: 14, .. }, _)
        ));
        #[cfg(feature = "pull")]
        assert!(read("serve", &[(FILE, &text)], &[]).is_ok());
    }

    #[test]
    fn precedence() {
        let files = [
            (
                FILE,
                "[agent]\nuuid = \"file\"\nregistrar_port = 1\ndeadline = \"1s\"\n",
            ),
            (
                BOOT,
                "quiet keyhalf.uuid=boot keyhalf.registrar_port=2 keyhalf.deadline=2s\n",
            ),
        ];
        let variables = [("KEYLIME_AGENT_UUID", "theirs"), ("KEYHALF_DEADLINE", "3s")];
        let got = read("push --deadline 4s", &files, &variables).unwrap();
        let Invocation::Push(config, _) = got else {
            panic!("{got:?}");
        };
        assert_eq!(config.uuid, "theirs".parse().unwrap());
        assert_eq!(config.registrar_port, 2);
        assert_eq!(config.deadline, Duration::from_secs(4));
    }

    #[test]
    fn trust_anchors_come_from_the_image() {
        let boot = "keyhalf.tenant_signer=/evil.pem keyhalf.verifier-cert=/evil.pem \
                    keyhalf.verifier_tls_ca_cert=/evil.pem keyhalf.verifier_url=https://v:1";
        let file = "[agent]\ntenant_signer = \"/good.pem\"\n";
        let (config, warnings) = outbound("provision", &[(FILE, file), (BOOT, boot)]);
        assert_eq!(config.tenant_signers, [Pin::File("/good.pem".into())]);
        assert!(matches!(config.verifier_trust, ServerTrust::Authorities(_)));
        assert_eq!(config.verifiers[0].to_string(), "v:1");
        let [warning] = &*warnings else {
            panic!("{warnings:?}");
        };
        for key in ["tenant_signer", "verifier_cert", "verifier_tls_ca_cert"] {
            assert!(warning.contains(key), "{warning}");
        }
        let error = read("provision", &[(BOOT, boot)], &[]).unwrap_err();
        assert!(error.contains("--tenant-signer"), "{error}");
    }

    #[test]
    fn refusals() {
        let rows = [
            ("provision", "say whose payloads count"),
            ("push --verifier-url http://v:1", "https://HOST:PORT"),
            ("push --verifier-url ,", "https://HOST:PORT"),
            ("push --tenant-signer sha256:abc", "64 hex digits"),
            ("push --deadline 0s", "30s"),
            ("push --cap-pcr 16", "from 0 to 15"),
            ("push --cap-pcr 23", "from 0 to 15"),
            ("push --floor-index 0x81000001", "NV index"),
            ("push --last-good", "spool_dir"),
            ("push --landing-dir run", "absolute"),
            ("push --revocation-without-payload", "set revocation_cert"),
            ("push --port 1", "push takes no --port"),
            (
                "cap --verifier-url https://v",
                "cap takes no --verifier-url",
            ),
            ("cap --cap-pcr 99", "from 0 to 15"),
            ("cap --create", "cap takes no --create"),
            ("floor --floor-index 7", "NV index"),
        ];
        for (words, text) in rows {
            let error = read(words, &[], &[]).unwrap_err();
            assert!(error.contains(text), "{words:?}: {error}");
        }
        for key in ["tls_accept_invalid_certs", "tls_accept_invalid_hostnames"] {
            let file = format!("[agent]\n{key} = true\n");
            let error = read("push", &[(FILE, &file)], &[]).unwrap_err();
            assert!(
                error.contains("no certificate is accepted that isn't valid"),
                "{error}"
            );
        }
    }

    #[test]
    fn nothing_in_a_file_keeps_the_cap_away() {
        let rows = [
            (FILE, "no TOML at all", 15, 1),
            (FILE, "[agent]\ncap_pcr = 99\n", 15, 1),
            (FILE, "[agent]\ncap_pcr = 14\ntcti = \"nonsense\"\n", 14, 1),
            (
                FILE,
                "[agent]\ntls_accept_invalid_certs = true\nport = 0\n",
                15,
                0,
            ),
            (
                FILE,
                "[agent]\nregistrar_tls_enabled = true\ndeadline = \"x\"\n",
                15,
                1,
            ),
            (BOOT, "keyhalf.cap_pcr=14 keyhalf.deadline=1ms", 15, 0),
        ];
        for (name, text, pcr, warned) in rows {
            let got = read("cap", &[(name, text)], &[]).unwrap();
            let Invocation::Cap(config, warnings) = got else {
                panic!("{got:?}");
            };
            assert_eq!(config.cap_pcr, pcr, "{text:?}");
            assert_eq!(config.tcti.to_string(), "device:/dev/tpmrm0", "{text:?}");
            assert_eq!(config.deadline, Duration::from_secs(30), "{text:?}");
            assert_eq!(warnings.len(), warned, "{text:?}: {warnings:?}");
        }
    }

    #[test]
    fn floors() {
        for (words, create) in [("floor", false), ("--create floor", true)] {
            let got = read(words, &[], &[]).unwrap();
            let Invocation::Floor(config, _) = got else {
                panic!("{got:?}");
            };
            assert_eq!((config.create, config.floor_index), (create, 0x0180_6B68));
        }
    }

    #[test]
    fn helps() {
        for command in Command::ALL {
            let words = format!("{} --help --port x", command.name());
            let wanted = command
                .is_built()
                .then_some(Invocation::Help(Some(command)));
            assert_eq!(read(&words, &[], &[]).ok(), wanted);
        }
        assert_eq!(read("--help", &[], &[]).unwrap(), Invocation::Help(None));
    }
}
