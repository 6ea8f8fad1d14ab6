//! `keyhalf-tenant policy`: policies are made, checked, compared and signed, with files alone unless an action says otherwise.

use std::ffi::OsString;
use std::path::Path;

use clap::{Parser, Subcommand};

use crate::commands::tools::{next_boot, verify};

/// The first word that asks for a tool.
const WORD: &str = "policy";

/// The name that Keylime's scripts call the program by; they know no tools.
const KEYLIMES_NAME: &str = "keylime_tenant";

const EXAMPLES: &str = "\
Examples:
  keyhalf-tenant policy verify signed.json --key signer.pem
      Check who signed a runtime policy, and that it is one.
  keyhalf-tenant policy next-boot --uki new.efi --policy now.json >both.json
      Allow a node to boot a new unified kernel image too: PCRs 4 and 11 as the file says, beside the values of now.json. Give both.json
      to `-c update --tpm_policy`; once the node has booted it, `--drop-old` leaves the new values alone.

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
    /// Compute what the next boot will measure, and allow it beside the present one.
    NextBoot(next_boot::Arguments),
    /// Check the signature of a runtime policy, and what was signed.
    Verify(verify::Arguments),
}

/// The words of a tool's command line, if it is one: `keyhalf-tenant policy ...`. The program's Keylime name has none.
pub(super) fn words(argv: &[OsString]) -> Option<&[OsString]> {
    let [program, word, ..] = argv else {
        return None;
    };
    let is_keylimes = Path::new(program).file_name() == Some(KEYLIMES_NAME.as_ref());
    // The first word stands where a parser expects the program's name.
    (word == WORD && !is_keylimes).then(|| argv.get(1..).unwrap_or_default())
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
            assert_eq!(words(&argv).is_some(), wanted, "{name}");
        }
    }
}
