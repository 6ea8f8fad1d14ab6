//! `revoke` and `revocations`: a node isn't to be trusted any more, and whether its peers have acted on that.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use time::OffsetDateTime;
use verifier_host::revocation::told::{EntryOutcomes, MadeEntry, Revoke};

use super::Context;
use super::deliver::Stop;
use super::logs::Heard;
use super::manage::unknown;
use crate::ca::{CaDirectory, CaFiles, Crl, reason_of};
use crate::client::{ClientError, Peer};
use crate::delivery::printable;
use crate::error::{Exit, Failure};
use crate::report::Report;

mod show;
mod tally;

pub(super) use show::{Known, show};
use tally::Tally;

/// How often it is asked who has acted.
const LOOK: Duration = Duration::from_secs(1);

/// `revoke`: the node's certificate if its CA is at hand, then the node.
pub(super) async fn revoke(context: &mut Context<'_>, reason: &str) -> Result<Report, Failure> {
    let mut stop = Stop::listen()?;
    let uuid = context.uuid().await?;
    // What the verifier doesn't take is found out before the CA is changed.
    if context.verifier.view(&uuid).await?.is_none() {
        return Err(unknown(Peer::Verifier, &uuid));
    }
    let settings = context.settings;
    let ca = context.arguments.ca(settings.keylime_dir.join("ca"));
    let list = match &ca {
        Some(ca) => Some(revoke_certificate(context, ca, &uuid, reason).await?),
        None => None,
    };
    let body = Revoke {
        agent_id: uuid.to_string(),
        reason: reason.to_owned(),
        crl: list.as_ref().map(|list| BASE64.encode(&list.der)),
    };
    let made = match post(context, &uuid, &body).await {
        Ok(made) => made,
        Err(source) => {
            return Err(match ca {
                Some(ca) => Failure::HalfRevoked {
                    source: Box::new(source),
                    ca,
                },
                None => source,
            });
        }
    };
    let done = Done {
        uuid,
        made,
        list: list.map(|list| list.number),
        ca,
    };
    let Some(wait) = context.arguments.push.wait else {
        return Ok(done.report(None));
    };
    let limit = wait.map_or(settings.timeout, Duration::from_secs);
    let waited = wait_for_peers(context, &done.uuid, &done.made, limit, &mut stop).await?;
    Ok(done.report(Some(waited)))
}

/// A node that is revoked.
struct Done {
    uuid: Uuid,
    made: MadeEntry,
    /// The number of the list that has its certificate, and where it is.
    list: Option<u64>,
    ca: Option<PathBuf>,
}

impl Done {
    fn report(self, waited: Option<Waited>) -> Report {
        let (uuid, made) = (self.uuid.as_str(), self.made);
        let mut text = format!(
            "{uuid} is revoked: entry {} of the log {}",
            made.number,
            printable(&made.log_id)
        );
        if let (Some(number), Some(ca)) = (self.list, &self.ca) {
            let ca = ca.display();
            text.push_str(&format!("; its certificate too, by list {number} of {ca}"));
        }
        let mut json = json!({
            "command": "revoke", "uuid": uuid, "log_id": made.log_id, "number": made.number, "crl_number": self.list,
        });
        let Some(waited) = waited else {
            text.push_str(&format!(
                "\nits peers are told until each has acted: `keyhalf-tenant -c revocations -u {uuid}` shows who has"
            ));
            return Report::done(text, json);
        };
        text.push_str(&format!("\n{}", waited.tally.text()));
        if let Some(members) = json.as_object_mut() {
            members.insert("peers".to_owned(), waited.peers);
        }
        let exit = match waited.tally.waiting.is_empty() {
            true if waited.tally.failed.is_empty() => Exit::Done,
            true => Exit::Script,
            false => Exit::Timeout,
        };
        Report { exit, text, json }
    }
}

async fn post(context: &mut Context<'_>, uuid: &Uuid, body: &Revoke) -> Result<MadeEntry, Failure> {
    let error = match context.verifier.revoke(body).await {
        Ok(made) => return Ok(made),
        Err(error) => error,
    };
    let ClientError::Refused { status, reason, .. } = &error else {
        return Err(error.into());
    };
    Err(match status {
        409 => Failure::NoRevocationKey {
            uuid: uuid.to_string(),
            reason: reason.clone(),
        },
        // Keylime's verifier doesn't know the route.
        400 | 404 | 405 if context.verifier.logs().await?.is_none() => no_logs(context).into(),
        404 => unknown(Peer::Verifier, uuid),
        _ => error.into(),
    })
}

fn no_logs(context: &Context<'_>) -> ClientError {
    ClientError::NoRevocations {
        endpoint: context.settings.verifier.clone(),
    }
}

/// Revokes the node's certificate, and signs a list newer than any that the verifier has and with all that it knows.
async fn revoke_certificate(
    context: &mut Context<'_>,
    ca: &Path,
    uuid: &Uuid,
    reason: &str,
) -> Result<Crl, Failure> {
    let seen = CaFiles::open(ca)?.seen()?;
    let heard = Heard::ask(&mut context.verifier, &seen).await?;
    let heard = heard.ok_or_else(|| no_logs(context))?;
    let warnings = heard.warnings.iter();
    warnings.for_each(|warning| context.output.say(warning));
    let ca = CaDirectory::open(ca, context.settings.ca_passphrase.as_ref())?;
    heard.apply(&ca)?;
    let now = OffsetDateTime::now_utc();
    ca.revoke(uuid.as_str(), reason_of(reason), now)?;
    Ok(ca.list(heard.known_list, now)?)
}

/// What came of an entry when the wait was over.
struct Waited {
    tally: Tally,
    peers: Value,
}

async fn wait_for_peers(
    context: &mut Context<'_>,
    uuid: &Uuid,
    made: &MadeEntry,
    limit: Duration,
    stop: &mut Stop,
) -> Result<Waited, Failure> {
    let start = Instant::now();
    let mut progress = context.output.progress();
    loop {
        let outcomes: EntryOutcomes = context.verifier.outcomes(&made.log_id, made.number).await?;
        let tally = Tally::of(&outcomes.peers, uuid.as_str());
        if tally.waiting.is_empty() || start.elapsed() >= limit {
            let peers = serde_json::to_value(&outcomes.peers).unwrap_or_default();
            return Ok(Waited { tally, peers });
        }
        progress.show(&tally.text(), start.elapsed());
        let left = limit.saturating_sub(start.elapsed());
        if stop.or_pause(LOOK.min(left)).await.is_some() {
            // The entry is there, and is delivered all the same.
            let peers = serde_json::to_value(&outcomes.peers).unwrap_or_default();
            return Ok(Waited { tally, peers });
        }
    }
}
