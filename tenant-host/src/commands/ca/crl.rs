//! `ca crl`: a new revocation list, with what the verifier's logs say, for the verifier to hand out.

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use verifier_host::revocation::told::MadeEntry;

use super::{Authority, as_json, date, days};
use crate::ca::{CaFiles, Crl, Issued};
use crate::cli::Place;
use crate::client::Verifier;
use crate::commands::Context;
use crate::commands::logs::{self, Heard};
use crate::error::Failure;
use crate::report::{Output, Report};

/// How long the list is valid, and who gets it.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// When the next list has to be there at the latest [default: 30].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,

    /// Fail if the verifier can't be asked or doesn't take the list; without, that is a warning.
    #[arg(long, conflicts_with = "offline")]
    pub post: bool,

    /// Ask no verifier, and give it nothing.
    #[arg(long)]
    pub offline: bool,

    /// Where the authority is.
    #[command(flatten)]
    pub place: Place,
}

pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    let mut authority = Authority::of(&arguments.place)?;
    let asks = match (arguments.offline, arguments.post) {
        (true, _) => Asks::Nobody,
        (false, true) => Asks::Must,
        (false, false) => Asks::May,
    };
    let signed = sign(&mut authority, days(arguments.days), asks, output).await?;
    Ok(Report::done(signed.text(&authority), signed.json("ca crl")))
}

/// Whether the verifier is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// It isn't.
    Nobody,
    /// If it can't be, that is said, and the list is signed all the same.
    May,
    /// If it can't be, nothing is signed.
    Must,
}

/// A list that was signed, and what came of it.
pub(super) struct Signed {
    list: Crl,
    imported: Vec<Issued>,
    /// What the verifier made of it; `None` if it wasn't given it.
    entries: Option<Vec<Value>>,
}

/// Takes what the verifier's logs say, signs a list, and gives it to the verifier.
pub(super) async fn sign(
    authority: &mut Authority,
    life: Option<time::Duration>,
    asks: Asks,
    output: &Output,
) -> Result<Signed, Failure> {
    // Not kept open, and so locked, while the verifier is asked.
    let seen = CaFiles::open(&authority.directory)?.seen()?;
    let (arguments, settings) = (authority.arguments.clone(), authority.settings.clone());
    let mut context = match asks {
        Asks::Nobody => None,
        _ => tolerate(Context::new(&arguments, &settings, output), asks, output)?,
    };
    let heard = match &mut context {
        Some(context) => {
            let heard = Heard::ask(&mut context.verifier, &seen).await;
            tolerate(heard.map_err(Failure::from), asks, output)?
        }
        None => None,
    };
    let heard = match heard {
        Some(Some(heard)) => Some(heard),
        Some(None) => {
            let endpoint = settings.verifier.clone();
            let none = crate::client::ClientError::NoRevocations { endpoint };
            tolerate(Err(none.into()), asks, output)?
        }
        None => None,
    };
    let warnings = heard.iter().flat_map(|heard| &heard.warnings);
    warnings.for_each(|warning| output.say(warning));
    let (imported, list) = {
        let ca = authority.open()?;
        let imported = heard.as_ref().map(|heard| heard.apply(&ca)).transpose()?;
        let known = heard.as_ref().map_or(0, |heard| heard.known_list);
        let list = ca.sign_list(known, life, OffsetDateTime::now_utc())?;
        (imported.unwrap_or_default(), list)
    };
    let mut entries = None;
    if let (Some(context), Some(heard)) = (&mut context, &heard) {
        let given = give(&mut context.verifier, heard, &seen.anchor, &list).await;
        entries = tolerate(given, asks, output)?.map(|entries| {
            let entry = |entry| serde_json::to_value(entry).unwrap_or_default();
            entries.iter().map(entry).collect()
        });
    }
    Ok(Signed {
        list,
        imported,
        entries,
    })
}

async fn give(
    verifier: &mut Verifier,
    heard: &Heard,
    anchor: &str,
    list: &Crl,
) -> Result<Vec<MadeEntry>, Failure> {
    logs::begin_first(verifier, heard, anchor).await?;
    logs::give(verifier, anchor, list).await
}

/// What went wrong with the verifier, unless that is to be said only.
fn tolerate<T>(
    result: Result<T, Failure>,
    asks: Asks,
    output: &Output,
) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ (Failure::Client(_) | Failure::Tls(_) | Failure::ListNotTaken { .. }))
            if asks == Asks::May =>
        {
            output.say(&format!(
                "warning: {error}. Failed nodes that only it knows of may be missing, and it isn't given the list (--offline leaves it alone)"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Signed {
    pub(super) fn text(&self, authority: &Authority) -> String {
        let list = &self.list;
        let path = authority.directory.join("cacrl.pem");
        let mut text = format!(
            "list {} in {}: {} revoked, the next one by {}",
            list.number,
            path.display(),
            list.revoked,
            date(list.next_update)
        );
        for issued in &self.imported {
            let (serial, name) = (issued.serial, &issued.name);
            text.push_str(&format!("\nrevoked by the verifier's log: {serial} {name}"));
        }
        match self.entries.as_ref().map(Vec::len) {
            None => text.push_str("\nit wasn't given to a verifier"),
            Some(0) => text.push_str("\nthe verifier has it; no node is to be told yet"),
            Some(logs) => text.push_str(&format!(
                "\nthe verifier has it, and tells the nodes of {logs} log{}",
                if logs == 1 { "" } else { "s" }
            )),
        }
        text
    }

    pub(super) fn json(&self, command: &str) -> Value {
        let now = OffsetDateTime::now_utc();
        let imported = self.imported.iter().map(|issued| as_json(issued, now));
        json!({
            "command": command, "crl_number": self.list.number, "next_update": date(self.list.next_update),
            "revoked": self.list.revoked, "imported": imported.collect::<Vec<_>>(), "posted": self.entries.is_some(),
            "entries": self.entries,
        })
    }
}
