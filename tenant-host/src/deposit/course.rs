//! What comes next on the way to a deposit, without a socket or a clock.
//!
//! The shell asks for the next [`Step`], does it, and tells what came of it. Nothing is sealed before the node has registered
//! with the key that is wanted; what fails after the verifier has the node is taken back, so that no node waits for a payload
//! that never comes. A new deposit for a node that is there leaves the older one until it is whole.

use std::time::Duration;

/// The pauses while a node hasn't registered.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The pauses before something is sent again.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// How often a deposit that the verifier no longer knows is begun again.
const MAX_RESTARTS: u32 = 2;

/// What is done at the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The node is new there.
    Add,
    /// What it has of the node goes first.
    Update,
    /// The node stays, with its policies; the payload is new.
    Rotate,
}

/// What is to be deposited, and how long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is done at the verifier.
    pub mode: Mode,
    /// Whether there is a payload; else the node is attested only.
    pub payload: bool,
    /// How long to wait for a node that hasn't registered.
    pub wait: Option<Duration>,
    /// How long the rest may take.
    pub limit: Duration,
}

/// What the shell does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the registrar for the node, and check its keys.
    AskRegistrar,
    /// Ask the verifier whether it has the node, and whether it knows of payloads.
    AskVerifier,
    /// Seal.
    Seal,
    /// Delete the verifier's older record and wait until it is gone.
    RemoveOld,
    /// Give the node and its policies to the verifier.
    Enrol,
    /// Give it manifest and V.
    Deposit,
    /// Give it the sealed bytes.
    Upload,
    /// Ask it whether it has the whole deposit: an answer was lost.
    LookUp,
    /// Wait.
    Pause(Duration),
    /// Delete the record that was made on the way.
    Withdraw,
    /// It is over.
    Done,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The node hasn't registered.
    NotRegistered,
    /// It registered with another key than the one that was told.
    AnotherKey,
    /// It registered, and its keys hold.
    Registered,
    /// Whether the verifier has the node.
    Verifier(bool),
    /// The payload is sealed.
    Sealed,
    /// The older record is gone.
    Removed,
    /// The verifier attests the node from now on.
    Enrolled,
    /// It has manifest and V.
    Deposited,
    /// It has the sealed bytes, and they fit.
    Uploaded,
    /// It doesn't know this deposit (any more).
    UnknownPayload,
    /// Whether it has the whole deposit.
    Found(bool),
    /// Whoever was asked couldn't be reached just now, or was busy.
    Unreachable(String),
    /// It went wrong for good; the shell knows why.
    Failed,
    /// The operator wants to stop.
    Interrupted,
    /// The record at the verifier is deleted, or the reason why not.
    Withdrawn(Result<(), String>),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The verifier has the whole deposit; or, without a payload, the node.
    Done,
    /// The node hasn't registered.
    NotRegistered,
    /// It registered with another key than the one that was told.
    AnotherKey,
    /// The verifier has the node already.
    Exists,
    /// The verifier doesn't have the node.
    Missing,
    /// It took too long; what was last seen.
    TimedOut(String),
    /// It went wrong; the shell knows why.
    Failed,
    /// The operator stopped it.
    Interrupted,
}

/// Where the course stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Register,
    AskVerifier,
    Seal,
    RemoveOld,
    Enrol,
    Deposit,
    Upload,
    LookUp,
    Withdraw,
    Done,
}

/// The course of one deposit.
#[derive(Debug)]
pub struct Course {
    plan: Plan,
    phase: Phase,
    pause: Option<Duration>,
    last_pause: Duration,
    /// When the node had registered.
    since: Duration,
    restarts: u32,
    enrolled: bool,
    last_seen: String,
    verdict: Option<Verdict>,
    withdrawn: Option<Result<(), String>>,
}

impl Course {
    /// A course at its start.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            phase: Phase::Register,
            pause: None,
            last_pause: Duration::ZERO,
            since: Duration::ZERO,
            restarts: 0,
            enrolled: false,
            last_seen: "asking the registrar".to_owned(),
            verdict: None,
            withdrawn: None,
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Whether what was made at the verifier was taken back; `None` if there was no need.
    #[must_use]
    pub const fn withdrawn(&self) -> Option<&Result<(), String>> {
        self.withdrawn.as_ref()
    }

    /// What is waited for, in words.
    #[must_use]
    pub fn last_seen(&self) -> &str {
        &self.last_seen
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        if let Some(pause) = self.pause.take() {
            return Step::Pause(pause);
        }
        match self.phase {
            Phase::Register => Step::AskRegistrar,
            Phase::AskVerifier => Step::AskVerifier,
            Phase::Seal => Step::Seal,
            Phase::RemoveOld => Step::RemoveOld,
            Phase::Enrol => Step::Enrol,
            Phase::Deposit => Step::Deposit,
            Phase::Upload => Step::Upload,
            Phase::LookUp => Step::LookUp,
            Phase::Withdraw => Step::Withdraw,
            Phase::Done => Step::Done,
        }
    }

