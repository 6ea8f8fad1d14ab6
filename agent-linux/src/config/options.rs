//! The table of options.

use super::Command;

/// One option: `key` is its name in the file; the flag has dashes instead of underscores.
pub(super) struct Opt {
    pub(super) key: &'static str,
    pub(super) group: Group,
    /// What stands behind the flag in the help; a switch has none, a list's ends with `,..`.
    pub(super) placeholder: &'static str,
    /// The value if nobody gives one; the empty text is none, or one that follows from another option.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    /// A variable that other software uses for the same thing.
    pub(super) other_variable: &'static str,
    /// The commands that take it.
    pub(super) takers: &'static [Command],
    /// Whether the kernel's command line may say it.
    pub(super) from_boot: bool,
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

    /// Whether the value is a list: names with commas between them, or an array in the file.
    pub(super) fn is_list(&self) -> bool {
        self.placeholder.ends_with(",..")
    }

    /// Whether the command takes it.
    pub(super) fn is_for(&self, command: Command) -> bool {
        self.takers.contains(&command)
    }

    /// Whether it may come from who starts the machine: it says where or how long, and never whom to trust.
    pub(super) fn is_from_boot(&self) -> bool {
        self.from_boot
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
    ($takers:ident $boot:literal $group:ident $key:literal [$placeholder:literal] = $default:literal $(or $variable:literal)?, $help:literal) => {
        Opt {
            key: $key,
            group: Group::$group,
            placeholder: $placeholder,
            default: $default,
            help: $help,
            other_variable: concat!($($variable)?),
            takers: $takers,
            from_boot: $boot,
        }
    };
}

const SERVE: &[Command] = &[Command::Serve];
const PUSH: &[Command] = &[Command::Push];
const OUTBOUND: &[Command] = &[Command::Push, Command::Provision];
const RECEIVERS: &[Command] = &[Command::Serve, Command::Push, Command::Provision];
const CAPPERS: &[Command] = &[Command::Push, Command::Provision, Command::Cap];
const FLOOR: &[Command] = &[Command::Push, Command::Provision, Command::Floor];
const CALLERS: &[Command] = &[
    Command::Push,
    Command::Provision,
    Command::Cap,
    Command::Floor,
];
const ALL: &[Command] = &[
    Command::Serve,
    Command::Push,
    Command::Provision,
    Command::Cap,
    Command::Floor,
];

#[rustfmt::skip]
pub(super) const OPTIONS: &[Opt] = &[
    option!(RECEIVERS true Node "uuid" ["ID"] = "hash_ek", "the node's identifier: a literal one, 'generate', or 'hash_ek' (SHA-256 of the TPM's endorsement key)"),
    option!(SERVE false Node "ip" ["ADDRESS"] = "127.0.0.1", "listen on this address only"),
    option!(SERVE false Node "port" ["PORT"] = "9002", "listen on this port"),
    option!(SERVE false Node "contact_ip" ["ADDRESS"] = "", "address that verifier and tenant are told to use (default: --ip)"),
    option!(SERVE false Node "contact_port" ["PORT"] = "", "port that they are told to use (default: --port)"),
    option!(SERVE false Node "api_versions" ["VERSION,.."] = "default", "API versions to speak, of 2.1 to 2.6: default for all of them, latest for the newest alone"),
    #[cfg(feature = "plain-http")]
    option!(SERVE false Node "enable_agent_mtls" [""] = "true", "FOR TESTS: =false speaks plain HTTP, with anyone who comes"),
    #[cfg(feature = "plain-http")]
    option!(SERVE false Node "enable_insecure_payload" [""] = "false", "FOR TESTS: take payloads over plain HTTP too"),
    option!(RECEIVERS false Node "keylime_dir" ["DIR"] = "/var/lib/keylime" or "KEYLIME_DIR", "directory with secure/ and cv_ca/ in it"),
    option!(RECEIVERS true Servers "registrar_ip" ["ADDRESS"] = "127.0.0.1", "registrar to register with"),
    option!(RECEIVERS true Servers "registrar_port" ["PORT"] = "8890", "its port for agents"),
    option!(RECEIVERS true Servers "registrar_api_versions" ["VERSION,.."] = "default", "API versions to ask it for, like --api-versions"),
    option!(SERVE false Servers "trusted_client_ca" ["FILE,.."] = "", "PEM files of the authorities whose clients may talk to this agent (default: KEYLIME_DIR/cv_ca/cacert.crt)"),
    option!(SERVE false Servers "tenant_cert" ["FILE"] = "", "PEM file of the one client that may deliver key halves and payloads (default: any trusted client)"),
    option!(OUTBOUND true Servers "verifier_url" ["URL,.."] = "https://localhost:8881", "verifiers, tried in this order: https://HOST:PORT, IPv6 in brackets"),
    option!(OUTBOUND false Servers "verifier_cert" ["CERT,.."] = "", "the verifier's own certificate: a PEM file, or sha256:HEX of its DER; its name and dates are not asked for then"),
    option!(OUTBOUND false Servers "verifier_tls_ca_cert" ["FILE,.."] = "", "PEM files of the authorities that vouch for the verifier by its name (default: KEYLIME_DIR/cv_ca/cacert.crt)"),
    option!(OUTBOUND false Servers "tenant_signer" ["CERT,.."] = "", "certificates whose owners' payloads count: PEM files, or sha256:HEX of the DER; 'provision' needs one"),
    option!(PUSH true Servers "attestation_interval_seconds" ["SECONDS"] = "60", "how often to attest, unless the verifier says"),
    option!(OUTBOUND true Servers "exponential_backoff_initial_delay" ["MS"] = "", "wait before a failed step is tried again, twice as long each time (default: 250)"),
    option!(OUTBOUND true Servers "exponential_backoff_max_delay" ["MS"] = "", "the longest such wait (default: 30000)"),
    option!(PUSH true Servers "exponential_backoff_max_retries" ["N"] = "", "tries after which a new session is begun"),
    option!(CALLERS true Program "deadline" ["TIME"] = "30s", "provision: the end of everything, the script included; push: of one round; cap, floor: how long the TPM is waited for; such as 500ms, 30s, 2m"),
    option!(ALL false Tpm "tcti" ["NAME"] = "device:/dev/tpmrm0" or "TCTI", "the TPM, as tpm2-tss names it: device:/dev/tpmrm0, swtpm:host=127.0.0.1,port=2321"),
    option!(RECEIVERS true Tpm "tpm_hash_alg" ["ALG"] = "sha256", "PCR bank and signature hash: sha256, sha384 or sha512"),
    option!(RECEIVERS true Tpm "tpm_signing_alg" ["ALG"] = "ecdsa", "attestation key: ecdsa (P-256) or rsassa (RSA-2048; what Keylime's tenant accepts by default)"),
    option!(RECEIVERS false Tpm "ima_ml_path" ["FILE"] = "/sys/kernel/security/ima/ascii_runtime_measurements", "IMA's list, which goes along with quotes; \"\" sends none"),
    option!(RECEIVERS false Tpm "measuredboot_ml_path" ["FILE"] = "/sys/kernel/security/tpm0/binary_bios_measurements", "the firmware's event log, which goes along with quotes; \"\" sends none"),
    option!(CAPPERS false Tpm "cap_pcr" ["PCR"] = "15", "PCR whose extension ends this boot's chance, 0 to 15"),
    option!(FLOOR false Tpm "floor_index" ["INDEX"] = "", "NV index of the counter against old payloads, which this node then must have; floor takes 0x01806b68 unless told"),
    option!(OUTBOUND false Payload "landing_dir" ["DIR"] = "/run/keyhalf", "where the payload's files go: a file system in memory is mounted there"),
    option!(OUTBOUND true Payload "spool_dir" ["DIR"] = "", "directory for ciphertext, so that payloads of any size come, and broken links go on (default: memory)"),
    option!(OUTBOUND false Payload "last_good" [""] = "false", "keep a copy in the spool for boots without a link, if the tenant allows it; only this TPM opens it, and no capped boot"),
    option!(RECEIVERS true Payload "secure_size" ["SIZE"] = "", "size of the landing zone, twice what a payload may unpack to (default: 16m)"),
    option!(RECEIVERS true Payload "max_payload_size" ["SIZE"] = "", "largest sealed payload that is taken into memory (default: 4m)"),
    option!(SERVE false Payload "extract_payload_zip" [""] = "true", "unpack a payload that is a zip archive; on unless =false is written"),
    option!(SERVE false Payload "dec_payload_file" ["NAME"] = "decrypted_payload", "file that a payload becomes which isn't unpacked"),
    option!(SERVE false Payload "payload_script" ["NAME"] = "autorun.sh", "script in the payload to run once it is unpacked; \"\" runs none"),
    option!(RECEIVERS false Payload "payload_script_timeout" ["SECONDS"] = "600", "how long it may run"),
    option!(RECEIVERS false Payload "report_script_output" [""] = "false", "log the script's output and tell the tenant the end of it; it may hold secrets"),
    option!(RECEIVERS false Revocation "revocation_actions" ["NAME,.."] = "", "actions that run on a revocation notice, beside those that the payload names"),
    option!(RECEIVERS false Revocation "revocation_actions_dir" ["DIR"] = "/usr/libexec/keylime", "directory of the actions that belong to this node"),
    option!(RECEIVERS false Revocation "revocation_action_timeout" ["SECONDS"] = "60", "how long each may run"),
    option!(RECEIVERS false Revocation "allow_payload_revocation_actions" [""] = "true", "let a payload bring actions of its own; on unless =false is written"),
    option!(RECEIVERS false Revocation "revocation_cert" ["FILE"] = "", "certificate of the revocation notifier (default: the payload's RevocationNotifier-cert.crt)"),
    option!(RECEIVERS false Revocation "revocation_without_payload" [""] = "false", "act at once on a node that gets no payload; takes a revocation_cert"),
    option!(RECEIVERS false Revocation "crl_ca_cert" ["FILE"] = "", "certificate of the authority whose revocation lists are taken (default: the payload's cacert.crt)"),
    option!(RECEIVERS false Revocation "crl_path" ["FILE"] = "", "file that takes each newer revocation list, beside the payload's: DER if it ends with .der, else PEM"),
    option!(ALL false Program "config" ["FILE"] = "", "TOML file: table [agent], keys as these options with underscores, or Keylime's agent.conf (default: /etc/keylime/agent.conf with agent.conf.d/*.conf, if it is there)"),
    option!(RECEIVERS false Program "run_as" ["USER[:GROUP]"] = "", "user to become once port, landing zone and TPM are open; scripts and actions run as it too (default: stay the user that starts the agent)"),
    option!(ALL true Program "log_level" ["LEVEL"] = "info", "off, error, warn, info, debug or trace"),
];

/// The default of an option; empty if there is none.
pub(super) fn default_of(key: &str) -> &'static str {
    OPTIONS
        .iter()
        .find(|option| option.key == key)
        .map_or("", |option| option.default)
}

#[cfg(test)]
mod tests {
    use super::super::keylime;
    use super::*;

    #[test]
    fn the_documentation_is_the_table() {
        let mut table = "| key | default | commands | kernel | what |\n".to_owned();
        table += "| --- | --- | --- | --- | --- |\n";
        for option in OPTIONS.iter().filter(|one| keylime::key(one.key).is_none()) {
            if option.key == "enable_agent_mtls" || option.key == "enable_insecure_payload" {
                continue;
            }
            let commands: Vec<_> = Command::ALL
                .into_iter()
                .filter(|command| option.is_for(*command))
                .map(Command::name)
                .collect();
            let default = match option.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let kernel = if option.is_from_boot() { "yes" } else { "no" };
            let (key, commands, help) = (option.key, commands.join(", "), option.help);
            table += &format!("| `{key}` | {default} | {commands} | {kernel} | {help} |\n");
        }
        let text = include_str!("../../docs/agent-conf.md");
        assert!(text.contains(&table), "the table should be:\n{table}");
    }
}
