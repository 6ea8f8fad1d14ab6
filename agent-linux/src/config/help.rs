//! The texts of `--help`, made from the table of options.

use std::fmt::Write;

use super::Command;
use super::options::{Group, OPTIONS, Opt};
use crate::exit::Exit;

/// What the program is for and how it starts.
const HELP: &str = "\
keyhalf-agent: proves what this machine booted, and then receives its secrets

Usage: keyhalf-agent COMMAND [OPTIONS]
       keyhalf-agent COMMAND --help
       keyhalf-agent --help | --version

";

const SOURCES: &str = "
Each option is also an environment variable (KEYHALF_TCTI, or Keylime's KEYLIME_AGENT_TCTI) and a key in the file (tcti).
Flags win over variables, variables over the kernel command line (keyhalf.uuid=..., for what says where and how long, never for
whom to trust), that over the file. Sizes take k, m or g, times ms, s, m or h. Lists have commas between their items.
What becomes of each key of Keylime's agent.conf: agent-linux/docs/agent-conf.md.
";

const GROUPS: [(Group, &str); 6] = [
    (Group::Node, "This node"),
    (Group::Servers, "The others"),
    (Group::Tpm, "TPM"),
    (Group::Payload, "Payload"),
    (Group::Revocation, "Revocation"),
    (Group::Program, "Program"),
];

/// What a command is for, in one line.
const fn summary(command: Command) -> &'static str {
    match command {
        Command::Serve => {
            "speaks Keylime's pull model: registers, then answers verifier and tenant"
        }
        Command::Push => "calls the verifier and attests, again and again; receives payloads",
        Command::Provision => "calls the verifier once: proves, receives, runs, reports, ends",
        Command::Cap => "ends this boot's chance of a payload, alone and offline",
        Command::Floor => "shows the counter against old payloads, or makes it",
        Command::InstallInitramfs => {
            "puts what an initramfs takes where dracut or initramfs-tools looks"
        }
    }
}

/// How a command works, and how it is used.
const fn lesson(command: Command) -> (&'static str, &'static str) {
    match command {
        Command::Serve => (
            "\
It registers, then answers verifier and tenant over mutual TLS. It needs a TPM 2.0, and root (or CAP_SYS_ADMIN) to mount its
landing zone.
",
            "\
  keyhalf-agent serve --ip 192.0.2.7 --registrar-ip 192.0.2.1 --trusted-client-ca /etc/keyhalf/cacert.crt
  keyhalf-agent serve --config /etc/keylime/agent.conf
  keyhalf-agent serve --tcti swtpm:host=127.0.0.1,port=2321 --keylime-dir /tmp/node --log-level debug
",
        ),
        Command::Push => (
            "\
It opens every connection itself and listens nowhere, so it works behind NAT. Keylime's verifier in push mode and keyhalf's
serve it; a payload comes from keyhalf's alone, and counts only with the signature of a --tenant-signer.
",
            "\
  keyhalf-agent push --verifier-url https://verifier.example:8881 --verifier-tls-ca-cert /etc/keyhalf/cacert.crt
  keyhalf-agent push --verifier-url https://192.0.2.1:8881,https://[2001:db8::1]:8881 --verifier-cert sha256:HEX \\
      --tenant-signer /etc/keyhalf/signer.pem --spool-dir /var/lib/keyhalf
",
        ),
        Command::Provision => (
            "\
For an initramfs or a oneshot unit: over one TLS connection it registers if needed, proves what was booted, fetches the sealed
payload, opens it, unpacks it into --landing-dir, caps this boot, runs its script, and reports. Nothing secret is written to a disk.
It waits for the TPM to appear, and tries again what may still succeed, until --deadline. Once it asked for the secret, every way
out caps this boot; if it may have been killed, run 'keyhalf-agent cap' after it (ExecStopPost=, or the initramfs hook).
The clock may be wrong: certificates are checked against the later of it and the time when this program was built.
",
            "\
  keyhalf-agent provision --verifier-url https://verifier.example:8881 --verifier-cert /etc/keyhalf/verifier.pem \\
      --tenant-signer /etc/keyhalf/signer.pem --deadline 30s
  keyhalf-agent provision --config /etc/keyhalf/agent.conf || keyhalf-agent cap
",
        ),
        Command::Cap => (
            "\
It extends one PCR in every bank of the TPM. From then on, until the machine is reset, no verifier releases a payload to this
boot, and no kept copy opens. Capping again does no harm. Nothing is contacted but the TPM, no key is made, and a configuration
that can't be read is passed over. Exit code 0 says that this boot is capped; any other, that it may not be.
",
            "\
  keyhalf-agent cap
  keyhalf-agent cap --cap-pcr 14 --tcti device:/dev/tpmrm0
",
        ),
        Command::Floor => (
            "\
It prints the counter's value. A payload that was sealed below it is refused, so an old one can't come back. Each node that shall
notice that needs the counter before its first payload is sealed; without one everything else works.
Nothing is contacted but the TPM. Where there is no counter the exit code is 13.

  --create                             make it if it isn't there: needs an owner hierarchy without a password
",
            "\
  keyhalf-agent floor
  keyhalf-agent floor --create
",
        ),
        #[cfg(not(feature = "install"))]
        Command::InstallInitramfs => ("", ""),
        #[cfg(feature = "install")]
        Command::InstallInitramfs => (
            "\
It writes dracut's module, or the hook and scripts of initramfs-tools, which are inside this program, and says what to run next.
Files that it wrote before are replaced, others never; it keeps the checksums of its own in /usr/share/keyhalf. Exit code 1 says
that nothing was written, or not all. No configuration is read, and no TPM asked.

  --dracut                             for dracut (default: whichever the system has)
  --initramfs-tools                    for initramfs-tools
  --root DIR                           into the system below this directory
  --dry-run                            only say what would be written
  --force                              replace files that it didn't write, too
",
            "\
  keyhalf-agent install-initramfs
  keyhalf-agent install-initramfs --initramfs-tools --root /mnt --dry-run
",
        ),
    }
}

