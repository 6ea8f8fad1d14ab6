//! What became of a message that was taken, and of its actions.

use agent_core::revocation::{ActionEnd, ActionOutcome, Entry, Message};

use super::line::Line;
use crate::actions::Outcome;
use crate::job::End;

/// A message that was taken.
pub(super) struct Record {
    /// Its number in the journal.
    pub(super) seq: u64,
    /// What it is.
    pub(super) message: Message,
    /// Its actions that were begun, in order.
    pub(super) actions: Vec<ActionRecord>,
    /// Whether all of them have ended.
    pub(super) is_done: bool,
}

impl Record {
    /// The entry, if it is one.
    pub(super) const fn entry(&self) -> Option<&Entry> {
        match &self.message {
            Message::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    /// SHA-256 of its text.
    pub(super) const fn digest(&self) -> [u8; 32] {
        match &self.message {
            Message::Entry(entry) => entry.digest,
            Message::Plain { digest } => *digest,
            Message::Silence => [0; 32],
        }
    }

    /// The lines that make it again.
    pub(super) fn write(&self, lines: &mut Vec<Line>) {
        let seq = self.seq;
        lines.push(Line::Take {
            seq,
            message: self.message.clone(),
        });
        for ActionRecord { name, end } in &self.actions {
            let name = name.clone();
            lines.push(match end.clone() {
                None => Line::Begin { seq, name },
                Some((end, millis)) => Line::End {
                    seq,
                    name,
                    end,
                    millis,
                },
            });
        }
        if self.is_done {
            lines.push(Line::Done { seq });
        }
    }
}

/// An action that was begun.
pub(super) struct ActionRecord {
    /// Its name in the list that named it.
    pub(super) name: String,
    /// How it ended, and after how many milliseconds; none while nobody knows.
    pub(super) end: Option<(RecordedEnd, u64)>,
}

impl ActionRecord {
    /// As the core writes it; one that hasn't ended counts as interrupted.
    pub(super) fn outcome(&self) -> ActionOutcome<'_> {
        let (end, duration_ms) = self.end.as_ref().unwrap_or(&(RecordedEnd::Interrupted, 0));
        ActionOutcome {
            name: &self.name,
            end: match end {
                RecordedEnd::Exited(code) => ActionEnd::Exited { code: *code },
                RecordedEnd::Signal(signal) => ActionEnd::Signal { signal: *signal },
                RecordedEnd::TimedOut => ActionEnd::TimedOut,
                RecordedEnd::NotRun(error) => ActionEnd::NotRun { error },
                RecordedEnd::Interrupted => ActionEnd::Interrupted,
            },
            duration_ms: *duration_ms,
        }
    }
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordedEnd {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signal(i32),
    /// At its time limit.
    TimedOut,
    /// The agent ended while it ran.
    Interrupted,
    /// It wasn't run, for this reason.
    NotRun(String),
}

impl RecordedEnd {
    /// An outcome's end, and after how many milliseconds it came; `None` for an action that was cut off because the agent stops.
    pub(super) fn of(outcome: &Outcome) -> Option<(Self, u64)> {
        let ended = match &outcome.ended {
            Ok(ended) => ended,
            Err(error) => return Some((Self::NotRun(error.to_string()), 0)),
        };
        let end = match ended.end {
            End::Exit(code) => Self::Exited(code),
            End::Signal(signal) => Self::Signal(signal),
            End::TimedOut => Self::TimedOut,
            End::Cancelled => return None,
        };
        let millis = u64::try_from(ended.duration.as_millis());
        Some((end, millis.unwrap_or(u64::MAX)))
    }
}
