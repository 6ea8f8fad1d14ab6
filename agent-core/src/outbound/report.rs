//! What the tenant is told of a payload.

use core::fmt;

use super::end::{End, Reason};
use crate::wire::manifest::PayloadId;
use crate::wire::quote::HashAlg;
use crate::wire::receipt::{Reached, Receipt};
use crate::wire::text::Uuid;

/// How a payload's script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptOutcome {
    /// Its exit code, if it ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it was ended at its time limit.
    pub timed_out: bool,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

impl fmt::Display for ScriptOutcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code, self.signal) {
            _ if self.timed_out => out.write_str("ended at its time limit"),
            (Some(code), _) => write!(out, "exit code {code}"),
            (None, Some(signal)) => write!(out, "killed by signal {signal}"),
            (None, None) => out.write_str("ended"),
        }
    }
}

/// How far a payload came.
pub(super) struct Report {
    pub(super) payload_id: PayloadId,
    pub(super) bank: HashAlg,
    pub(super) cap_pcr: u8,
    pub(super) reached: Reached,
    pub(super) script: Option<ScriptOutcome>,
    pub(super) error: Option<Reason>,
}

impl Report {
    /// It went no further, for this reason.
    pub(super) fn fail(&mut self, end: &End) {
        if !matches!(end, End::Finished | End::Script(_)) {
            self.error = Some(Receipt::reason(end));
        }
    }

    pub(super) fn receipt(&self, agent: &Uuid) -> Receipt {
        Receipt {
            agent: agent.clone(),
            payload_id: self.payload_id,
            reached: self.reached,
            exit_code: self.script.and_then(|script| script.exit_code),
            signal: self.script.and_then(|script| script.signal),
            timed_out: self.script.is_some_and(|script| script.timed_out),
            duration_ms: self.script.map(|script| script.duration_ms),
            error: self.error.clone(),
        }
    }
}
