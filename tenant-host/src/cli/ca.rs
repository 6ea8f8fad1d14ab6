//! `keyhalf-tenant ca`: the certificate authority, from its making to its revocation lists.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{Arguments, argv};
use crate::commands::ca::{create, crl, delegate, export, init, list, revoke};

/// The first word that asks for the authority.
pub(super) const WORD: &str = "ca";

const EXAMPLES: &str = "\
Examples:
  keyhalf-tenant ca init -d myca
      Make an authority in the directory `myca`, and ask for a passphrase for its keys. `-c add --cert myca` makes one too, without.
  keyhalf-tenant ca create -d myca www.example.org --usage server --dns www.example.org --days 90
      Make a certificate for a web server: myca/www.example.org-cert.crt and its key.
  keyhalf-tenant ca export -d myca www.example.org --out /etc/nginx/tls
      Write what nginx is configured with: www.example.org.crt (with the CA's), www.example.org.key, ca.crt, ca.crl.
  keyhalf-tenant ca list -d myca
      Show every certificate: number, name, end, and whether it is valid, expired or revoked, when and why.
  keyhalf-tenant ca revoke -d myca www.example.org --reason keyCompromise
      Revoke it, and sign a list that says so. To revoke a node, whose peers have to act: `keyhalf-tenant -c revoke -u NODE --cert myca`.
  keyhalf-tenant ca crl -d myca -- -v 10.0.0.1
      Take what the verifier's logs say of failed nodes, sign a new list, and give it to the verifier, for nodes and for
      http://REGISTRAR:8890/crl.der. For cron, once a day; a list is valid for 30 days.
  keyhalf-tenant ca delegate-crl -d myca -- -v 10.0.0.1
      Have the verifier sign lists by itself, at once when a node fails, with a key that can sign nothing else.

Options for reaching the verifier follow after `--`, as `keyhalf-tenant --help` has them: -v, -vp, --tls-dir, --config, ...
Which list serves whom: docs/certificates.md of the tenant.

Exit codes:
  0 it happened   1 something else   2 command line   3 a file of this machine   4 the verifier can't be reached or refuses
  10 there is one already, or no such certificate";

/// Makes and keeps a certificate authority: certificates for nodes and for anything else, their revocation, and lists of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "keyhalf-tenant ca", bin_name = "keyhalf-tenant ca", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct CaArguments {
    /// What to do.
    #[command(subcommand)]
    pub tool: CaTool,

    /// One JSON document on standard output; everything else goes to standard error.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The actions; each has a file of its own in `commands/ca`, with its arguments and what it does.
#[derive(Clone, Debug, Subcommand)]
pub enum CaTool {
    /// Make an authority in a directory; whatever else is there stays.
    Init(init::Arguments),
    /// Make a certificate and its key, for a server, a client, or anything else.
    Create(create::Arguments),
    /// Show every certificate, and whether it is valid.
    List(list::Arguments),
    /// Revoke a certificate, and sign a list that says so.
    Revoke(revoke::Arguments),
    /// Sign a new revocation list, with what the verifier's logs say, and give it to the verifier.
    Crl(crl::Arguments),
    /// Have the verifier sign revocation lists by itself, or end that.
    DelegateCrl(delegate::Arguments),
    /// Write a certificate, its key, the CA's certificate and the list, as servers and clients take them.
    Export(export::Arguments),
}

/// Where the authority is, and how its keys and the verifier are reached.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The authority's directory [default: `ca` in the Keylime directory].
    #[arg(short, long, visible_alias = "cert", value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// A file with the passphrase of its keys (or KEYHALF_CA_PASSPHRASE); else it is asked for, on a terminal.
    #[arg(long, visible_alias = "ca-passphrase-file", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Options for reaching the servers, as `keyhalf-tenant --help` has them: -v, -vp, -r, --tls-dir, ...
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<OsString>,
}

impl Place {
    /// The tenant's own arguments, from the options after `--`.
    ///
    /// # Errors
    /// What the parser says.
    pub(crate) fn arguments(&self) -> Result<Arguments, String> {
        let program = OsString::from("keyhalf-tenant");
        let words = argv::expand([program].into_iter().chain(self.options.iter().cloned()));
        let parsed = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(Arguments {
            ca_passphrase_file: self
                .passphrase_file
                .clone()
                .or(parsed.ca_passphrase_file.clone()),
            ..parsed
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        CaArguments::command().debug_assert();
    }

    #[test]
    fn options_for_servers_follow() {
        let words = "ca crl -d myca --days 7 -- -v 10.0.0.1 -vp 1";
        let parsed = CaArguments::try_parse_from(words.split(' ')).unwrap();
        let CaTool::Crl(crl) = parsed.tool else {
            panic!("{parsed:?}")
        };
        let arguments = crl.place.arguments().unwrap();
        assert_eq!(arguments.verifier_ip.as_deref(), Some("10.0.0.1"));
        assert_eq!(arguments.verifier_port, Some(1));
        assert_eq!(crl.place.dir, Some("myca".into()));
        let wrong = CaArguments::try_parse_from("ca crl -- --no-such".split(' '));
        let CaTool::Crl(crl) = wrong.unwrap().tool else {
            panic!("another command")
        };
        assert!(crl.place.arguments().is_err());
    }
}
