//! The verdict about evidence that a node brought by itself, and what it changes.
//!
//! It is judged by the same terms as a polled node, fails the same way, and stays failed until it is reactivated.

use std::sync::Arc;

use agent_core::wire::quote::ClockInfo;
use serde_json::json;

use super::attend::{keep, record_failure};
use super::logs::{self, Came, Fault, Known};
use super::node::{Node, unix_now};
use super::progress::{Algorithms, Failure, OperationalState};
use super::round::event;
use super::schedule::{ChangeError, Rounds};
use super::terms::Terms;
use crate::evidence::pushed::{self, Asked, Parts, Pushed};
use crate::evidence::quote::QuoteError;
use crate::evidence::shown::Shown;

/// What evidence that holds brings.
#[derive(Debug)]
pub struct Judged {
    /// The quote.
    pub pushed: Pushed,
    /// What is known of the node's IMA list from now on.
    pub known: Option<Arc<Known>>,
}

/// Why evidence doesn't let a node pass.
#[derive(Debug)]
pub enum NotPassed {
    /// The node booted anew, and its whole IMA list is needed.
    ReadAnew,
    /// It doesn't hold; with what the node showed, if the quote did.
    Failed(Failure, Option<Box<Shown>>),
}

/// Judges a quote by the node's terms, and the logs beside it by its policies.
///
/// # Errors
/// Why it doesn't hold, for operators and peers; or the whole list is needed.
pub fn judge(
    terms: &Terms,
    parts: Parts<'_>,
    asked: &Asked<'_>,
    (logs, came): (&logs::Asked, Came<'_>),
) -> Result<Judged, NotPassed> {
    let pushed = pushed::check(&terms.ak, parts, asked);
    let pushed = pushed.map_err(|error| NotPassed::Failed(quote_failure(&error), None))?;
    let known = logs.judge(terms, came, &pushed.pcrs, pushed.clock);
    let known = known.map_err(|fault| match fault {
        Fault::ReadAnew => NotPassed::ReadAnew,
        Fault::Failed(failed) => NotPassed::Failed(failed.failure, Some(Box::new(failed.shown))),
    })?;
    Ok(Judged { pushed, known })
}

fn quote_failure(error: &QuoteError) -> Failure {
    let reason = error.to_string();
    Failure {
        // Keylime's spelling, which its receivers look for.
        event_id: format!("qoute_validation.{}", event(error)),
        context: json!({ "context": &reason }),
        reason,
    }
}

impl Rounds {
    /// Records a pass. `false` if the node may not pass any more: it failed, was stopped or deleted meanwhile.
    ///
    /// # Errors
    /// The database, where more than counts had to be written.
    pub async fn caller_passed(
        &self,
        node: &Arc<Node>,
        clock: ClockInfo,
    ) -> Result<bool, ChangeError> {
        let now = unix_now();
        let ak = &node.terms.ak;
        let changed = node.update(|progress| {
            let standing = &mut progress.standing;
            if !standing.state.is_attesting() {
                return None;
            }
            let boot = Some((clock.reset_count, clock.restart_count));
            let same = standing.passed
                && standing.boot == boot
                && standing.state == OperationalState::GetQuote;
            if !same {
                standing.state = OperationalState::GetQuote;
                standing.algorithms = Some(Algorithms {
                    hash: ak.hash_alg().name().to_owned(),
                    enc: String::new(),
                    sign: ak.sign_alg().name().to_owned(),
                });
            }
            progress.passed(clock, now);
            Some(!same)
        });
        match changed {
            None => Ok(false),
            Some(false) => Ok(true),
            Some(true) => {
                self.write_caller(node).await?;
                Ok(true)
            }
        }
    }

    /// Records a failure and revokes the node, once: not if it isn't attested any more.
    ///
    /// # Errors
    /// The database; the node counts as failed all the same until this program ends.
    pub async fn caller_failed(
        &self,
        node: &Arc<Node>,
        failure: Failure,
        shown: Option<Box<Shown>>,
    ) -> Result<(), ChangeError> {
        let node = Arc::clone(node);
        self.to_its_end(|this| async move {
            let attesting = node.update(|progress| progress.standing.state.is_attesting());
            if !attesting || !this.is_current(&node) {
                return Ok(());
            }
            let state = OperationalState::InvalidQuote;
            let recorded = record_failure(&this.shared, &node, state, failure).await;
            let written = if recorded {
                Ok(())
            } else {
                let progress = node.progress();
                this.shared.store.save_progress(&node.id, &progress).await
            };
            keep(&this.shared, &node, shown.as_deref()).await;
            Ok(written?)
        })
        .await
    }

    /// Whether this is still the node of its name: it wasn't deleted, nor added anew.
    #[must_use]
    pub fn is_current(&self, node: &Arc<Node>) -> bool {
        let current = self.get(&node.id);
        current.is_some_and(|current| Arc::ptr_eq(&current, node))
    }

    async fn write_caller(&self, node: &Arc<Node>) -> Result<(), ChangeError> {
        let node = Arc::clone(node);
        self.to_its_end(|this| async move {
            if this.is_current(&node) {
                let progress = node.progress();
                this.shared.store.save_progress(&node.id, &progress).await?;
            }
            Ok(())
        })
        .await
    }
}
