//! The verifier's revocation logs.
//!
//! Source: agent-core's `docs/revocation.md`, "Tenant and verifier".

use bytes::Bytes;
use serde::Serialize;
use verifier_host::envelope::CURRENT_VERSION;
use verifier_host::link::{Answer, LinkError, Method};
use verifier_host::revocation::told::{
    Entries, Entry, EntryOutcomes, Head, Logs, MAX_ENTRIES, Made, MadeEntry, NewList, NoSigner,
    Peers, Revoke, Signer, WhichLog,
};
use zeroize::Zeroizing;

use super::{ClientError, Peer, Verifier};

/// Room for a certificate and a key, so that the key is written to one place in memory.
const SIGNER_BYTES: usize = 32 << 10;

/// The most entries of a log that are read: more nodes than a verifier has, each failing ten times.
const MAX_LOG: usize = 1_000_000;

/// What the verifier said to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAnswer {
    /// It is the newest now, and an entry in these logs.
    Taken(Vec<MadeEntry>),
    /// It isn't newer than the one that is there. The verifier's reason.
    NotNewer(String),
}

impl Verifier {
    /// Begins a log, or finds it. `None` if the verifier keeps none: it is Keylime's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin_log(&mut self, which: &WhichLog) -> Result<Option<Head>, ClientError> {
        let answer = self.ask(Method::PUT, ROUTE, which).await?;
        if is_unknown_route(&answer) {
            return Ok(None);
        }
        self.0.results("begin a revocation log", &answer).map(Some)
    }

    /// Its logs. `None` if it keeps none: it is Keylime's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logs(&mut self) -> Result<Option<Logs>, ClientError> {
        let answer = self.0.get(&path(ROUTE)).await?;
        if is_unknown_route(&answer) {
            return Ok(None);
        }
        self.0
            .results("list its revocation logs", &answer)
            .map(Some)
    }

    /// All entries of a log from number `after + 1` on; they come as they were, unchecked.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Endless`] if there are more than can be meant.
    pub async fn entries(&mut self, log_id: &str, after: u64) -> Result<Vec<Entry>, ClientError> {
        let mut all: Vec<Entry> = Vec::new();
        let mut after = after;
        loop {
            let route = format!("{ROUTE}/{}?after={after}", super::query_text(log_id));
            let answer = self.0.get(&path(&route)).await?;
            let page: Entries = self.0.results("show a revocation log", &answer)?;
            let is_last = page.entries.len() < MAX_ENTRIES as usize;
            let Some(last) = page.entries.last().map(|entry| entry.number) else {
                return Ok(all);
            };
            if last <= after || all.len() > MAX_LOG {
                return Err(ClientError::Endless {
                    endpoint: self.endpoint().clone(),
                });
            }
            after = last;
            all.extend(page.entries);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// How far each node of a log's group is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&mut self, log_id: &str) -> Result<Peers, ClientError> {
        let route = format!("{ROUTE}/{}/peers", super::query_text(log_id));
        let answer = self.0.get(&path(&route)).await?;
        self.0.results("show who has acted", &answer)
    }

    /// An entry, and what came of it at each node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn outcomes(
        &mut self,
        log_id: &str,
        number: u64,
    ) -> Result<EntryOutcomes, ClientError> {
        let route = format!("{ROUTE}/{}/{number}", super::query_text(log_id));
        let answer = self.0.get(&path(&route)).await?;
        self.0.results("show what came of a revocation", &answer)
    }

    /// Revokes a node.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NoRevocations`] if the verifier is Keylime's.
    pub async fn revoke(&mut self, revoke: &Revoke) -> Result<MadeEntry, ClientError> {
        let answer = self.ask(Method::POST, ROUTE, revoke).await?;
        // An unknown node is a 404 too; it has another reason than a route that isn't there.
        self.0.results("revoke a node", &answer)
    }

    /// Gives it a newer list, for all nodes under its anchor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn give_list(&mut self, list: &NewList) -> Result<ListAnswer, ClientError> {
        let route = format!("{ROUTE}/crl");
        let answer = self.ask(Method::POST, &route, list).await?;
        if answer.status == 409 {
            return Ok(ListAnswer::NotNewer(answer.reason()));
        }
        let made: Made = self.0.results("take a revocation list", &answer)?;
        Ok(ListAnswer::Taken(made.entries))
    }

    /// Has it sign lists by itself.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn give_list_signer(&mut self, signer: &Signer) -> Result<(), ClientError> {
        let answer = self.ask(Method::PUT, SIGNER, signer).await?;
        self.done("take a key for revocation lists", &answer)
    }

    /// Has it forget the key that it signs lists with. False if it has none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn take_list_signer(&mut self, signer: &NoSigner) -> Result<bool, ClientError> {
        let answer = self.ask(Method::DELETE, SIGNER, signer).await?;
        if answer.status == 404 {
            return Ok(false);
        }
        self.done("forget the key for revocation lists", &answer)?;
        Ok(true)
    }

    fn done(&self, action: &'static str, answer: &Answer) -> Result<(), ClientError> {
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.0.refused(action, answer)),
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        route: &str,
        body: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        let mut text = Zeroizing::new(Vec::with_capacity(SIGNER_BYTES));
        serde_json::to_writer(&mut *text, body).map_err(|source| {
            ClientError::link(
                Peer::Verifier,
                LinkError::Request {
                    peer: self.endpoint().clone(),
                    path: path(route),
                    source: source.into(),
                },
            )
        })?;
        self.0
            .send(method, &path(route), Some(Bytes::from_owner(text)))
            .await
    }
}

const ROUTE: &str = "revocations";
const SIGNER: &str = "revocations/crl-signer";

fn path(route: &str) -> String {
    format!("/v{CURRENT_VERSION}/{route}")
}

/// What Keylime's verifier answers to a path that it doesn't know.
fn is_unknown_route(answer: &Answer) -> bool {
    matches!(answer.status, 400 | 404 | 405)
}
