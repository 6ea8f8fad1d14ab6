//! `revocations`, and what `status` says of them: what logs hold, and who has acted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::wire::text::Uuid;
use serde_json::{Value, json};
use verifier_host::revocation::told::{Entry, EntryOutcomes, Log, Peer as LogPeer};

use super::tally::{Tally, in_words, state_name};
use crate::client::Verifier;
use crate::commands::Context;
use crate::commands::status::age;
use crate::delivery::printable;
use crate::error::Failure;
use crate::report::Report;

/// Of how many entries it is shown what came of them at each peer: the last ones.
const WITH_OUTCOMES: usize = 10;

/// `revocations`: all logs, or what they hold about one node.
pub(in crate::commands) async fn show(context: &mut Context<'_>) -> Result<Report, Failure> {
    let about = match (context.arguments.node()?, &context.arguments.targethost) {
        (Some(uuid), _) => Some(uuid),
        (None, Some(_)) => Some(context.uuid().await?),
        (None, None) => None,
    };
    let Some(all) = context.verifier.logs().await? else {
        return Err(super::no_logs(context).into());
    };
    let (mut texts, mut logs) = (Vec::new(), Vec::new());
    for log in all.logs {
        let shown = Shown::ask(&mut context.verifier, log, about.as_ref()).await?;
        if about.is_none() || !shown.is_empty() {
            texts.push(shown.text());
            logs.push(shown.json());
        }
    }
    let text = match texts.is_empty() {
        true => "the verifier's revocation logs hold nothing about that".to_owned(),
        false => texts.join("\n"),
    };
    let uuid = about.as_ref().map(Uuid::as_str);
    Ok(Report::done(
        text,
        json!({ "command": "revocations", "uuid": uuid, "logs": logs }),
    ))
}

/// A log, as far as it is shown.
struct Shown {
    log: Log,
    peers: Vec<LogPeer>,
    entries: Vec<Entry>,
    /// What came of the last ones.
    outcomes: Vec<EntryOutcomes>,
    about: Option<String>,
}

impl Shown {
    async fn ask(verifier: &mut Verifier, log: Log, about: Option<&Uuid>) -> Result<Self, Failure> {
        let is_meant = |uuid: Option<&str>| about.is_none() || uuid == about.map(Uuid::as_str);
        let mut peers = verifier.peers(&log.log_id).await?.peers;
        peers.retain(|peer| is_meant(Some(&peer.agent_id)));
        let mut entries = verifier.entries(&log.log_id, 0).await?;
        entries.retain(|entry| is_meant(entry.agent_id.as_deref()));
        let mut outcomes = Vec::new();
        for entry in entries
            .iter()
            .skip(entries.len().saturating_sub(WITH_OUTCOMES))
        {
            outcomes.push(verifier.outcomes(&log.log_id, entry.number).await?);
        }
        Ok(Self {
            log,
            peers,
            entries,
            outcomes,
            about: about.map(Uuid::to_string),
        })
    }

    const fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.entries.is_empty()
    }

    fn text(&self) -> String {
        let log = &self.log;
        let group = log.group.as_deref().map_or_else(
            || "nodes without a group".to_owned(),
            |group| format!("group {}", printable(group)),
        );
        let mut lines = vec![format!(
            "log {}: {group}, {} {}",
            printable(&log.log_id),
            log.number,
            if log.number == 1 { "entry" } else { "entries" }
        )];
        for entry in &self.entries {
            lines.push(line(entry));
            let outcomes = self
                .outcomes
                .iter()
                .find(|outcome| outcome.entry.number == entry.number);
            lines.extend(outcomes.into_iter().flat_map(outcome_lines));
        }
        if !self.peers.is_empty() {
            lines.push("  peers:".to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO).as_secs();
        lines.extend(self.peers.iter().map(|peer| {
            let name = printable(&peer.agent_id);
            format!("    {name}: {}", position(peer, log.number, now))
        }));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let (log, peers, entries) = (&self.log, &self.peers, &self.entries);
        let outcomes = self
            .outcomes
            .iter()
            .map(|outcome| json!({ "number": outcome.entry.number, "peers": outcome.peers }));
        json!({
            "log": log, "about": self.about, "entries": entries, "outcomes": outcomes.collect::<Vec<_>>(), "peers": peers,
        })
    }
}

fn line(entry: &Entry) -> String {
    // One about no node says itself that it brings a list.
    let about = entry.agent_id.as_deref().map_or_else(String::new, |uuid| {
        format!("{} is revoked: ", printable(uuid))
    });
    let (number, time, reason) = (
        entry.number,
        printable(&entry.time),
        printable(&entry.reason),
    );
    format!("  {number}  {time}  {about}{reason}")
}

