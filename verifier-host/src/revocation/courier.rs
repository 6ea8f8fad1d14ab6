//! Bringing a peer the entries of its log, in order, until it has acted on the last one.
//!
//! A courier works for one peer, without end while the node exists. What an agent answers only moves its own position, inside
//! the log; whoever sends the courier back and forth waits longer each time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, error, info, warn};

use super::answer::{self, Outcome, Said};
use super::log::{Body, Log};
use super::pace::{LAST_PAUSE, Pace, jittered};
use super::peer::{Peer, Trouble};
use super::registry::Revocations;
use super::told::{Kind, State};
use crate::link::{Answer, Limits, Link, LinkError, Method};
use crate::rounds::node::{Node, unix_now};
use crate::store::revocations::{Report, Speaks};

impl Revocations {
    /// Gives a node a courier, if it has a log and an address and hasn't one already. `anew`: what is known of it was known by
    /// another run of this program, or by none.
    pub fn employ(&self, node: &Arc<Node>, anew: bool) {
        let Some(peer) = &node.peer else { return };
        if !self.notifications().agents || node.terms.is_push() {
            return;
        }
        peer.employ(|| {
            if anew {
                peer.ask_again();
            }
            let (revocations, node) = (self.clone(), Arc::clone(node));
            tokio::spawn(work(revocations, node))
        });
    }
}

/// Works until the task is aborted. A panic, whatever an agent provoked it with, ends a delivery, and the next one comes later.
async fn work(revocations: Revocations, node: Arc<Node>) {
    loop {
        let errand = errand(revocations.clone(), Arc::clone(&node));
        let mut running = tokio::task::JoinSet::new();
        running.spawn(errand);
        if running.join_next().await.is_some_and(|ended| ended.is_ok()) {
            return;
        }
        error!(agent = %node.id, "bringing it revocations broke off by an error of this program");
        tokio::time::sleep(LAST_PAUSE).await;
    }
}

async fn errand(revocations: Revocations, node: Arc<Node>) {
    let Some(peer) = &node.peer else { return };
    let mut head = peer.log.watch();
    let mut courier = Courier::new(&revocations, &node, peer);
    loop {
        head.mark_unchanged();
        let pause = courier.go().await;
        let woken = async {
            tokio::select! {
                // The log lives as long as this program.
                _ = head.changed() => {}
                () = peer.wake.notified() => {}
            }
        };
        match pause {
            None => woken.await,
            Some(pause) => {
                if tokio::time::timeout(pause, woken).await.is_err() {
                    continue;
                }
            }
        }
        courier.pace = Pace::default();
    }
}

struct Courier<'a> {
    revocations: &'a Revocations,
    node: &'a Node,
    peer: &'a Peer,
    log: &'a Log,
    /// What the agent wants next; none if it has to be asked.
    next: Option<u64>,
    /// An agent that knows no log is being sent all of it.
    from_first: bool,
    /// The last entry of which it was heard how it went.
    heard: u64,
    /// There is more to be heard.
    more: bool,
    pace: Pace,
    open: Option<(Link, OwnedSemaphorePermit)>,
}

/// What comes after an exchange.
enum Step {
    /// The next one, at once.
    Onward,
    /// The next one after a while: the agent is at work, or sent the courier back.
    Later,
    /// It has no payload yet.
    MuchLater,
}

/// Why an exchange failed.
enum Fault {
    Link(LinkError),
    /// It calls by itself. Such a node has no courier.
    NoAddress,
    /// 4xx, or what no agent answers.
    Refused(String),
    /// 5xx: not now.
    Busy(String),
    /// The database.
    Store(crate::store::StoreError),
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<crate::store::StoreError> for Fault {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Store(error)
    }
}

impl<'a> Courier<'a> {
    fn new(revocations: &'a Revocations, node: &'a Node, peer: &'a Peer) -> Self {
        let position = peer.standing().position;
        Self {
            revocations,
            node,
            peer,
            log: &peer.log,
            next: Some(position + 1),
            from_first: false,
            heard: position,
            more: false,
            pace: Pace::default(),
            open: None,
        }
    }

    /// Goes until there is nothing to do (`None`), or not for a while.
    async fn go(&mut self) -> Option<Duration> {
        loop {
            // Whether it booted anew matters only where there is something to act on.
            if self.peer.take_again() && self.log.last() > 0 {
                (self.next, self.heard, self.more) = (None, 0, false);
                self.from_first = false;
            }
            if !self.is_due() {
                self.open = None;
                return None;
            }
            let exchanged = self.exchange().await;
            if exchanged.is_ok() {
                self.pace.answered();
            }
            let pause = match exchanged {
                Ok(Step::Onward) => continue,
                Ok(Step::Later) => self.pace.later(LATER),
                Ok(Step::MuchLater) => self.pace.later(LAST_PAUSE),
                Err(fault) => self.failed(fault),
            };
            let crowded = self.lane().available_permits() == 0;
            if pause > KEPT_OPEN || crowded {
                self.open = None;
            }
            return Some(pause);
        }
    }

