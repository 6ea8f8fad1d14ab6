//! `ca init`: a new authority.

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::Authority;
use crate::ca::{CaDirectory, KeyType};
use crate::cli::{Place, ask_twice, can_ask};
use crate::error::Failure;
use crate::report::Report;

/// Where it is made, and with what keys.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// The key of the authority: ecdsa, rsa:2048, rsa:3072 or rsa:4096.
    #[arg(long, value_name = "TYPE", default_value_t)]
    pub key_type: KeyType,

    /// Leave the keys in clear, readable by their owner alone, without asking for a passphrase.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub no_passphrase: bool,

    /// Where it is.
    #[command(flatten)]
    pub place: Place,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let mut authority = Authority::of(&arguments.place)?;
    let asks = authority.passphrase().is_none() && !arguments.no_passphrase && can_ask();
    if asks {
        let place = authority.directory.display();
        authority.typed = ask_twice(&format!(
            "Passphrase for the keys in {place} (empty for none): "
        ))?;
    }
    let (now, passphrase) = (OffsetDateTime::now_utc(), authority.passphrase());
    let passphrase = passphrase.filter(|_| !arguments.no_passphrase);
    let key_type = arguments.key_type;
    let ca = CaDirectory::create(&authority.directory, key_type, passphrase, now)?;
    let (place, anchor) = (ca.path().display(), ca.files().anchor()?);
    let keys = match passphrase {
        Some(_) => "its keys are encrypted",
        None => "its keys are in clear: keep the directory to yourself",
    };
    let text = format!(
        "made a certificate authority in {place}; {keys}\n`keyhalf-tenant -c add ... --cert {place}` delivers certificates of it, `ca create` makes others"
    );
    let json = json!({
        "command": "ca init", "directory": place.to_string(), "key_type": key_type.to_string(), "anchor": anchor,
        "encrypted": passphrase.is_some(),
    });
    Ok(Report::done(text, json))
}
