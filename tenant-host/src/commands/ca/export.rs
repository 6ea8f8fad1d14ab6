//! `ca export`: the files that a server or a client is configured with.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Authority;
use crate::ca::{CaError, CaFiles};
use crate::cli::{Place, ask, can_ask};
use crate::error::Failure;
use crate::report::Report;

/// Which certificate, and where to.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// The certificate's name.
    pub name: String,

    /// The directory for NAME.crt (with the CA's), NAME.key, ca.crt and ca.crl, all in PEM.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Write an encrypted key in clear, for a server that starts by itself.
    #[arg(long)]
    pub decrypt: bool,

    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,

    /// Where the authority is.
    #[command(flatten)]
    pub place: Place,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let mut authority = Authority::of(&arguments.place)?;
    let files = CaFiles::open(&authority.directory)?;
    let export = |authority: &Authority| {
        let decrypt = arguments.decrypt.then_some(authority.passphrase());
        files.export(&arguments.name, &arguments.out, decrypt, arguments.force)
    };
    let exported = match export(&authority) {
        Err(CaError::PassphraseNeeded { .. }) if can_ask() => {
            authority.typed = ask(&format!("Passphrase of {}: ", files.path().display()))?;
            export(&authority)?
        }
        exported => exported?,
    };
    let key = match exported.is_encrypted {
        true => " (encrypted: --decrypt writes it in clear)",
        false => "",
    };
    let text = format!(
        "{}\n{}{key}\n{}\n{}",
        exported.certificate.display(),
        exported.private_key.display(),
        exported.ca.display(),
        exported.list.display()
    );
    let path = |path: &PathBuf| path.display().to_string();
    let json = json!({
        "command": "ca export", "certificate": path(&exported.certificate), "private_key": path(&exported.private_key),
        "ca": path(&exported.ca), "crl": path(&exported.list), "encrypted": exported.is_encrypted,
    });
    Ok(Report::done(text, json))
}