    fn is_due(&self) -> bool {
        self.next.is_none() || self.more || self.peer.standing().position < self.log.last()
    }

    async fn exchange(&mut self) -> Result<Step, Fault> {
        match self.next {
            Some(number) if number <= self.log.last() => self.bring(number).await,
            _ => self.ask().await,
        }
    }

    /// Brings one entry.
    async fn bring(&mut self, number: u64) -> Result<Step, Fault> {
        let body = self.log.body(self.revocations.store(), number).await?;
        let body =
            body.ok_or_else(|| Fault::Refused(format!("entry {number} isn't in the database")))?;
        match (body.kind, self.peer.standing().speaks) {
            (Kind::Crl, None) => {
                self.next = None;
                return Ok(Step::Onward);
            }
            // Keylime's would take it for the revocation of a node.
            (Kind::Crl, Some(Speaks::Keylime)) => return self.acknowledged(number).await,
            _ => {}
        }
        let answer = self.post(body).await?;
        match answer.status {
            200 => match read(&answer)? {
                Some(said) => self.take(said, Some(number)).await,
                None => self.acknowledged(number).await,
            },
            _ => Err(refusal(&answer)),
        }
    }

    /// Asks how far the agent is.
    async fn ask(&mut self) -> Result<Step, Fault> {
        let version = self.node.update(|progress| progress.standing.version);
        let (after, log_id) = (self.heard, &self.log.id);
        let path = format!("/v{version}/revocations/outcomes?after={after}&log_id={log_id}");
        let answer = self.link().await?.get(&path).await?;
        let speaks = self.peer.standing().speaks;
        let said = match answer.status {
            200 => read(&answer)?,
            404 | 405 => None,
            400..500 if speaks != Some(Speaks::Log) => None,
            _ => return Err(refusal(&answer)),
        };
        match said {
            Some(said) => self.take(said, None).await,
            None => {
                let position = self.peer.standing().position;
                (self.next, self.more) = (Some(position + 1), false);
                self.report(position, Speaks::Keylime, &[]).await?;
                Ok(Step::Onward)
            }
        }
    }

    async fn acknowledged(&mut self, number: u64) -> Result<Step, Fault> {
        let position = self.peer.standing().position.max(number);
        self.next = Some(number + 1);
        self.report(position, Speaks::Keylime, &[]).await?;
        Ok(Step::Onward)
    }

    /// Takes what an agent says of itself, after the entry that was sent, or when it was asked.
    async fn take(&mut self, said: Said, sent: Option<u64>) -> Result<Step, Fault> {
        let last = self.log.last();
        let before = self.peer.standing().position;
        let Some(log_id) = said.log_id else {
            return self.take_of_none(sent).await;
        };
        self.from_first = false;
        if log_id != self.log.id {
            let reason = "it speaks of another log than the one that it was asked about";
            return Err(Fault::Refused(reason.to_owned()));
        }
        let wanted = said.wanted.clamp(1, last + 1);
        let position = said.position.min(wanted - 1);
        let was_wanted = self.next.replace(wanted);
        let in_log = |outcome: &Outcome| (1..=last).contains(&outcome.number);
        let outcomes: Vec<_> = said.outcomes.into_iter().filter(in_log).collect();
        let heard = outcomes.iter().map(|outcome| outcome.number).max();
        let heard_more = heard.is_some_and(|heard| heard > self.heard);
        self.heard = self.heard.max(heard.unwrap_or(0)).min(position);
        let behind = self.heard < position;
        // What it doesn't say when it is asked, it won't say.
        self.more = behind && (sent.is_some() || heard_more);
        // Nobody shall see that it has acted before it is known how that went.
        let position = match self.more {
            true => self.heard.max(before).min(position),
            false => position,
        };
        self.report(position, Speaks::Log, &outcomes).await?;

        if position == last && before < last {
            info!(agent = %self.node.id, log = self.log.id, "has acted on all revocations, up to number {last}");
        }
        let onward = match (sent, was_wanted) {
            (Some(number), _) => wanted > number,
            (None, None) => true,
            (None, Some(was_wanted)) => self.more && wanted >= was_wanted,
        };
        let idle = wanted > last && !self.more;
        Ok(if onward && !idle {
            Step::Onward
        } else {
            Step::Later
        })
    }

    /// The agent knows no log: it has acted on nothing in this boot. What it is sent is kept for its payload, from number 1 on.
    async fn take_of_none(&mut self, sent: Option<u64>) -> Result<Step, Fault> {
        let asked_first = self.next.is_none();
        let sent_back = !self.from_first && sent != Some(1);
        self.from_first = true;
        self.next = match sent {
            _ if sent_back => Some(1),
            Some(number) => Some(number + 1),
            None => self.next,
        };
        self.report(0, Speaks::Log, &[]).await?;
        let more_to_send = self.next.is_some_and(|next| next <= self.log.last());
        Ok(match sent {
            _ if !more_to_send => Step::MuchLater,
            None if asked_first => Step::Onward,
            Some(_) if !sent_back => Step::Onward,
            _ => Step::Later,
        })
    }

