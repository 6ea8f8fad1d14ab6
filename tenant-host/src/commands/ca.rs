//! `keyhalf-tenant ca`: each action in a file of its own, with its arguments.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ca::{CaDirectory, CaError, Issued, Passphrase};
use crate::cli::{Arguments, CaTool, Place, Settings, UsageError, ask, can_ask};
use crate::error::Failure;
use crate::report::{Output, Report};

pub mod create;
pub mod crl;
pub mod delegate;
pub mod export;
pub mod init;
pub mod list;
pub mod revoke;

/// Does what was asked.
///
/// # Errors
/// [`Failure`]: why it didn't happen.
pub async fn run(tool: &CaTool, output: &Output) -> Result<Report, Failure> {
    match tool {
        CaTool::Init(arguments) => init::run(arguments),
        CaTool::Create(arguments) => create::run(arguments),
        CaTool::List(arguments) => list::run(arguments),
        CaTool::Revoke(arguments) => revoke::run(arguments),
        CaTool::Crl(arguments) => crl::run(arguments, output).await,
        CaTool::DelegateCrl(arguments) => delegate::run(arguments, output).await,
        CaTool::Export(arguments) => export::run(arguments),
    }
}

/// The authority that is meant, and what is needed to open it.
struct Authority {
    directory: PathBuf,
    arguments: Arguments,
    settings: Arc<Settings>,
    /// What somebody typed.
    typed: Option<Passphrase>,
}

impl Authority {
    fn of(place: &Place) -> Result<Self, Failure> {
        let arguments = place.arguments().map_err(UsageError::Options)?;
        let settings = Arc::new(Settings::read(&arguments)?);
        let default = || settings.keylime_dir.join("ca");
        let directory = match &place.dir {
            Some(directory) if directory.as_os_str() != "default" => directory.clone(),
            _ => default(),
        };
        Ok(Self {
            directory,
            arguments,
            settings,
            typed: None,
        })
    }

    fn passphrase(&self) -> Option<&Passphrase> {
        self.typed.as_ref().or(self.settings.ca_passphrase.as_ref())
    }

    /// Opens it. If its keys are encrypted and nothing opens them, somebody at the terminal is asked.
    fn open(&mut self) -> Result<CaDirectory, Failure> {
        let opened = match CaDirectory::open(&self.directory, self.passphrase()) {
            Err(CaError::PassphraseNeeded { .. }) if can_ask() => {
                self.typed = ask(&format!("Passphrase of {}: ", self.directory.display()))?;
                CaDirectory::open(&self.directory, self.passphrase())
            }
            opened => opened,
        };
        let mut ca = opened?;
        ca.point_to(&self.settings.list_point)?;
        Ok(ca)
    }
}

/// A time as RFC 3339 writes it, in whole seconds.
fn date(time: OffsetDateTime) -> String {
    let time = time - time::Duration::nanoseconds(time.nanosecond().into());
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Whether a certificate is valid, in a word.
fn state(issued: &Issued, now: OffsetDateTime) -> &'static str {
    match issued.revoked {
        Some(_) => "revoked",
        None if issued.not_after < now => "expired",
        None => "valid",
    }
}

fn as_json(issued: &Issued, now: OffsetDateTime) -> Value {
    let revoked = issued.revoked.map(|revoked| {
        let at = date(revoked.at);
        json!({ "time": at, "reason": revoked.reason.name() })
    });
    json!({
        "serial": issued.serial, "name": issued.name, "not_after": date(issued.not_after), "state": state(issued, now),
        "revoked": revoked,
    })
}

/// The end of a span of days, from an option that the parser has bounded.
fn days(days: Option<u32>) -> Option<time::Duration> {
    days.map(|days| time::Duration::days(days.into()))
}
