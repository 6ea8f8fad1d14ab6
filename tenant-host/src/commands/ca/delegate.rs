//! `ca delegate-crl`: the verifier signs revocation lists by itself, or no longer.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use clap::Args;
use serde_json::json;
use time::OffsetDateTime;
use verifier_host::revocation::told::{NoSigner, Signer};

use super::crl::{self, Asks};
use super::{Authority, date, days};
use crate::ca::{CaFiles, Reason, has_room_for_signer};
use crate::cli::Place;
use crate::client::ClientError;
use crate::commands::Context;
use crate::commands::logs::{self, Heard};
use crate::error::Failure;
use crate::report::{Output, Report};

/// How long it may, and how the key gets there.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// How long the key may sign [default: 90].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,

    /// Write certificate and key (in clear) into this directory, and give the verifier nothing.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["post", "withdraw"])]
    pub out: Option<PathBuf>,

    /// Give them to the verifier; so it is without --out too.
    #[arg(long)]
    pub post: bool,

    /// Have the verifier forget its key, revoke the key's certificate, and sign a list with the authority's own key.
    #[arg(long, conflicts_with_all = ["post", "days"])]
    pub withdraw: bool,

    /// Where the authority is.
    #[command(flatten)]
    pub place: Place,
}

pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    let mut authority = Authority::of(&arguments.place)?;
    if arguments.withdraw {
        return withdraw(&mut authority, output).await;
    }
    let now = OffsetDateTime::now_utc();
    if let Some(out) = &arguments.out {
        // No key is made that can't be kept.
        has_room_for_signer(out)?;
        let signer = authority.open()?.list_signer(days(arguments.days), now)?;
        signer.write(out)?;
        let text = format!(
            "certificate {} and its key are in {}: it may sign revocation lists until {}",
            signer.serial,
            out.display(),
            date(signer.not_after)
        );
        let json = json!({
            "command": "ca delegate-crl", "serial": signer.serial, "not_after": date(signer.not_after),
            "directory": out.display().to_string(), "posted": false,
        });
        return Ok(Report::done(text, json));
    }
    let seen = CaFiles::open(&authority.directory)?.seen()?;
    let (options, settings) = (authority.arguments.clone(), authority.settings.clone());
    let mut context = Context::new(&options, &settings, output)?;
    // No key is made for a verifier that isn't there.
    let Some(heard) = Heard::ask(&mut context.verifier, &seen).await? else {
        let endpoint = settings.verifier.clone();
        return Err(ClientError::NoRevocations { endpoint }.into());
    };
    logs::begin_first(&mut context.verifier, &heard, &seen.anchor).await?;
    let signer = authority.open()?.list_signer(days(arguments.days), now)?;
    let list = CaFiles::open(&authority.directory)?.list_der()?;
    let body = Signer {
        anchor: seen.anchor,
        certificate: signer.certificate_pem.clone(),
        key: signer.private_pem.clone(),
        crl: Some(BASE64.encode(list)),
    };
    context.verifier.give_list_signer(&body).await?;
    let text = format!(
        "the verifier signs revocation lists by itself from now on, until {} (certificate {})\nnot every program takes such lists: docs/certificates.md says which. --withdraw ends it",
        date(signer.not_after),
        signer.serial
    );
    let json = json!({
        "command": "ca delegate-crl", "serial": signer.serial, "not_after": date(signer.not_after), "posted": true,
    });
    Ok(Report::done(text, json))
}

async fn withdraw(authority: &mut Authority, output: &Output) -> Result<Report, Failure> {
    let anchor = CaFiles::open(&authority.directory)?.anchor()?;
    let (options, settings) = (authority.arguments.clone(), authority.settings.clone());
    let mut context = Context::new(&options, &settings, output)?;
    let had_key = context
        .verifier
        .take_list_signer(&NoSigner { anchor })
        .await?;
    let now = OffsetDateTime::now_utc();
    let ended = authority.open()?.end_list_signer(Reason::CESSATION, now)?;
    let signed = crl::sign(authority, None, Asks::Must, output).await?;
    let what = match had_key {
        true => "the verifier signs no revocation lists any more",
        false => "the verifier had no key for revocation lists",
    };
    let text = format!("{what}\n{}", signed.text(authority));
    let mut json = signed.json("ca delegate-crl");
    if let Some(members) = json.as_object_mut() {
        members.insert("withdrawn".to_owned(), had_key.into());
        members.insert("certificate_revoked".to_owned(), ended.into());
    }
    Ok(Report::done(text, json))
}