    /// Records what is new of it.
    async fn report(
        &mut self,
        position: u64,
        speaks: Speaks,
        outcomes: &[Outcome],
    ) -> Result<(), Fault> {
        if position >= self.log.last() && !self.more {
            // Whoever is behind needn't wait until this is on the disk.
            self.open = None;
        }
        record(
            self.revocations,
            self.node,
            self.peer,
            (position, speaks),
            outcomes,
        )
        .await?;
        Ok(())
    }

    async fn post(&mut self, body: Body) -> Result<Answer, Fault> {
        let version = self.node.update(|progress| progress.standing.version);
        let path = format!("/v{version}/notifications/revocation");
        let (number, json) = (body.number, body.json);
        debug!(agent = %self.node.id, "is brought revocation {number}");
        let link = self.link().await?;
        Ok(link.send(Method::POST, &path, Some(json)).await?)
    }

    async fn link(&mut self) -> Result<&mut Link, Fault> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let permit = Arc::clone(self.lane()).acquire_owned().await;
                // Nobody closes the lanes.
                let permit = permit.map_err(|_| Fault::NoAddress)?;
                let mut link = self.node.link(LIMITS).ok_or(Fault::NoAddress)?;
                link.connect().await?;
                (link, permit)
            }
        };
        Ok(&mut self.open.insert(open).0)
    }

    fn lane(&self) -> &Arc<Semaphore> {
        let lanes = self.revocations.lanes();
        let silent = self.peer.standing().trouble.is_some()
            || self
                .node
                .update(|progress| progress.tally.unreachable.is_some());
        if silent {
            &lanes.silent
        } else {
            &lanes.answering
        }
    }

    fn failed(&mut self, fault: Fault) -> Duration {
        self.open = None;
        let (state, error, pause) = match fault {
            Fault::Link(error) => (State::Unreachable, error.to_string(), self.pace.failed()),
            Fault::NoAddress => return LAST_PAUSE,
            Fault::Busy(error) => (State::Waiting, error, self.pace.failed()),
            Fault::Refused(error) => (State::Refuses, error, jittered(LAST_PAUSE)),
            Fault::Store(error) => {
                error!(agent = %self.node.id, "how far it is with revocations can't be recorded, tried again: {error}");
                return self.pace.failed();
            }
        };
        let error = answer::printable(&error, MAX_ERROR_CHARS);
        let trouble = Some(Trouble { state, error });
        let mut is_new = false;
        self.peer.update(|standing| {
            let before = standing.trouble.as_ref().map(|trouble| trouble.state);
            is_new = before != Some(state);
            standing.trouble.clone_from(&trouble);
        });
        if let Some(Trouble { error, .. }) = trouble.filter(|_| is_new) {
            warn!(agent = %self.node.id, log = self.log.id, "revocations don't reach it, tried again until they do: {error}");
        }
        pause
    }
}

/// Records what a node said of itself, in the database where that is new, then in memory.
///
/// # Errors
/// The database.
pub async fn record(
    revocations: &Revocations,
    node: &Node,
    peer: &Peer,
    (position, speaks): (u64, Speaks),
    outcomes: &[Outcome],
) -> Result<(), crate::store::StoreError> {
    let before = peer.standing();
    let speaks_anew = before.speaks != Some(speaks);
    let moved = before.position != position || speaks_anew;
    // What it speaks alone is written with the position that it comes to: a thousand peers that take their first entry shall not
    // wait for the disk in between.
    let written = before.position != position || speaks_anew && position >= peer.log.last();
    let at = unix_now();
    if written || !outcomes.is_empty() {
        let json = |outcome: &Outcome| {
            let ended = serde_json::to_string(&outcome.ended);
            (outcome.number, ended.unwrap_or_default())
        };
        let outcomes: Vec<_> = outcomes.iter().map(json).collect();
        let report = Report {
            log_id: &peer.log.id,
            position,
            speaks,
            at,
            outcomes: &outcomes,
        };
        revocations.store().reported(&node.id, report).await?;
    }
    peer.update(|standing| {
        standing.trouble = None;
        if moved {
            standing.position = position;
            standing.speaks = Some(speaks);
            standing.since = Some(at);
        }
    });
    Ok(())
}

fn read(answer: &Answer) -> Result<Option<Said>, Fault> {
    answer::read(&answer.body).map_err(|error| {
        Fault::Refused(format!(
            "it answers what no agent of this API answers: {error}"
        ))
    })
}

fn refusal(answer: &Answer) -> Fault {
    let (status, reason) = (answer.status, answer.reason());
    let error = format!("HTTP {status}, \"{reason}\"");
    match status {
        500.. => Fault::Busy(error),
        _ => Fault::Refused(error),
    }
}

/// The longest pause while actions run.
const LATER: Duration = Duration::from_secs(10);

/// A connection is given up for a pause that is longer.
const KEPT_OPEN: Duration = Duration::from_millis(250);

/// What is kept of an error.
const MAX_ERROR_CHARS: usize = 300;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(3),
    answer: Duration::from_secs(10),
    answer_bytes: 64 << 10,
};
