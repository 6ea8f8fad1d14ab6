//! The task that attests one node: asks, judges, hands V over, remembers, waits, and again.
//!
//! It may be stopped at any await: what it had not written yet is asked again, or given again, after the next start. So V
//! may come twice, which does no harm, but never not at all.

use std::sync::Arc;
use std::time::Duration;

use agent_core::wire::route::ApiVersion;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::logs::Asked;
use super::node::{Node, unix_now};
use super::progress::{Failure, OperationalState, Standing};
use super::round::{Challenge, Extent, Nonce, Passed, Reply, Verdict};
use super::schedule::Shared;
use crate::evidence::shown::Shown;
use crate::link::{Limits, Link, LinkError, Method};
use crate::policies::MissingPolicy;
use crate::transport::TransportKey;

/// One node, its connection, and what the database knows of it.
struct Attendant {
    shared: Arc<Shared>,
    node: Arc<Node>,
    link: Link,
    extent: Extent,
    written: Option<Standing>,
}

/// Attests the node until it fails, the first time after `first`. Dropping the future ends it.
///
/// A panic in a round, whatever an agent provoked it with, is reported like an agent that doesn't answer, and the next round
/// comes: a node that isn't attested any more must not look as if it were.
pub(super) async fn attend(shared: Arc<Shared>, node: Arc<Node>, first: Duration) {
    let later = shared.interval * MAX_BACKOFF_INTERVALS;
    let mut pause = first;
    let rounds = || {
        let attendant = Attendant::new(Arc::clone(&shared), Arc::clone(&node));
        let first = std::mem::replace(&mut pause, later);
        async move {
            if let Some(attendant) = attendant {
                attendant.run(first).await;
            }
        }
    };
    let broken = || {
        error!(agent = %node.id, "a round broke off by an error of this program");
        let reason = "a round broke off by an error of the verifier; its log says where";
        node.update(|progress| progress.unreachable(reason.to_owned(), unix_now()));
    };
    unbroken(rounds, broken).await;
}

/// Runs the task until it ends by itself; whenever it panics, says so and makes another one.
async fn unbroken<F>(mut task: impl FnMut() -> F, mut broken: impl FnMut())
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    running.spawn(task());
    while let Some(ended) = running.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            broken();
            running.spawn(task());
        }
    }
}

