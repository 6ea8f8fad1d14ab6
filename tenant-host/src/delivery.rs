//! Which half goes where, and what comes next: the course of one delivery, without a socket or a clock.
//!
//! The shell asks for the next [`Step`], does it, and tells what came of it. The agent gets U and the payload first, the
//! verifier then V; the verifier alone decides whether V ever reaches the node. What fails before the node has passed is taken
//! back from the verifier, so that nothing half done stays; what fails afterwards stays under attestation.

use std::time::Duration;

mod view;

pub use view::{
    FailureView, Outcome, Script, ScriptEnd, Stage, UnreachableView, VerifierView, state_name,
};
pub(crate) use view::{OutcomeAnswer, printable};

/// The shortest pause between two questions to one peer.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two questions about the outcome.
const MAX_OUTCOME_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two questions to the verifier.
const MAX_VERIFIER_PAUSE: Duration = Duration::from_secs(2);

/// How much rarer the verifier is asked than the agent while both are waited for.
const VERIFIER_SHARE: u32 = 4;

/// What is to be delivered, and how far it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether there is a payload, and so a U and a V.
    pub payload: bool,
    /// Whether the verifier's record of an older delivery goes first.
    pub replace: bool,
    /// Whether the agent has to prove that it holds the key (`--verify`).
    pub verify: bool,
    /// How long the whole may take.
    pub limit: Duration,
}

/// What the shell does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the verifier's older record and wait until it is gone.
    RemoveOld,
    /// Give U and the payload to the agent.
    SendHalf,
    /// Give V and the policies to the verifier.
    Enrol,
    /// Ask the verifier for its view of the node.
    AskVerifier,
    /// Ask the agent to prove that it holds the key.
    AskProof,
    /// Ask the agent what became of the payload.
    AskOutcome,
    /// Wait.
    Pause(Duration),
    /// Delete the record that this delivery made at the verifier.
    Withdraw,
    /// It is over.
    Done,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The older record is gone.
    Removed,
    /// The agent has U and the payload.
    HalfSent,
    /// The verifier has V and the policies.
    Enrolled,
    /// The verifier's view; `None` if it knows no such node.
    Verifier(Option<Box<VerifierView>>),
    /// Whether the agent proved that it holds the key.
    Proof(bool),
    /// The agent's outcome.
    Outcome(Outcome),
    /// The agent has no such route: it isn't one of ours.
    NoOutcomeRoute,
    /// Whoever was asked couldn't be reached just now.
    Unreachable(String),
    /// Whoever was asked can't be trusted or talked to any more.
    Lost(String),
    /// The operator wants to stop.
    Interrupted,
    /// The record at the verifier is deleted, or the reason why not.
    Withdrawn(Result<(), String>),
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No payload was to be delivered, and the node passed.
    Attested,
    /// The payload is in place, and its script, if it has one, ended with 0.
    Finished(Option<Script>),
    /// The agent has the key; it doesn't report what became of the payload.
    Delivered,
    /// The script ended with something else than 0.
    ScriptFailed(Script),
    /// The agent couldn't open or unpack the payload, or start its script.
    PayloadFailed(String),
    /// The verifier refused the node.
    Refused(Box<VerifierView>),
    /// The verifier lost the node's record: somebody deleted it.
    Vanished,
    /// It took too long; what was last seen.
    TimedOut(String),
    /// Agent or verifier can't be talked to any more.
    Lost(String),
    /// The operator stopped it.
    Interrupted,
}

/// Where the course stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    RemoveOld,
    SendHalf,
    Enrol,
    Watch,
    Withdraw,
    Done,
}

/// The course of one delivery.
#[derive(Debug)]
pub struct Delivery {
    plan: Plan,
    phase: Phase,
    /// When the watching began.
    since: Duration,
    next_verifier: Duration,
    next_agent: Duration,
    passed: bool,
    opened: bool,
    proved: bool,
    reports: bool,
    last_seen: String,
    verdict: Option<Verdict>,
    withdrawn: Option<Result<(), String>>,
}

