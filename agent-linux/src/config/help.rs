//! The text of `--help`, made from the table of options.

use std::fmt::Write;

use super::options::{Group, OPTIONS, Opt};

/// What the program is for and how it starts; the options follow it.
const HELP: &str = "\
keyhalf-agent: proves what this machine booted, and then receives its secrets

Usage: keyhalf-agent serve [OPTIONS]
       keyhalf-agent --help | --version

serve   speaks Keylime's pull model: registers, then answers verifier and tenant over mutual TLS.
        It needs a TPM 2.0, and root (or CAP_SYS_ADMIN) to mount its landing zone.
";

const EXAMPLES: &str = "
Each option is also an environment variable (KEYHALF_PORT, or Keylime's KEYLIME_AGENT_PORT) and a key in the file (port).
Flags win over variables, variables over the file. Sizes take k, m or g. Lists have commas between their items.
What becomes of each key of Keylime's agent.conf: agent-linux/docs/agent-conf.md.

Examples:
  keyhalf-agent serve --ip 192.0.2.7 --registrar-ip 192.0.2.1 --trusted-client-ca /etc/keyhalf/cacert.crt
  keyhalf-agent serve --config /etc/keylime/agent.conf
  keyhalf-agent serve --tcti swtpm:host=127.0.0.1,port=2321 --keylime-dir /tmp/node --log-level debug
";

const GROUPS: [(Group, &str); 6] = [
    (Group::Node, "This node"),
    (Group::Servers, "The others"),
    (Group::Tpm, "TPM"),
    (Group::Payload, "Payload"),
    (Group::Revocation, "Revocation"),
    (Group::Program, "Program"),
];

/// The whole help text.
#[must_use]
pub fn help() -> String {
    let mut text = HELP.to_owned();
    for (group, title) in GROUPS {
        let _ = writeln!(text, "\n{title}:");
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            let _ = writeln!(text, "{}", line(option));
        }
    }
    text + EXAMPLES
}

fn line(option: &Opt) -> String {
    let flag = format!("--{} {}", option.flag(), option.placeholder);
    let mut text = format!("  {flag:<WIDTH$}  {}", option.help);
    if !option.default.is_empty() && !option.is_switch() {
        let _ = write!(text, " [{}]", option.default);
    }
    text
}

/// The longest flag with its placeholder.
const WIDTH: usize = 35;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_option() {
        let text = help();
        for option in OPTIONS {
            assert!(
                text.contains(&format!("--{} ", option.flag())),
                "{}",
                option.key
            );
        }
    }
}