/// Why V didn't arrive.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the agent refuses it: HTTP {status}, \"{reason}\"")]
    Refused { status: u16, reason: String },
    #[error(transparent)]
    Key(#[from] crate::transport::TransportError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl Attendant {
    /// None for a node that calls by itself: nobody answers at its address.
    fn new(shared: Arc<Shared>, node: Arc<Node>) -> Option<Self> {
        let answer_bytes = match node.terms.text.runtime_policy {
            Some(_) => MAX_LIST_ANSWER_BYTES,
            None => AGENT_LIMITS.answer_bytes,
        };
        let link = node.link(Limits {
            answer_bytes,
            ..AGENT_LIMITS
        })?;
        Some(Self {
            shared,
            node,
            link,
            extent: Extent::Full,
            written: None,
        })
    }

    /// Rounds until the node fails.
    async fn run(mut self, first: Duration) {
        sleep(first).await;
        while self
            .node
            .update(|progress| progress.standing.state.is_attesting())
        {
            let pause = self.round().await;
            self.write().await;
            sleep(pause).await;
        }
    }

    /// One round; how long to wait for the next.
    async fn round(&mut self) -> Duration {
        match self.ask().await {
            Ok(Verdict::Passed(passed)) => self.passed(passed).await,
            Ok(Verdict::AskInFull) => {
                self.extent = Extent::Full;
                Duration::ZERO
            }
            Ok(Verdict::ReadAnew) => {
                self.node.remember(None);
                Duration::ZERO
            }
            Ok(Verdict::Renegotiate) => self.renegotiate().await,
            Ok(Verdict::Later(reason)) => self.unreachable(format!("it can't quote now: {reason}")),
            Ok(Verdict::Failed(state, failure, shown)) => self.failed(state, failure, shown).await,
            Err(reason) => self.unreachable(reason),
        }
    }

    async fn ask(&mut self) -> Result<Verdict, String> {
        let nonce = Nonce::random().map_err(|error| format!("no random numbers here: {error}"))?;
        let before = self.node.progress();
        let judged_by = match self.shared.policies.of(&self.node.terms) {
            Ok(judged_by) => judged_by,
            Err(missing) => return Ok(unjudged(&missing)),
        };
        let asked = Asked::new(judged_by, self.node.known());
        let challenge = Challenge::new(nonce, &self.node.terms, asked, &before, self.extent);
        {
            let _permit = self.shared.connecting.acquire().await;
            self.link
                .connect()
                .await
                .map_err(|error| error.to_string())?;
        }
        let target = challenge.target(before.standing.version);
        let answer = self
            .link
            .get(&target)
            .await
            .map_err(|error| error.to_string())?;
        let size = answer.body.len();
        let node = Arc::clone(&self.node);
        let judge = move || {
            let reply = Reply {
                status: answer.status,
                body: answer.body.into(),
            };
            challenge.judge(&node.terms, &before, reply)
        };
        if size < LONG_ANSWER_BYTES {
            return Ok(judge());
        }
        // Hashing a whole IMA list takes as long as hundreds of other nodes' quotes, which shall not wait for it.
        tokio::task::spawn_blocking(judge)
            .await
            .map_err(|error| format!("its answer couldn't be judged: {error}"))
    }

    async fn passed(&mut self, passed: Passed) -> Duration {
        self.node.remember(passed.known);
        let first = self.node.update(|progress| {
            let recovered = progress.tally.unreachable.is_some();
            let first = !progress.standing.passed || recovered;
            let boot = Some((passed.clock.reset_count, passed.clock.restart_count));
            self.ask_about_revocations(recovered || progress.standing.boot != boot);
            progress.passed(passed.clock, unix_now());
            progress.standing.algorithms = Some(passed.algorithms);
            progress.standing.pubkey = Some(passed.pubkey.clone());
            let given = progress.standing.v_given_to.as_ref() == Some(&passed.pubkey);
            progress.standing.state = if self.node.has_v && !given {
                OperationalState::ProvideV
            } else {
                OperationalState::GetQuote
            };
            first
        });
        if first {
            info!(agent = %self.node.id, "passed");
        }
        self.extent = Extent::Partial;
        if self.node.update(|progress| progress.standing.state) != OperationalState::ProvideV {
            return self.pause();
        }
        match self.provide_v(&passed.pubkey).await {
            Ok(()) => {
                info!(agent = %self.node.id, "V given");
                self.ask_about_revocations(true);
                self.node.update(|progress| {
                    progress.standing.v_given_to = Some(passed.pubkey);
                    progress.standing.state = OperationalState::GetQuote;
                });
            }
            Err(error) => {
                warn!(agent = %self.node.id, "V not delivered, it comes after the next pass: {error}");
                self.extent = Extent::Full;
                let state = OperationalState::ProvideVRetry;
                self.node.update(|progress| progress.standing.state = state);
            }
        }
        self.pause()
    }

    /// The node answers. `anew`: it lost what it knew of revocations, or may act on them from now on.
    fn ask_about_revocations(&self, anew: bool) {
        match &self.node.peer {
            Some(peer) if anew => peer.ask_again(),
            Some(peer) => peer.is_reachable(),
            None => {}
        }
    }

    async fn provide_v(&mut self, pubkey: &str) -> Result<(), Undelivered> {
        let Some(v) = self.shared.store.v(&self.node.id).await? else {
            return Ok(());
        };
        let encrypted = TransportKey::from_pem(pubkey)?.encrypt(&v)?;
        let version = self.node.update(|progress| progress.standing.version);
        let body = json!({ "encrypted_key": BASE64_STANDARD.encode(encrypted) });
        let path = format!("/v{version}/keys/vkey");
        let answer = self.link.request(Method::POST, &path, Some(&body)).await?;
        match answer.status {
            200 => Ok(()),
            status => Err(Undelivered::Refused {
                status,
                reason: answer.reason(),
            }),
        }
    }

    /// Asks the agent which versions it has, and takes the newest common one.
    async fn renegotiate(&mut self) -> Duration {
        let found = match self
            .link
            .get("/version")
            .await
            .and_then(|answer| answer.json::<VersionBody>())
        {
            Ok(body) => body.results.supported_versions,
            Err(LinkError::Json { source, .. }) => {
                return self
                    .no_version(format!("its list is unreadable: {source}"))
                    .await;
            }
            Err(error) => return self.unreachable(error.to_string()),
        };
        let newest = found
            .iter()
            .filter_map(|name| ApiVersion::parse(name))
            .max();
        let (before, passed) = self
            .node
            .update(|p| (p.standing.version, p.standing.passed));
        match newest {
            None => {
                self.no_version("it has none in common with this verifier".to_owned())
                    .await
            }
            Some(version) if version == before => {
                self.no_version(format!("it lists {version} and refuses it"))
                    .await
            }
            Some(version) if version < before && passed => {
                let reason = format!(
                    "it passed with {before} and now offers {version} at most, which may be a downgrade"
                );
                self.no_version(reason).await
            }
            Some(version) => {
                info!(agent = %self.node.id, "speaks API version {version}");
                self.node
                    .update(|progress| progress.standing.version = version);
                RENEGOTIATED
            }
        }
    }

    async fn no_version(&mut self, reason: String) -> Duration {
        let failure = Failure {
            event_id: "agent_validation.api_version".to_owned(),
            reason: format!("no API version to talk to the agent: {reason}"),
            context: json!({ "context": reason }),
        };
        self.failed(OperationalState::Failed, failure, None).await
    }

    fn unreachable(&mut self, reason: String) -> Duration {
        self.extent = Extent::Full;
        let attempts = self.node.update(|progress| {
            progress.unreachable(reason.clone(), unix_now());
            progress
                .tally
                .unreachable
                .as_ref()
                .map_or(1, |trouble| trouble.attempts)
        });
        if attempts == 1 {
            warn!(agent = %self.node.id, "no answer, asked again until it comes back: {reason}");
        }
        let doubled = self
            .shared
            .interval
            .saturating_mul(1 << (attempts - 1).min(4));
        jittered(doubled.min(self.shared.interval * MAX_BACKOFF_INTERVALS))
    }

    async fn failed(
        &mut self,
        state: OperationalState,
        failure: Failure,
        shown: Option<Box<Shown>>,
    ) -> Duration {
        if record_failure(&self.shared, &self.node, state, failure).await {
            self.written = Some(self.node.progress().standing);
        }
        self.write().await;
        keep(&self.shared, &self.node, shown.as_deref()).await;
        Duration::ZERO
    }

    fn pause(&self) -> Duration {
        jittered(self.shared.interval)
    }

    /// Writes the progress if its standing isn't what the database has. The next round waits until that worked.
    async fn write(&mut self) {
        loop {
            let progress = self.node.progress();
            if self.written.as_ref() == Some(&progress.standing) {
                return;
            }
            match self
                .shared
                .store
                .save_progress(&self.node.id, &progress)
                .await
            {
                Ok(()) => {
                    self.written = Some(progress.standing);
                    return;
                }
                Err(error) => {
                    error!(agent = %self.node.id, "its progress can't be written, tried again: {error}");
                    sleep(WRITE_AGAIN).await;
                }
            }
        }
    }
}

