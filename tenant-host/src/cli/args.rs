//! The command line: Keylime's options with Keylime's spelling, and ours.

use std::path::PathBuf;

use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use clap::Parser;

use super::UsageError;
use super::policies::PolicyArguments;
use super::push::PushArguments;
use super::revocation::RevocationArguments;
use crate::trust::known::is_hash;

const EXAMPLES: &str = "\
Examples:
  keyhalf-tenant -t 10.0.0.7 --cert myca --include payload
      Deliver the folder `payload` with certificates of the CA in `myca` (made if there is none), run its autorun.sh on
      the node, and wait for how it ends.
  keyhalf-tenant -t 10.0.0.7 -f secret.txt --tpm_policy '{\"7\": [\"65ca...\"]}'
      Deliver one file, to a node whose PCR 7 holds that value and to no other.
  keyhalf-tenant -c update -t 10.0.0.7 --cert myca --include payload
      Deliver anew, to a node that is at the verifier already.
  keyhalf-tenant -c status -u NODE --json
      What registrar and verifier know of a node, as one JSON document.
  keyhalf-tenant -c addruntimepolicy --runtime-policy-name web --runtime-policy signed.json --runtime-policy-sig-key key.pem
      Give the verifier a runtime policy that nodes can share, if it is signed by that key.
  keyhalf-tenant -t 10.0.0.7 --cert myca --runtime-policy-name web --mb-policy boot.json
      Deliver to a node whose IMA log fits that runtime policy and whose boot log fits that measured-boot policy.

  The push model: the payload is sealed to the node's TPM and lies at the verifier; the node calls, proves what it booted, and
  gets it in each boot, with this tenant asleep. Say which TPM it is, by the SHA-256 of its EK (public key in PEM) or by --ek-cert:
  keyhalf-tenant -c signer --cert myca
      Make the certificate that signs payloads, and show its path and SHA-256: what each node's image pins as tenant_signer.
  keyhalf-tenant -c add -u NODE --push-model --ek-hash 5c19... --cert myca --include payload --tpm_policy '{\"7\": [\"65ca...\"]}'
      Deposit for a node that has registered; it may be off now. The node's configuration pins the signer,
      myca/PayloadSigner-cert.crt. Add --wait or --queue for a node that hasn't registered yet.
  keyhalf-tenant watch
      Deposit what --queue has noted, as soon as each node registers with the EK that was told.
  keyhalf-tenant -c status -u NODE
      Boot by boot: released, received, opened, unpacked, exit code of the script, by receipts that the node's TPM signed.
  keyhalf-tenant -c rotate -u NODE --cert myca --include payload
      Seal anew: another key, the same terms, the floor one higher if there is one.

  keyhalf-tenant -c revoke -u NODE --reason 'its disk was stolen' --cert myca --wait
      Revoke a node and its certificate, have its peers told until each has acted, and wait for that.
  keyhalf-tenant -c revocations -u NODE
      What the verifier's revocation logs hold about a node, who has acted, and who hasn't.

  keyhalf-tenant policy --help
      Tools that make, check, compare and sign policies.
  keyhalf-tenant ca --help
      The certificate authority: certificates for anything, revocation, lists.

Exit codes:
  0 it happened (for a payload with a script: the script ended with 0)   1 something else   2 command line
  3 a file of this machine   4 a server or the agent can't be reached or refuses   5 the node isn't trusted
  6 the verifier refused the node   7 the script, or a peer's action on a revocation, failed   8 the node couldn't use the payload   9 it took too long
  10 no such node or policy, there already, or several match

Options are looked for on the command line, in KEYHALF_<OPTION> and KEYLIME_TENANT_<OPTION>, in the configuration file
(--config, else /etc/keylime/tenant.conf if it is there), and have defaults.";