    /// Takes what came of the last step; `now` counts from the start.
    pub fn happened(&mut self, event: Event, now: Duration) {
        match (self.phase, event) {
            (Phase::Done, _) => {}
            (Phase::Withdraw, Event::Withdrawn(result)) => {
                self.withdrawn = Some(result);
                self.phase = Phase::Done;
            }
            // What is taken back is taken back whatever happens meanwhile.
            (Phase::Withdraw, _) => {}
            (_, Event::Interrupted) => self.end(Verdict::Interrupted),
            (_, Event::Failed) => self.end(Verdict::Failed),
            (Phase::Register, event) => self.registered(event, now),
            (phase, Event::Unreachable(reason)) => self.again(phase, reason, now),
            (Phase::AskVerifier, Event::Verifier(has_node)) => self.asked(has_node),
            (Phase::Seal, Event::Sealed) => self.go(match self.plan.mode {
                Mode::Add => Phase::Enrol,
                Mode::Update => Phase::RemoveOld,
                Mode::Rotate => Phase::Deposit,
            }),
            (Phase::RemoveOld, Event::Removed) => self.go(Phase::Enrol),
            (Phase::Enrol, Event::Enrolled) => {
                self.enrolled = true;
                match self.plan.payload {
                    true => self.go(Phase::Deposit),
                    false => self.end(Verdict::Done),
                }
            }
            (Phase::Deposit, Event::Deposited) => self.go(Phase::Upload),
            (Phase::Upload, Event::Uploaded) | (Phase::LookUp, Event::Found(true)) => {
                self.end(Verdict::Done);
            }
            (Phase::LookUp, Event::Found(false)) => self.go(Phase::Upload),
            (Phase::Upload, Event::UnknownPayload) => self.restart(),
            // A shell that answers another question than the one that was asked.
            (_, _) => self.end(Verdict::Failed),
        }
    }

    fn registered(&mut self, event: Event, now: Duration) {
        let (missing, seen) = match event {
            Event::Registered => {
                self.since = now;
                self.last_seen = "asking the verifier".to_owned();
                return self.go(Phase::AskVerifier);
            }
            Event::NotRegistered => {
                let seen = "the node hasn't registered yet".to_owned();
                (Verdict::NotRegistered, seen)
            }
            Event::AnotherKey => {
                let seen = "a node registered under this name with another EK".to_owned();
                (Verdict::AnotherKey, seen)
            }
            Event::Unreachable(reason) => (Verdict::Failed, reason),
            _ => return self.end(Verdict::Failed),
        };
        self.last_seen = seen;
        if self.plan.wait.is_some_and(|wait| now < wait) {
            self.wait(FIRST_WAIT, LAST_WAIT);
        } else {
            self.end(missing);
        }
    }

    fn asked(&mut self, has_node: bool) {
        match (self.plan.mode, has_node) {
            (Mode::Add, true) => self.end(Verdict::Exists),
            (Mode::Rotate, false) => self.end(Verdict::Missing),
            _ if self.plan.payload => {
                self.last_seen = "sealing".to_owned();
                self.go(Phase::Seal);
            }
            (Mode::Update, true) => self.go(Phase::RemoveOld),
            _ => self.go(Phase::Enrol),
        }
    }

    /// Tries once more where that does no harm. An enrolment whose answer was lost may have arrived, so it is taken back.
    fn again(&mut self, phase: Phase, reason: String, now: Duration) {
        self.last_seen = reason;
        match phase {
            Phase::Deposit | Phase::Upload | Phase::LookUp if self.has_time(now) => {
                if phase == Phase::Upload {
                    self.phase = Phase::LookUp;
                }
                self.wait(FIRST_RETRY, LAST_RETRY);
            }
            Phase::Deposit | Phase::Upload | Phase::LookUp => {
                self.end(Verdict::TimedOut(self.last_seen.clone()));
            }
            Phase::Enrol => {
                self.enrolled = true;
                self.end(Verdict::Failed);
            }
            _ => self.end(Verdict::Failed),
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        if self.restarts > MAX_RESTARTS {
            self.end(Verdict::Failed);
        } else {
            self.last_seen = "the verifier has forgotten the deposit".to_owned();
            self.go(Phase::Deposit);
            self.wait(FIRST_RETRY, LAST_RETRY);
        }
    }

    fn has_time(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) < self.plan.limit
    }

    fn go(&mut self, phase: Phase) {
        self.phase = phase;
        self.last_pause = Duration::ZERO;
    }

    fn wait(&mut self, first: Duration, last: Duration) {
        let pause = (self.last_pause * 2).clamp(first, last);
        self.last_pause = pause;
        self.pause = Some(pause);
    }

    /// What an earlier deposit left stays; what this course made at the verifier goes, unless all of it is there.
    fn end(&mut self, verdict: Verdict) {
        let keeps = verdict == Verdict::Done || !self.enrolled;
        self.phase = if keeps { Phase::Done } else { Phase::Withdraw };
        self.pause = None;
        self.verdict = Some(verdict);
    }
}

#[cfg(test)]
mod tests;
