//! `keyhalf-tenant policy`: policies are made, checked, compared and signed, with files alone unless an action says otherwise.

use std::ffi::OsString;
use std::path::Path;

use clap::{Parser, Subcommand};

use super::{Arguments, argv};
use crate::commands::tools::{create, diff, explain, lint, next_boot, sign, verify};

/// The first word that asks for a tool.
pub(super) const WORD: &str = "policy";

/// The name that Keylime's scripts call the program by; they know no tools.
const KEYLIMES_NAME: &str = "keylime_tenant";

const EXAMPLES: &str = "\
Examples:
  keyhalf-tenant policy create runtime --dpkg-root / --initrd /boot/initrd.img --exclude '/var/lib/app/cache/' -o policy.json
      Allow what Debian packages brought and what is in the initramfs; look at nothing below /var/lib/app/cache.
  keyhalf-tenant policy create runtime --merge policy.json --deb app_2.0_amd64.deb -o policy.json --force
      Allow the files of an update too, before it is installed.
  keyhalf-tenant policy create runtime --ima-log /sys/kernel/security/ima/ascii_runtime_measurements --keyrings -o policy.json
      Allow what this machine has measured since it booted.
  keyhalf-tenant policy create tpm --pcrs 0-4,7 -u NODE -- -r 10.0.0.1
      Want from a node what its TPM signs that its PCRs hold now.
  keyhalf-tenant policy create measured-boot --event-log binary_bios_measurements -o boot.json
      Want from a boot log what this one shows, by rules for the way in which its machine boots.
  keyhalf-tenant policy lint policy.json
      Look for what is wrong, or probably not meant.
  keyhalf-tenant policy diff policy.json new.json
      Show what was added, removed and changed.
  keyhalf-tenant policy explain --agent NODE -- -v 10.0.0.1
      Say which PCR, line or event failed a node, and what would have allowed it.
  keyhalf-tenant policy explain --agent NODE --runtime-policy new.json -- -v 10.0.0.1
      Try a policy on what the node showed, before it is given to the verifier.
  keyhalf-tenant policy sign policy.json --keygen signer-private.pem --public-key signer.pem -o signed.json
      Make a key and sign with it; the next time --key names it.
  keyhalf-tenant policy verify signed.json --key signer.pem
      Check who signed a runtime policy, and that it is one.
  keyhalf-tenant policy next-boot --uki new.efi -u NODE -o both.json
      Allow a node to boot a new unified kernel image too: PCRs 4 and 11 as the file says, beside what the verifier wants now. Give it
      by `-c update ... --tpm_policy \"$(cat both.json)\"`; once the node has booted it, --drop-old leaves the new values alone.

Exit codes:
  0 it happened, no error was found, the policies are the same   1 errors were found, the policies differ, something else
  2 command line   3 a file of this machine   4, 5 as `keyhalf-tenant --help` says, for what asks a node";

/// Makes, checks, compares and signs policies. `keyhalf-tenant -c addruntimepolicy` and its like give them to a verifier.
#[derive(Clone, Debug, Parser)]
#[command(name = "keyhalf-tenant policy", bin_name = "keyhalf-tenant policy", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct ToolArguments {
    /// What to do.
    #[command(subcommand)]
    pub tool: Tool,

    /// One JSON document on standard output; everything else goes to standard error.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The actions; each has a file of its own in `commands/tools`, with its arguments and what it does.
#[derive(Clone, Debug, Subcommand)]
pub enum Tool {
    /// Make a policy of what is there: files, images, packages, logs, PCRs.
    #[command(subcommand)]
    Create(create::Create),
    /// Look for what is wrong in a policy of any kind, or probably not meant.
    Lint(lint::Arguments),
    /// Show what two policies of one kind differ in.
    Diff(diff::Arguments),
    /// Say why what a node showed passes its policies or doesn't, and what would have allowed it.
    Explain(explain::Arguments),
    /// Sign a runtime policy (DSSE), as `keylime-policy sign runtime` does.
    Sign(sign::Arguments),
    /// Compute what the next boot will measure, and allow it beside the present one.
    NextBoot(next_boot::Arguments),
    /// Check the signature of a runtime policy, and what was signed.
    Verify(verify::Arguments),
}

/// The words of a tool's command line, if it is one, such as `keyhalf-tenant policy ...`. The program's Keylime name has none.
pub(super) fn words<'a>(argv: &'a [OsString], tool: &str) -> Option<&'a [OsString]> {
    let [program, word, ..] = argv else {
        return None;
    };
    let is_keylimes = Path::new(program).file_name() == Some(KEYLIMES_NAME.as_ref());
    // The first word stands where a parser expects the program's name.
    (word == tool && !is_keylimes).then(|| argv.get(1..).unwrap_or_default())
}

/// The tenant's own arguments for a node, from its identifier and options for reaching it.
///
/// # Errors
/// What the parser says.
pub(crate) fn node_arguments(uuid: &str, options: &[OsString]) -> Result<Arguments, String> {
    let own = ["keyhalf-tenant", "-u", uuid].map(OsString::from);
    let words = argv::expand(own.into_iter().chain(options.iter().cloned()));
    Arguments::try_parse_from(words).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        ToolArguments::command().debug_assert();
    }

    #[test]
    fn the_first_word_asks_for_a_tool() {
        let rows = [
            ("a tool", "keyhalf-tenant policy verify", true),
            ("by path", "/usr/bin/keyhalf-tenant policy", true),
            ("Keylime's name", "/usr/bin/keylime_tenant policy", false),
            ("a command", "keyhalf-tenant -c add", false),
            ("later", "keyhalf-tenant --json policy", false),
            ("nothing", "keyhalf-tenant", false),
        ];
        for (name, text, wanted) in rows {
            let argv: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            assert_eq!(words(&argv, WORD).is_some(), wanted, "{name}");
        }
    }
}