/// Says in memory and in the log that the node failed; the revocation, if one is due, is recorded before anybody knows. Whether the
/// node's failure is in the database by that.
pub(super) async fn record_failure(
    shared: &Shared,
    node: &Arc<Node>,
    state: OperationalState,
    failure: Failure,
) -> bool {
    error!(agent = %node.id, event = failure.event_id, "failed: {}", failure.reason);
    match state {
        OperationalState::InvalidQuote => shared.revocations.node_failed(node, failure).await,
        _ => {
            node.update(|progress| progress.failed(state, failure, unix_now()));
            false
        }
    }
}

/// Keeps what a node showed, for whoever asks why it failed. That it failed doesn't depend on it.
pub(super) async fn keep(shared: &Shared, node: &Node, shown: Option<&Shown>) {
    if let Some(shown) = shown
        && let Err(error) = shared.store.save_shown(&node.id, unix_now(), shown).await
    {
        warn!(agent = %node.id, "what it showed can't be kept: {error}");
    }
}

/// The verdict about a node whose policy isn't there: it can't pass.
pub(super) fn unjudged(missing: &MissingPolicy) -> Verdict {
    Verdict::Failed(OperationalState::Failed, missing_policy(missing), None)
}

/// What is said of a policy that isn't there. No word about the node: it revokes nothing.
pub(super) fn missing_policy(missing: &MissingPolicy) -> Failure {
    let reason = missing.to_string();
    Failure {
        event_id: "verifier.missing_policy".to_owned(),
        context: json!({ "context": &reason }),
        reason,
    }
}

#[derive(Deserialize)]
struct VersionBody {
    results: Versions,
}

#[derive(Deserialize)]
struct Versions {
    supported_versions: Vec<String>,
}

/// A tenth more or less, so that nodes that started together don't stay together.
fn jittered(pause: Duration) -> Duration {
    let random = SysRng.try_next_u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

/// A TPM that is busy takes seconds; an IMA list, which agents send whether it is wanted or not, has some megabytes.
const AGENT_LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(30),
    answer_bytes: 8 << 20,
};

/// Where the list is judged: that of a busy server, which comes whole with a first quote, has some 30 MB.
const MAX_LIST_ANSWER_BYTES: usize = 64 << 20;

/// An answer that is judged beside the others.
const LONG_ANSWER_BYTES: usize = 64 << 10;

/// A node that doesn't answer is asked this many times less often, at most.
const MAX_BACKOFF_INTERVALS: u32 = 5;

/// An agent that names another version each time is asked no faster than this.
const RENEGOTIATED: Duration = Duration::from_millis(100);

const WRITE_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::unbroken;

    #[tokio::test]
    async fn panic_ends_no_rounds() {
        let (tasks, broken) = (Cell::new(0), Cell::new(0));
        let task = || {
            let number = tasks.get();
            tasks.set(number + 1);
            async move { assert!(number >= 2, "provoked by an agent") }
        };
        unbroken(task, || broken.set(broken.get() + 1)).await;
        assert_eq!((tasks.get(), broken.get()), (3, 2));
    }
}
