//! The table of options.

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
    option!(Node "api_versions" ["VERSION,.."] = "default", "API versions to speak, of 2.1 to 2.6: default for all of them, latest for the newest alone"),
    #[cfg(feature = "plain-http")]
    option!(Node "enable_agent_mtls" [""] = "true", "FOR TESTS: =false speaks plain HTTP, with anyone who comes"),
    #[cfg(feature = "plain-http")]
    option!(Node "enable_insecure_payload" [""] = "false", "FOR TESTS: take payloads over plain HTTP too"),
    option!(Node "keylime_dir" ["DIR"] = "/var/lib/keylime" or "KEYLIME_DIR", "directory with secure/ and cv_ca/ in it"),
    option!(Servers "registrar_ip" ["ADDRESS"] = "127.0.0.1", "registrar to register with"),
    option!(Servers "registrar_port" ["PORT"] = "8890", "its port for agents"),
    option!(Servers "registrar_api_versions" ["VERSION,.."] = "default", "API versions to ask it for, like --api-versions"),
    option!(Servers "trusted_client_ca" ["FILE,.."] = "", "PEM files of the authorities whose clients may talk to this agent (default: KEYLIME_DIR/cv_ca/cacert.crt)"),
    option!(Servers "tenant_cert" ["FILE"] = "", "PEM file of the one client that may deliver key halves and payloads (default: any trusted client)"),
    option!(Tpm "tcti" ["NAME"] = "device:/dev/tpmrm0" or "TCTI", "the TPM, as tpm2-tss names it: device:/dev/tpmrm0, swtpm:host=127.0.0.1,port=2321"),
    option!(Tpm "tpm_hash_alg" ["ALG"] = "sha256", "PCR bank and signature hash: sha256, sha384 or sha512"),
    option!(Tpm "tpm_signing_alg" ["ALG"] = "ecdsa", "attestation key: ecdsa (P-256) or rsassa (RSA-2048; what Keylime's tenant accepts by default)"),
    option!(Payload "secure_size" ["SIZE"] = "", "size of the landing zone, twice what a payload may unpack to (default: 16m)"),
    option!(Payload "max_payload_size" ["SIZE"] = "", "largest sealed payload (default: 4m)"),
    option!(Payload "extract_payload_zip" [""] = "true", "unpack a payload that is a zip archive; on unless =false is written"),
    option!(Payload "dec_payload_file" ["NAME"] = "decrypted_payload", "file that a payload becomes which isn't unpacked"),
    option!(Payload "payload_script" ["NAME"] = "autorun.sh", "script in the payload to run once it is unpacked; \"\" runs none"),
    option!(Payload "payload_script_timeout" ["SECONDS"] = "600", "how long it may run"),
    option!(Payload "report_script_output" [""] = "false", "log the script's output and tell the tenant the end of it; it may hold secrets"),
    option!(Revocation "revocation_actions" ["NAME,.."] = "", "actions that run on a revocation notice, beside those that the payload names"),
    option!(Revocation "revocation_actions_dir" ["DIR"] = "/usr/libexec/keylime", "directory of the actions that belong to this node"),
    option!(Revocation "allow_payload_revocation_actions" [""] = "true", "let a payload bring actions of its own; on unless =false is written"),
    option!(Revocation "revocation_cert" ["FILE"] = "", "certificate of the revocation notifier (default: the payload's RevocationNotifier-cert.crt)"),
    option!(Program "config" ["FILE"] = "", "TOML file: table [agent], keys as these options with underscores, or Keylime's agent.conf (default: /etc/keylime/agent.conf with agent.conf.d/*.conf, if it is there)"),
    option!(Program "run_as" ["USER[:GROUP]"] = "", "user to become once port, landing zone and TPM are open; scripts and actions run as it too (default: stay the user that starts the agent)"),
    option!(Program "log_level" ["LEVEL"] = "info", "off, error, warn, info, debug or trace"),
];

/// The default of an option; empty if there is none.
pub(super) fn default_of(key: &str) -> &'static str {
    OPTIONS
        .iter()
        .find(|option| option.key == key)
        .map_or("", |option| option.default)
}