/// Seals secrets to a node that has proved what it booted, and gives out the two halves of their key.
#[derive(Clone, Debug, Parser)]
#[command(name = "keyhalf-tenant", version, after_help = EXAMPLES, max_term_width = 120, args_override_self = true)]
pub struct Arguments {
    /// What to do with a node: add, update, delete, status, cvstatus, regstatus, cvlist, reglist, bulkinfo, regdelete,
    /// reactivate, revoke, revocations; in the push model also signer, rotate, confirm, watch; with policies: {add,show,update,delete,list}runtimepolicy, {add,show,update,delete,list}mbpolicy.
    #[arg(
        short = 'c',
        long,
        default_value = "add",
        value_name = "COMMAND",
        help_heading = "What"
    )]
    pub command: String,

    /// The command, without -c.
    #[arg(value_name = "COMMAND", conflicts_with = "command", hide = true)]
    pub word: Option<String>,

    /// The node's address. Alone, it also finds the node's identifier: the registrar must know exactly one node there.
    #[arg(short = 't', long, value_name = "HOST", help_heading = "Which node")]
    pub targethost: Option<String>,

    /// The agent's port [default: what the node registered with]. Also -tp.
    #[arg(long, value_name = "PORT", help_heading = "Which node")]
    pub targetport: Option<u16>,

    /// The node's address as the verifier shall use it, if it differs from -t.
    #[arg(
        long = "cv_targethost",
        value_name = "HOST",
        help_heading = "Which node"
    )]
    pub cv_targethost: Option<String>,

    /// The node's identifier.
    #[arg(short = 'u', long, value_name = "UUID", help_heading = "Which node")]
    pub uuid: Option<String>,

    /// Deliver certificates of the CA in this directory, made if there is none; `default` is `ca` in the Keylime directory.
    #[arg(long, value_name = "DIR", help_heading = "Payload")]
    pub cert: Option<PathBuf>,

    /// Deliver this directory too, the whole tree with its modes. Needs --cert.
    #[arg(long, value_name = "DIR", help_heading = "Payload")]
    pub include: Option<PathBuf>,

    /// Deliver this file as it is; in the push model, in a zip.
    #[arg(short = 'f', long, value_name = "FILE", help_heading = "Payload")]
    pub file: Option<PathBuf>,

    /// Deliver what was sealed elsewhere: the key and its halves. Needs -p.
    #[arg(short = 'k', long, value_name = "KEYFILE", help_heading = "Payload")]
    pub key: Option<PathBuf>,

    /// Deliver what was sealed elsewhere: the sealed payload, in base64. Needs -k.
    #[arg(short = 'p', long, value_name = "FILE", help_heading = "Payload")]
    pub payload: Option<PathBuf>,

    /// A file with the passphrase of the CA's keys (or KEYHALF_CA_PASSPHRASE). A new CA is encrypted with it.
    #[arg(long, value_name = "FILE", help_heading = "Payload")]
    pub ca_passphrase_file: Option<PathBuf>,

    /// The largest sealed payload to send, in bytes; for agents that don't tell their own limit.
    #[arg(long, value_name = "BYTES", help_heading = "Payload")]
    pub max_payload_size: Option<u64>,

    /// Which PCRs must hold which values, as JSON: {"7": ["hex", ...]}.
    #[arg(
        long = "tpm_policy",
        visible_alias = "tpm-policy",
        value_name = "JSON",
        help_heading = "Trust"
    )]
    pub tpm_policy: Option<String>,

    /// Have the agent prove that it has the key.
    #[arg(long, help_heading = "Trust")]
    pub verify: bool,

    /// Accept this EK and no other, with or without a certificate: its SHA-256, as the error about it names it.
    #[arg(long, value_name = "HEX", help_heading = "Trust")]
    pub ek_hash: Option<String>,

    /// CA certificates of TPM vendors [default: `tpm_cert_store` in the Keylime directory].
    #[arg(long, value_name = "DIR", help_heading = "Trust")]
    pub tpm_cert_store: Option<PathBuf>,

    /// The file of EKs that nodes came with before [default: `known_eks` in the Keylime directory].
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub known_eks: Option<PathBuf>,

    /// The verifier's address [default: 127.0.0.1].
    #[arg(
        short = 'v',
        long = "cv",
        visible_alias = "verifier-ip",
        value_name = "HOST",
        help_heading = "Servers"
    )]
    pub verifier_ip: Option<String>,

    /// The verifier's port [default: 8881]. Also -vp.
    #[arg(
        long = "cvport",
        visible_alias = "verifier-port",
        value_name = "PORT",
        help_heading = "Servers"
    )]
    pub verifier_port: Option<u16>,

    /// The verifier's name, to list its nodes alone. Also -vi.
    #[arg(long = "cvid", value_name = "ID", help_heading = "Servers")]
    pub verifier_id: Option<String>,

    /// The registrar's address [default: 127.0.0.1].
    #[arg(
        short = 'r',
        long = "registrarhost",
        visible_alias = "registrar-ip",
        value_name = "HOST",
        help_heading = "Servers"
    )]
    pub registrar_ip: Option<String>,

    /// The registrar's TLS port [default: 8891]. Also -rp.
    #[arg(
        long = "registrarport",
        visible_alias = "registrar-port",
        value_name = "PORT",
        help_heading = "Servers"
    )]
    pub registrar_port: Option<u16>,

    /// client-cert.crt, client-private.pem and cacert.crt for talking to servers and agents [default: `cv_ca` in the
    /// Keylime directory].
    #[arg(long, value_name = "DIR", help_heading = "Servers")]
    pub tls_dir: Option<PathBuf>,

    /// Delete or reactivate without looking first whether this verifier has the node. Also -nvc.
    #[arg(long = "no-verifier-check", help_heading = "Servers")]
    pub no_verifier_check: bool,

    /// The agent's API version, such as 2.6 [default: asked of the agent].
    #[arg(long, value_name = "VERSION", help_heading = "Servers")]
    pub agent_api_version: Option<String>,

    /// Deprecated: --agent-api-version.
    #[arg(
        long = "supported-version",
        value_name = "VERSION",
        help_heading = "Servers"
    )]
    pub supported_version: Option<String>,

    /// Runtime and measured-boot policies.
    #[command(flatten)]
    pub policies: PolicyArguments,

    /// The push model.
    #[command(flatten)]
    pub push: PushArguments,

    /// Revocation.
    #[command(flatten)]
    pub revocation: RevocationArguments,

    /// How long the whole may take.
    #[arg(long, value_name = "SECONDS", help_heading = "General")]
    pub timeout: Option<u64>,

    /// One JSON document on standard output; everything else goes to standard error.
    #[arg(long, help_heading = "General")]
    pub json: bool,

    /// Keylime's data directory [default: /var/lib/keylime].
    #[arg(long, value_name = "DIR", help_heading = "General")]
    pub keylime_dir: Option<PathBuf>,

    /// The configuration file, in the format of Keylime's tenant.conf.
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub config: Option<PathBuf>,
}