/// The whole help text: of the program, or of one command.
#[must_use]
pub fn help(command: Option<Command>) -> String {
    let mut text = String::new();
    match command {
        None => overview(&mut text),
        Some(command) => of(command, &mut text),
    }
    text.push_str("\nExit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {:>2}  {}", exit.code(), exit.text());
    }
    text
}

fn overview(text: &mut String) {
    text.push_str(HELP);
    for command in Command::ALL {
        let name = command.name();
        let missing = if command.is_built() {
            ""
        } else {
            " (not in this build)"
        };
        let _ = writeln!(text, "{name:<19}{}{missing}", summary(command));
    }
    text.push_str(SOURCES);
}

fn of(command: Command, text: &mut String) {
    let (how, examples) = lesson(command);
    let name = command.name();
    let _ = writeln!(text, "keyhalf-agent {name}: {}\n", summary(command));
    let _ = writeln!(text, "Usage: keyhalf-agent {name} [OPTIONS]\n");
    text.push_str(how);
    for (group, title) in GROUPS {
        let options = || {
            let all = OPTIONS.iter();
            all.filter(|option| option.group == group && option.is_for(command))
        };
        if options().next().is_some() {
            let _ = writeln!(text, "\n{title}:");
        }
        for option in options() {
            let _ = writeln!(text, "{}", line(option));
        }
    }
    if OPTIONS.iter().any(|option| option.is_for(command)) {
        text.push_str(SOURCES);
    }
    let _ = write!(text, "\nExamples:\n{examples}");
}

fn line(option: &Opt) -> String {
    let flag = format!("--{} {}", option.flag(), option.placeholder);
    let mut text = format!("  {flag:<WIDTH$}  {}", option.help);
    if !option.default.is_empty() && !option.is_switch() {
        let _ = write!(text, " [{}]", option.default);
    }
    text
}

/// The longest usual flag with its placeholder.
const WIDTH: usize = 35;

#[cfg(test)]
mod tests {
    use super::super::command::CREATE;
    use super::*;

    #[test]
    fn each_command_names_what_it_takes() {
        for command in Command::ALL {
            let text = help(Some(command));
            for option in OPTIONS {
                let named = text.contains(&format!("  --{} ", option.flag()));
                assert_eq!(named, option.is_for(command), "{command:?} {}", option.key);
            }
            let created = text.contains(&format!("--{CREATE}"));
            assert_eq!(created, command == Command::Floor);
        }
    }

    #[test]
    fn exit_codes_are_in_every_help() {
        let overview = help(None);
        for command in Command::ALL {
            assert!(overview.contains(&format!("\n{} ", command.name())));
        }
        for text in Command::ALL.map(|command| help(Some(command))) {
            for exit in Exit::ALL {
                let line = format!("\n  {:>2}  {}\n", exit.code(), exit.text());
                assert!(text.contains(&line) && overview.contains(&line));
            }
        }
    }
}