fn outcome_lines(outcome: &EntryOutcomes) -> Vec<String> {
    let about = outcome.entry.agent_id.as_deref().unwrap_or_default();
    let mut lines = vec![format!("     {}", Tally::of(&outcome.peers, about).text())];
    for peer in &outcome.peers {
        let mut actions: Vec<String> = peer.actions.iter().map(in_words).collect();
        if peer.more > 0 {
            actions.push(format!("{} more", peer.more));
        }
        let name = printable(&peer.agent_id);
        let state = state_name(peer.state);
        lines.push(match actions.is_empty() {
            true => format!("       {name}: {state}"),
            false => format!("       {name}: {state}: {}", actions.join(", ")),
        });
    }
    lines
}

/// How far a peer is, in words.
fn position(peer: &LogPeer, last: u64, now: u64) -> String {
    if last == 0 {
        return "nothing yet: its log has no entry".to_owned();
    }
    let mut text = format!(
        "{}, at entry {} of {last}",
        state_name(peer.state),
        peer.position
    );
    if let Some(since) = peer.since {
        text.push_str(&format!(", for {}", age(now.saturating_sub(since))));
    }
    if let Some(error) = &peer.error {
        text.push_str(&format!(": {}", printable(error)));
    }
    text
}

/// What `status` tells: how far a node is with its log, and what came of its own revocation.
#[derive(Default)]
pub(in crate::commands) struct Known {
    /// Lines, each after a line end.
    pub(in crate::commands) text: String,
    pub(in crate::commands) json: Value,
}

impl Known {
    /// Asks. Nothing is known where the verifier keeps no logs, or none that the node is in.
    pub(in crate::commands) async fn ask(
        verifier: &mut Verifier,
        uuid: &Uuid,
        is_refused: bool,
    ) -> Result<Self, Failure> {
        let mut known = Self::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO).as_secs();
        for log in verifier.logs().await?.unwrap_or_default().logs {
            let peers = verifier.peers(&log.log_id).await?;
            let own = peers
                .peers
                .into_iter()
                .find(|peer| peer.agent_id == uuid.as_str());
            let Some(own) = own else { continue };
            let place = position(&own, peers.number, now);
            known.text = format!("\n  told of:   {place}");
            let mut json = json!({ "log_id": log.log_id, "last": peers.number, "peer": own });
            if is_refused && let Some(outcome) = last_about(verifier, &log, uuid).await? {
                let entry = &outcome.entry;
                let tally = Tally::of(&outcome.peers, uuid.as_str());
                known.text.push_str(&format!(
                    "\n  revoked:   entry {}, {}: {}\n             {}",
                    entry.number,
                    printable(&entry.time),
                    printable(&entry.reason),
                    tally.text()
                ));
                if let Some(members) = json.as_object_mut() {
                    members.insert("revoked".to_owned(), json!(outcome));
                }
            }
            known.json = json;
            break;
        }
        Ok(known)
    }
}

async fn last_about(
    verifier: &mut Verifier,
    log: &Log,
    uuid: &Uuid,
) -> Result<Option<EntryOutcomes>, Failure> {
    let entries = verifier.entries(&log.log_id, 0).await?;
    let about = |entry: &&Entry| entry.agent_id.as_deref() == Some(uuid.as_str());
    match entries.iter().rev().find(about) {
        Some(entry) => Ok(Some(verifier.outcomes(&log.log_id, entry.number).await?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use verifier_host::revocation::told::State;

    use super::*;

    #[test]
    fn a_peers_position_says_why_it_stands_still() {
        let peer = |state, since, error: Option<&str>| LogPeer {
            agent_id: "node".to_owned(),
            state,
            position: 6,
            since,
            error: error.map(str::to_owned),
        };
        let rows = [
            (
                peer(State::Acted, Some(900), None),
                "acted, at entry 6 of 7, for 100 s",
            ),
            (peer(State::Waiting, None, None), "waiting, at entry 6 of 7"),
            (
                peer(State::Unreachable, Some(0), Some("refused\u{7}")),
                "unreachable, at entry 6 of 7, for 16 min: refused",
            ),
        ];
        for (peer, wanted) in &rows {
            assert_eq!(position(peer, 7, 1000), *wanted);
        }
        let nothing = position(&rows[1].0, 0, 1000);
        assert_eq!(nothing, "nothing yet: its log has no entry");
    }
}