/// What is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadSource {
    /// Nothing: the node is attested only.
    None,
    /// The package of a CA, with a tree.
    Package {
        /// The CA's directory.
        ca: PathBuf,
        /// The tree to include.
        include: Option<PathBuf>,
    },
    /// One file as it is.
    File(PathBuf),
    /// What was sealed elsewhere.
    Sealed {
        /// The key file.
        key: PathBuf,
        /// The sealed payload.
        payload: PathBuf,
    },
}

impl Arguments {
    /// The command's name.
    #[must_use]
    pub fn command_name(&self) -> &str {
        self.word.as_deref().unwrap_or(&self.command)
    }

    /// The node's identifier, if it was given.
    ///
    /// # Errors
    /// [`UsageError::BadUuid`].
    pub fn node(&self) -> Result<Option<Uuid>, UsageError> {
        let parse = |text: &String| {
            Uuid::parse(text).ok_or_else(|| UsageError::BadUuid { text: text.clone() })
        };
        self.uuid.as_ref().map(parse).transpose()
    }

    /// The CA's directory, if one was given. `default` stands for the CA directory of that name.
    #[must_use]
    pub fn ca(&self, default_ca: PathBuf) -> Option<PathBuf> {
        self.cert.as_ref().map(|ca| match ca.as_os_str() {
            name if name == "default" => default_ca,
            _ => ca.clone(),
        })
    }

    /// What is delivered. `default` stands for the CA directory of that name.
    ///
    /// # Errors
    /// [`UsageError`] for options that exclude or miss each other.
    pub fn payload_source(&self, default_ca: PathBuf) -> Result<PayloadSource, UsageError> {
        if self.include.is_some() && self.cert.is_none() {
            return Err(UsageError::Needs("--include", "--cert"));
        }
        match (&self.cert, &self.file, &self.key, &self.payload) {
            (None, None, None, None) => Ok(PayloadSource::None),
            (Some(ca), None, None, None) => Ok(PayloadSource::Package {
                ca: if ca.as_os_str() == "default" {
                    default_ca
                } else {
                    ca.clone()
                },
                include: self.include.clone(),
            }),
            (None, Some(file), None, None) => Ok(PayloadSource::File(file.clone())),
            (None, None, Some(key), Some(payload)) => Ok(PayloadSource::Sealed {
                key: key.clone(),
                payload: payload.clone(),
            }),
            (_, _, None, Some(_)) => Err(UsageError::Needs("-p", "-k")),
            (_, _, Some(_), None) => Err(UsageError::Needs("-k", "-p")),
            (Some(_), Some(_), ..) => Err(UsageError::Both("--cert", "-f")),
            (Some(_), ..) => Err(UsageError::Both("--cert", "-k")),
            (_, Some(_), ..) => Err(UsageError::Both("-f", "-k")),
        }
    }

    /// The agent's API version, if it was given.
    ///
    /// # Errors
    /// [`UsageError::BadVersion`].
    pub fn version(&self) -> Result<Option<ApiVersion>, UsageError> {
        let text = self.agent_api_version.as_ref();
        let text = text.or(self.supported_version.as_ref());
        let parse = |text: &String| {
            ApiVersion::parse(text).ok_or_else(|| UsageError::BadVersion { text: text.clone() })
        };
        text.map(parse).transpose()
    }

