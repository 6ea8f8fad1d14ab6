//! The verifier's revocation logs of one CA: what is new in them, and giving it a newer list.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use time::OffsetDateTime;
use verifier_host::revocation::told::{MadeEntry, NewList, WhichLog};

use crate::ca::{CaDirectory, Crl, Issued, ListPoint, News, NodeIdentity, Seen, log_start};
use crate::cli::{Arguments, PayloadSource, Settings};
use crate::client::{ClientError, ListAnswer, Verifier};
use crate::error::Failure;
use crate::seal::{complete_actions, list_tree};

/// What a verifier's logs have that the CA's directory doesn't know yet.
#[derive(Default)]
pub(super) struct Heard {
    news: Vec<News>,
    /// The number of the newest list that the verifier has; 0 without one.
    pub(super) known_list: u64,
    /// Whether the verifier has a log of the CA's.
    has_log: bool,
    /// What has to be said.
    pub(super) warnings: Vec<String>,
}

impl Heard {
    /// Asks. `None` if the verifier keeps no logs.
    pub(super) async fn ask(
        verifier: &mut Verifier,
        seen: &Seen,
    ) -> Result<Option<Self>, ClientError> {
        let Some(all) = verifier.logs().await? else {
            return Ok(None);
        };
        let mut heard = Self::default();
        for log in all.logs.into_iter().filter(|log| log.anchor == seen.anchor) {
            heard.has_log = true;
            let number = log.crl_number.as_deref().and_then(|text| text.parse().ok());
            heard.known_list = heard.known_list.max(number.unwrap_or(0));
            let read = seen.positions.get(&log.log_id).map_or(0, |at| at.number);
            if log.number > read {
                heard.news.push(News {
                    entries: verifier.entries(&log.log_id, read).await?,
                    log_id: log.log_id.clone(),
                });
            } else if log.number < read {
                heard.warnings.push(format!(
                    "warning: the verifier's revocation log {} ends at entry {}, and went to {read} before: it was set back. What it said \
                     then stays revoked",
                    log.log_id, log.number
                ));
            }
        }
        Ok(Some(heard))
    }

    /// Revokes in the CA what the logs say. Returns what wasn't revoked before.
    pub(super) fn apply(&self, ca: &CaDirectory) -> Result<Vec<Issued>, Failure> {
        let mut marked = Vec::new();
        for news in &self.news {
            marked.extend(ca.read_log(news, OffsetDateTime::now_utc())?);
        }
        Ok(marked)
    }
}

/// Begins a log of a CA that has none at the verifier yet, so that there is a place for its lists.
pub(super) async fn begin_first(
    verifier: &mut Verifier,
    heard: &Heard,
    anchor: &str,
) -> Result<(), ClientError> {
    if heard.has_log {
        return Ok(());
    }
    let which = WhichLog {
        anchor: anchor.to_owned(),
        group: None,
    };
    verifier.begin_log(&which).await.map(drop)
}

/// Gives the verifier a newer list.
pub(super) async fn give(
    verifier: &mut Verifier,
    anchor: &str,
    list: &Crl,
) -> Result<Vec<MadeEntry>, Failure> {
    let new = NewList {
        anchor: anchor.to_owned(),
        crl: BASE64.encode(&list.der),
    };
    match verifier.give_list(&new).await? {
        ListAnswer::Taken(entries) => Ok(entries),
        ListAnswer::NotNewer(reason) => Err(Failure::ListNotTaken { reason }),
    }
}

/// What is settled with the verifier before a package of a CA is sealed.
pub(super) struct Beginning {
    heard: Heard,
    /// `revocation_log.json`; `None` for a verifier that keeps no logs.
    start: Option<String>,
    group: Option<String>,
    list_point: ListPoint,
    /// The CA that was made on the way.
    pub(super) new_ca: Option<PathBuf>,
}

