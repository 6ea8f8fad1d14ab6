//! Acting on what was taken, one message after the other.

use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::revocation::{Entry, Kind};

use super::Revocations;
use super::line::Line;
use super::record::RecordedEnd;
use super::state::State;
use crate::actions::{Actions, Hold, Notice, Outcome, Progress};
use crate::job::OutputPolicy;

/// A message whose turn has come.
struct Turn {
    seq: u64,
    digest: [u8; 32],
    kind: Option<Kind>,
    /// How the log calls it.
    name: String,
}

impl Revocations {
    /// Acts on each message as it is taken, until [`Revocations::stop`]; says when it begins with one, and when that has ended.
    pub fn work(&self, actions: &Actions<'_>, cancel: &AtomicBool, is_at_one: &dyn Fn(bool)) {
        while let Some(turn) = self.next_turn() {
            is_at_one(true);
            self.take_turn(&turn, actions, cancel);
            is_at_one(false);
            if cancel.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Acts on all messages that wait now, as long as there is time.
    pub fn work_off(&self, actions: &Actions<'_>, cancel: &AtomicBool) {
        loop {
            let turn = begin(&mut self.lock());
            match turn {
                Some(turn) if self.take_turn(&turn, actions, cancel) => {}
                _ => return,
            }
        }
    }

    /// Nothing more is acted on.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits for the next one; `None` at the end.
    fn next_turn(&self) -> Option<Turn> {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            if let Some(turn) = begin(&mut state) {
                return Some(turn);
            }
            state = self.wait_in(state);
        }
    }

    /// Whether it came to the last of its actions.
    fn take_turn(&self, turn: &Turn, actions: &Actions<'_>, cancel: &AtomicBool) -> bool {
        let text = self.lock().text(turn.seq, &turn.digest);
        let mut followed = Followed {
            revocations: self,
            seq: turn.seq,
            failed: 0,
        };
        let is_done = match &text {
            Ok(text) => {
                let notice = Notice {
                    text,
                    kind: turn.kind,
                };
                actions.carry_out(&notice, cancel, &mut followed)
            }
            Err(error) => {
                log::error!("{} can't be acted on: its message: {error}", turn.name);
                self.lock().note_anyway(Line::End {
                    seq: turn.seq,
                    name: "message".to_owned(),
                    end: RecordedEnd::NotRun(error.to_string()),
                    millis: 0,
                });
                true
            }
        };
        let failed = followed.failed;
        let mut state = self.lock();
        state.is_running = false;
        if is_done {
            let count = state.record(turn.seq).map_or(0, |one| one.actions.len());
            state.finish(turn.seq);
            log_end(&turn.name, count, failed, actions.output);
        }
        drop(state);
        self.changed.notify_all();
        is_done
    }
}

/// The next message, if one may be acted on now.
fn begin(state: &mut State) -> Option<Turn> {
    if state.is_held || state.is_running {
        return None;
    }
    let record = state.waiting()?;
    let entry: Option<&Entry> = record.entry();
    let turn = Turn {
        seq: record.seq,
        digest: record.digest(),
        kind: entry.map(|entry| entry.kind),
        name: match entry {
            Some(entry) => format!("revocation {}", entry.number),
            None => "revocation notice".to_owned(),
        },
    };
    state.is_running = true;
    Some(turn)
}

fn log_end(name: &str, count: usize, failed: usize, output: OutputPolicy) {
    match (count, failed) {
        (0, _) => log::info!("{name} has set off no action"),
        (count, 0) => log::info!("{name} was acted on: {count} actions"),
        (count, failed) => {
            let hint = match output {
                OutputPolicy::Quiet => "; report_script_output logs what they write",
                OutputPolicy::Log => "",
            };
            log::error!("{name} was acted on: {failed} of {count} actions failed{hint}");
        }
    }
}

/// The actions of one message, in the journal.
struct Followed<'a> {
    revocations: &'a Revocations,
    seq: u64,
    failed: usize,
}

impl Progress for Followed<'_> {
    fn is_begun(&self, name: &str) -> bool {
        let state = self.revocations.lock();
        let record = state.record(self.seq);
        record.is_some_and(|record| record.actions.iter().any(|action| action.name == name))
    }

    fn begin(&mut self, name: &str) -> Result<(), Hold> {
        let mut state = self.revocations.lock();
        if state.is_held {
            return Err(Hold::Later);
        }
        let (seq, name) = (self.seq, name.to_owned());
        state
            .note(Line::Begin { seq, name })
            .map_err(Hold::Unrecorded)
    }

    fn ended(&mut self, outcome: Outcome) {
        self.failed += usize::from(!outcome.is_success());
        // What was cut off stays begun: the next agent says that it was interrupted.
        if let Some((end, millis)) = RecordedEnd::of(&outcome) {
            self.revocations.lock().note_anyway(Line::End {
                seq: self.seq,
                name: outcome.name,
                end,
                millis,
            });
        }
    }
}
