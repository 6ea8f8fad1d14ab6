//! `ca revoke`: a certificate isn't to be taken any more.

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::{Authority, as_json};
use crate::ca::Reason;
use crate::cli::Place;
use crate::error::Failure;
use crate::report::Report;

/// Which certificate, and why.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// Its name, such as a node's identifier (all of that name that haven't ended), or its serial number.
    #[arg(value_name = "NAME|SERIAL")]
    pub which: String,

    /// Why: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn.
    #[arg(long, value_name = "REASON", default_value_t = Reason::UNSPECIFIED)]
    pub reason: Reason,

    /// Where the authority is.
    #[command(flatten)]
    pub place: Place,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let mut authority = Authority::of(&arguments.place)?;
    let (ca, now) = (authority.open()?, OffsetDateTime::now_utc());
    let which = &arguments.which;
    let marked = ca.revoke(which, arguments.reason, now)?;
    // The list may have been lost where the mark wasn't.
    let list = ca.list(0, now)?;
    let serials: Vec<String> = marked
        .iter()
        .map(|issued| issued.serial.to_string())
        .collect();
    let what = match serials.is_empty() {
        true => format!("{which} was revoked before, or has ended"),
        false => format!("{which}: revoked certificate {}", serials.join(", ")),
    };
    let text = format!(
        "{what}; list {} in {} says so\n`keyhalf-tenant ca crl` gives it to the verifier, and so to nodes and to crl.der of the registrar",
        list.number,
        ca.path().join("cacrl.pem").display()
    );
    let marked: Vec<_> = marked.iter().map(|issued| as_json(issued, now)).collect();
    let json = json!({ "command": "ca revoke", "revoked": marked, "crl_number": list.number });
    Ok(Report::done(text, json))
}
