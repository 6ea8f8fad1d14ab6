//! `ca list`: every certificate of the authority.

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::{Authority, as_json, date, state};
use crate::ca::{CaFiles, Issued};
use crate::cli::Place;
use crate::error::Failure;
use crate::report::Report;

/// Where the authority is.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// Where the authority is. No passphrase is needed.
    #[command(flatten)]
    pub place: Place,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let authority = Authority::of(&arguments.place)?;
    let (files, now) = (
        CaFiles::open(&authority.directory)?,
        OffsetDateTime::now_utc(),
    );
    let issued = files.issued()?;
    let width = issued.iter().map(|issued| issued.name.len()).max();
    let ca = files.name()?;
    let lines = issued.iter().map(|issued| {
        let line = line(issued, width.unwrap_or(0), now);
        match issued.name == ca {
            true => format!("{line}, for signing lists"),
            false => line,
        }
    });
    let lines: Vec<String> = lines.collect();
    let text = match lines.is_empty() {
        true => "it has issued nothing yet".to_owned(),
        false => lines.join("\n"),
    };
    let certificates: Vec<_> = issued.iter().map(|issued| as_json(issued, now)).collect();
    let json = json!({
        "command": "ca list", "directory": files.path().display().to_string(), "anchor": files.anchor()?,
        "certificates": certificates,
    });
    Ok(Report::done(text, json))
}

fn line(issued: &Issued, width: usize, now: OffsetDateTime) -> String {
    let (serial, name) = (issued.serial, &issued.name);
    let (end, state) = (date(issued.not_after), state(issued, now));
    let revoked = issued.revoked.map_or_else(String::new, |revoked| {
        format!(" {} ({})", date(revoked.at), revoked.reason)
    });
    format!("{serial:>6}  {name:width$}  until {end}  {state}{revoked}")
}