    /// A warning for each deprecated option that was given; it names what replaces it.
    #[must_use]
    pub fn deprecated(&self) -> Vec<String> {
        let version = self.supported_version.is_some();
        let version = version.then_some(("--supported-version", "--agent-api-version"));
        let given = self.policies.deprecated().into_iter().chain(version);
        given
            .map(|(option, instead)| format!("warning: {option} is deprecated, use {instead}"))
            .collect()
    }

    /// The hash that the EK must have, in lowercase.
    ///
    /// # Errors
    /// [`UsageError::BadHash`].
    pub fn expected_ek(&self) -> Result<Option<String>, UsageError> {
        let lower = self.ek_hash.as_ref().map(|hash| hash.to_ascii_lowercase());
        match lower {
            Some(hash) if !is_hash(&hash) => Err(UsageError::BadHash),
            hash => Ok(hash),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::argv::expand;

    fn parse(text: &str) -> Arguments {
        let words = format!("keylime_tenant {text}");
        Arguments::try_parse_from(expand(words.split_whitespace().map(Into::into))).unwrap()
    }

    #[test]
    fn the_parser_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_documented_words_mean_what_they_say() {
        let arguments = parse("-t 10.0.0.7 --cert myca --include payload");
        assert_eq!(arguments.command, "add");
        assert_eq!(arguments.targethost.as_deref(), Some("10.0.0.7"));
        let wanted = PayloadSource::Package {
            ca: "myca".into(),
            include: Some("payload".into()),
        };
        assert_eq!(arguments.payload_source("ca".into()), Ok(wanted));
    }

    #[test]
    fn every_option_of_keylime_is_understood() {
        let arguments = parse(
            "-c update -t h -tp 1 -v v -vp 2 -vi id -r r -rp 3 -u node -nvc --cv_targethost w --verify --tpm_policy {}",
        );
        let ports = (
            arguments.targetport,
            arguments.verifier_port,
            arguments.registrar_port,
        );
        assert_eq!(ports, (Some(1), Some(2), Some(3)));
        assert_eq!(arguments.verifier_ip.as_deref(), Some("v"));
        assert_eq!(arguments.registrar_ip.as_deref(), Some("r"));
        assert_eq!(arguments.node().unwrap().unwrap().as_str(), "node");
        assert!(arguments.verify && arguments.no_verifier_check);
    }

    #[test]
    fn a_command_stands_alone_or_after_its_option() {
        for text in ["watch --once", "--once watch", "-c watch --once"] {
            let arguments = parse(text);
            assert_eq!(
                (arguments.command_name(), arguments.push.once),
                ("watch", true),
                "{text}"
            );
        }
        assert_eq!(parse("-t h").command_name(), "add");
        let both = ["keyhalf-tenant", "-c", "add", "watch"];
        assert!(Arguments::try_parse_from(both).is_err());
        let wait = |text: &str| parse(text).push.wait;
        assert_eq!(wait("--wait 30 -u node"), Some(Some(30)));
        assert_eq!(
            (wait("--wait -u node"), wait("-u node")),
            (Some(None), None)
        );
        assert_eq!(parse("--cap-value 00,01").push.cap_value, ["00", "01"]);
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(
            parse("-t a -t b -tp 1 -tp 2").targethost.as_deref(),
            Some("b")
        );
    }

    #[test]
    fn a_node_gets_one_payload() {
        let rows = [
            ("none", "-t h", Ok(PayloadSource::None)),
            (
                "default CA",
                "--cert default",
                Ok(PayloadSource::Package {
                    ca: "/d/ca".into(),
                    include: None,
                }),
            ),
            ("file", "-f x", Ok(PayloadSource::File("x".into()))),
            (
                "sealed",
                "-k k -p p",
                Ok(PayloadSource::Sealed {
                    key: "k".into(),
                    payload: "p".into(),
                }),
            ),
            (
                "include alone",
                "--include x",
                Err(UsageError::Needs("--include", "--cert")),
            ),
            ("key alone", "-k k", Err(UsageError::Needs("-k", "-p"))),
            ("payload alone", "-p p", Err(UsageError::Needs("-p", "-k"))),
            (
                "cert and file",
                "--cert c -f x",
                Err(UsageError::Both("--cert", "-f")),
            ),
            (
                "cert and key",
                "--cert c -k k -p p",
                Err(UsageError::Both("--cert", "-k")),
            ),
            (
                "file and key",
                "-f x -k k -p p",
                Err(UsageError::Both("-f", "-k")),
            ),
        ];
        for (name, text, wanted) in rows {
            assert_eq!(parse(text).payload_source("/d/ca".into()), wanted, "{name}");
        }
    }
}