impl Delivery {
    /// A course at its start.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            phase: if plan.replace {
                Phase::RemoveOld
            } else {
                first_after_removal(plan)
            },
            since: Duration::ZERO,
            next_verifier: Duration::ZERO,
            next_agent: Duration::ZERO,
            passed: false,
            opened: false,
            proved: false,
            reports: true,
            last_seen: "nothing was heard of the node yet".to_owned(),
            verdict: None,
            withdrawn: None,
        }
    }

    /// What to do now. `now` is the time since the start.
    pub fn next(&mut self, now: Duration) -> Step {
        match self.phase {
            Phase::RemoveOld => Step::RemoveOld,
            Phase::SendHalf => Step::SendHalf,
            Phase::Enrol => Step::Enrol,
            Phase::Watch => self.watch(now),
            Phase::Withdraw => Step::Withdraw,
            Phase::Done => Step::Done,
        }
    }

    /// Takes what came of the last step.
    pub fn happened(&mut self, event: Event, now: Duration) {
        match event {
            Event::Removed => self.phase = first_after_removal(self.plan),
            Event::HalfSent => self.phase = Phase::Enrol,
            Event::Enrolled => {
                self.phase = Phase::Watch;
                self.since = now;
                self.next_verifier = now + MIN_PAUSE;
                self.next_agent = now + MIN_PAUSE;
            }
            Event::Verifier(view) => self.verifier_said(view),
            Event::Proof(holds) => self.proof_came(holds),
            Event::Outcome(outcome) => self.outcome_came(outcome),
            Event::NoOutcomeRoute => {
                self.reports = false;
                self.next_agent = now;
            }
            Event::Unreachable(reason) => self.last_seen = reason,
            Event::Lost(reason) => self.end(Verdict::Lost(reason)),
            Event::Interrupted => self.end(Verdict::Interrupted),
            Event::Withdrawn(result) => {
                self.withdrawn = Some(result);
                self.phase = Phase::Done;
            }
        }
    }

    /// How it ended, once [`Step::Done`] came.
    #[must_use]
    pub const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Whether the verifier's record was taken back; `None` if it stays.
    #[must_use]
    pub const fn withdrawn(&self) -> Option<&Result<(), String>> {
        self.withdrawn.as_ref()
    }

    /// Whether the node has passed at least once: only then can it have had V.
    #[must_use]
    pub const fn has_passed(&self) -> bool {
        self.passed
    }

    /// What was last seen of the node, in words.
    #[must_use]
    pub fn last_seen(&self) -> &str {
        &self.last_seen
    }

    fn watch(&mut self, now: Duration) -> Step {
        if now >= self.plan.limit {
            self.end(Verdict::TimedOut(self.last_seen.clone()));
            return self.next(now);
        }
        let waited = now.saturating_sub(self.since);
        if self.plan.payload && now >= self.next_agent {
            self.next_agent = now + (waited / 8).clamp(MIN_PAUSE, MAX_OUTCOME_PAUSE);
            return if self.needs_proof() {
                Step::AskProof
            } else {
                Step::AskOutcome
            };
        }
        if now >= self.next_verifier {
            let share = if self.plan.payload { VERIFIER_SHARE } else { 1 };
            self.next_verifier = now + (waited / 8).clamp(MIN_PAUSE * share, MAX_VERIFIER_PAUSE);
            return Step::AskVerifier;
        }
        let next = if self.plan.payload {
            self.next_agent.min(self.next_verifier)
        } else {
            self.next_verifier
        };
        Step::Pause(next.min(self.plan.limit).saturating_sub(now))
    }

    /// An agent that doesn't report shows by the proof alone that V has arrived; of one that does, it is asked on demand.
    const fn needs_proof(&self) -> bool {
        (!self.reports || (self.plan.verify && self.opened)) && !self.proved
    }

    fn verifier_said(&mut self, view: Option<Box<VerifierView>>) {
        let Some(view) = view else {
            // Keylime's verifier answers POST before the record can be read.
            if self.passed {
                self.end(Verdict::Vanished);
            } else {
                "the verifier doesn't show the node's record yet".clone_into(&mut self.last_seen);
            }
            return;
        };
        self.passed |= view.has_passed();
        if view.is_refused() {
            self.end(Verdict::Refused(view));
            return;
        }
        // Once the node has its key, the agent's own word says more.
        if !self.opened {
            self.last_seen = view.in_words();
        }
        if self.passed && !self.plan.payload {
            self.end(Verdict::Attested);
        }
    }

    fn proof_came(&mut self, holds: bool) {
        if !holds {
            return;
        }
        self.passed = true;
        self.proved = true;
        "the agent has the key".clone_into(&mut self.last_seen);
        if !self.reports {
            self.end(Verdict::Delivered);
        }
    }

    fn outcome_came(&mut self, outcome: Outcome) {
        let over = matches!(outcome.stage, Stage::Finished | Stage::Failed);
        self.opened |= over || outcome.stage.has_key();
        self.passed |= self.opened;
        if outcome.stage.has_key() {
            outcome.stage.in_words().clone_into(&mut self.last_seen);
        }
        // The verifier's view says more while the node still waits for V.
        if !over || self.needs_proof() {
            return;
        }
        self.end(match (outcome.stage, outcome.script) {
            (_, Some(script)) if script.end != ScriptEnd::Exit(0) => Verdict::ScriptFailed(script),
            (Stage::Failed, _) => Verdict::PayloadFailed(
                outcome
                    .error
                    .unwrap_or_else(|| "the agent gives no reason".to_owned()),
            ),
            (_, script) => Verdict::Finished(script),
        });
    }

    fn end(&mut self, verdict: Verdict) {
        let gone = matches!(verdict, Verdict::Vanished);
        self.phase = if self.passed || gone {
            Phase::Done
        } else {
            Phase::Withdraw
        };
        self.verdict = Some(verdict);
    }
}

const fn first_after_removal(plan: Plan) -> Phase {
    if plan.payload {
        Phase::SendHalf
    } else {
        Phase::Enrol
    }
}

#[cfg(test)]
mod tests;
