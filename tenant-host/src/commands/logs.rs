//! The verifier's revocation logs of one CA: what is new in them, and giving it a newer list.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::OffsetDateTime;
use verifier_host::revocation::told::{Log, MadeEntry, NewList};

use crate::ca::{CaDirectory, Crl, Issued, News, Seen};
use crate::client::{ClientError, ListAnswer, Verifier};
use crate::error::Failure;

/// What a verifier's logs have that the CA's directory doesn't know yet.
#[derive(Default)]
pub(super) struct Heard {
    news: Vec<News>,
    /// The number of the newest list that the verifier has; 0 without one.
    pub(super) known_list: u64,
    /// The CA's logs there.
    pub(super) logs: Vec<Log>,
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
            heard.logs.push(log);
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