/// Opens the log of the node's group before its payload is sealed, and hears what the CA's logs say: what is in the package is
/// to be as new as the place where the log begins. `None` for a payload that isn't a package of a CA.
///
/// The CA is made if there is none; what is to be included is looked at first, so that a missing directory makes none, and a list
/// of actions that can't be meant begins no log.
pub(super) async fn begin(
    verifier: &mut Verifier,
    source: &PayloadSource,
    group: Option<&str>,
    arguments: &Arguments,
    settings: &Arc<Settings>,
) -> Result<Option<Beginning>, Failure> {
    let PayloadSource::Package { ca, include } = source else {
        return Ok(None);
    };
    let url = arguments.revocation.crl_url.as_deref();
    let list_point = match url {
        Some(_) => ListPoint::of(url, &settings.registrar.host),
        None => settings.list_point.clone(),
    };
    let (ca, include, shared) = (ca.clone(), include.clone(), Arc::clone(settings));
    let task = tokio::task::spawn_blocking(move || open(&ca, include.as_deref(), &shared));
    let (seen, new_ca) = task.await.map_err(|_| Failure::Interrupted)??;
    let which = WhichLog {
        anchor: seen.anchor.clone(),
        group: group.map(str::to_owned),
    };
    // First where it begins, then what was said: an entry between the two is acted on once too often, and never missed.
    let head = verifier.begin_log(&which).await?;
    let start = head
        .map(|head| log_start(&head, &seen.anchor))
        .transpose()?;
    let heard = match start {
        Some(_) => Heard::ask(verifier, &seen).await?,
        None => None,
    };
    Ok(Some(Beginning {
        heard: heard.unwrap_or_default(),
        start,
        group: which.group,
        list_point,
        new_ca,
    }))
}

fn open(
    ca: &Path,
    include: Option<&Path>,
    settings: &Settings,
) -> Result<(Seen, Option<PathBuf>), Failure> {
    let mut tree = include.map(list_tree).transpose()?.unwrap_or_default();
    complete_actions(&mut tree)?;
    let (passphrase, now) = (settings.ca_passphrase.as_ref(), OffsetDateTime::now_utc());
    let ca = CaDirectory::open_or_create(ca, passphrase, now)?;
    let new_ca = ca.was_created().then(|| ca.path().to_owned());
    Ok((ca.files().seen()?, new_ca))
}

impl Beginning {
    /// The node's identity, by a CA that knows all that its logs say.
    pub(super) fn identity(
        &self,
        ca: &mut CaDirectory,
        uuid: &Uuid,
        settings: &Settings,
    ) -> Result<NodeIdentity, Failure> {
        self.heard.apply(ca)?;
        ca.point_to(&self.list_point)?;
        let (passphrase, now) = (settings.ca_passphrase.as_ref(), OffsetDateTime::now_utc());
        let mut identity = ca.identity(uuid, passphrase, now)?;
        identity.log_start.clone_from(&self.start);
        Ok(identity)
    }

    /// What has to be said.
    pub(super) fn warnings(&self) -> &[String] {
        &self.heard.warnings
    }

    /// What the verifier is told of a node with this identity.
    pub(super) fn metadata(&self, identity: &NodeIdentity) -> String {
        metadata(Some(identity), self.group.as_deref())
    }
}

/// What the verifier is told of a node: JSON text with its certificate's serial number and subject, and its group.
pub(super) fn metadata(identity: Option<&NodeIdentity>, group: Option<&str>) -> String {
    let mut metadata = serde_json::Map::new();
    if let Some(identity) = identity {
        metadata.insert("cert_serial".to_owned(), identity.serial.into());
        metadata.insert("subject".to_owned(), json!(identity.subject));
    }
    if let Some(group) = group {
        metadata.insert("group".to_owned(), group.into());
    }
    Value::Object(metadata).to_string()
}

/// The group in what the verifier was told of a node.
pub(super) fn group_in(metadata: &str) -> Option<String> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let group = metadata.get("group")?.as_str()?;
    Some(group.to_owned())
}

/// The certificate's serial number in what the verifier was told of a node.
pub(super) fn serial_in(metadata: &str) -> Option<u64> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    metadata.get("cert_serial")?.as_u64()
}

#[cfg(test)]
mod tests;
