//! `ca create`: a certificate for anything.

use std::net::IpAddr;

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::{Authority, as_json, date, days};
use crate::ca::{KeyType, LeafWish, Usage};
use crate::cli::Place;
use crate::error::Failure;
use crate::report::Report;

/// What the certificate is for.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// Its name: the common name, and the names of its files.
    pub name: String,

    /// Its side of a connection.
    #[arg(long, value_enum, default_value_t)]
    pub usage: Usage,

    /// A host name that it is good for; may be given several times [default, but for a client: its name, if that is one].
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,

    /// An address that it is good for; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Vec<IpAddr>,

    /// How long it is valid, but never longer than the authority [default: 365]. It begins two days ago, for clocks that are slow.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,

    /// Its key: ecdsa, rsa:2048, rsa:3072 or rsa:4096.
    #[arg(long, value_name = "TYPE", default_value_t)]
    pub key_type: KeyType,

    /// Where it says that the revocation list is, or `none` [default: at the registrar, unless that is on this machine].
    #[arg(long, value_name = "URL")]
    pub crl_url: Option<String>,

    /// Where the authority is.
    #[command(flatten)]
    pub place: Place,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let mut authority = Authority::of(&arguments.place)?;
    let now = OffsetDateTime::now_utc();
    let wish = LeafWish {
        name: arguments.name.clone(),
        usage: arguments.usage,
        dns: arguments.dns.clone(),
        addresses: arguments.ip.clone(),
        life: days(arguments.days),
        key_type: arguments.key_type,
    };
    let mut ca = authority.open()?;
    if let Some(url) = &arguments.crl_url {
        let registrar = &authority.settings.registrar.host;
        ca.point_to(&crate::ca::ListPoint::of(Some(url), registrar))?;
    }
    let made = ca.make(&wish, authority.passphrase(), now)?;
    let issued = &made.issued;
    let list = match &made.list_url {
        Some(url) => format!("it says that its revocation list is at {url}"),
        None => "it doesn't say where its revocation list is (--crl-url)".to_owned(),
    };
    let text = format!(
        "{}: certificate {}, until {}\n  {}\n  {}\n{list}",
        issued.name,
        issued.serial,
        date(issued.not_after),
        made.certificate.display(),
        made.private_key.display(),
    );
    let json = json!({
        "command": "ca create", "issued": as_json(issued, now), "certificate": made.certificate.display().to_string(),
        "private_key": made.private_key.display().to_string(), "crl_url": made.list_url,
    });
    Ok(Report::done(text, json))
}
