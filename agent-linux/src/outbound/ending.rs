//! How a flow ended, and with which exit code.

use std::fmt;

use agent_core::outbound::{End, Why};
use agent_core::wire::push::Code;

use crate::exit::Exit;

/// How a flow ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As the machine says.
    Done(End),
    /// The deadline has passed, or comes before the next try; why that is waited for.
    Deadline(Option<Why>),
    /// It was stopped.
    Stopped,
    /// The boot couldn't be capped, though a release was asked for.
    NotCapped,
}

impl Ending {
    /// The exit code that says so.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Done(end) => of_end(end),
            Self::Deadline(Some(why)) => of_pause(*why),
            Self::Deadline(None) => Exit::Deadline,
            Self::Stopped => Exit::Internal,
            Self::NotCapped => Exit::NoTpm,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(end) => end.fmt(f),
            Self::Deadline(None) => f.write_str("the deadline came first"),
            Self::Deadline(Some(why)) => write!(f, "the deadline came first: {why}"),
            Self::Stopped => f.write_str("stopped"),
            Self::NotCapped => f.write_str("the boot could not be capped"),
        }
    }
}

fn of_end(end: &End) -> Exit {
    match end {
        End::Finished => Exit::Done,
        End::Script(_) | End::NotRun(_) => Exit::ScriptFailed,
        End::Refused(refusal) => match refusal.code {
            Code::NotRegistered | Code::NotEnrolled | Code::NoPayload => Exit::NotYetAccepted,
            _ => Exit::Refused,
        },
        End::BadPayload(_) | End::NotUnpacked(_) => Exit::BadPayload,
        End::Tpm(_) | End::NotCapped(_) => Exit::NoTpm,
        _ => Exit::Internal,
    }
}

/// What was waited for when there was no time left says more than the deadline.
fn of_pause(why: Why) -> Exit {
    match why {
        Why::Unreachable => Exit::NoNetwork,
        Why::Refused => Exit::Refused,
        why if why.is_acceptance() => Exit::NotYetAccepted,
        _ => Exit::Deadline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_code() {
        let reason = || "x".try_into().unwrap_or_default();
        for (ending, exit) in [
            (Ending::Done(End::Finished), Exit::Done),
            (Ending::Done(End::NotRun(reason())), Exit::ScriptFailed),
            (Ending::Done(End::NotUnpacked(reason())), Exit::BadPayload),
            (Ending::Done(End::Tpm(reason())), Exit::NoTpm),
            (Ending::Done(End::NotCapped(reason())), Exit::NoTpm),
            (Ending::Deadline(Some(Why::Unreachable)), Exit::NoNetwork),
            (Ending::Deadline(Some(Why::NoPayload)), Exit::NotYetAccepted),
            (
                Ending::Deadline(Some(Why::NotEnrolled)),
                Exit::NotYetAccepted,
            ),
            (Ending::Deadline(Some(Why::Busy)), Exit::Deadline),
            (Ending::Deadline(None), Exit::Deadline),
        ] {
            assert_eq!(ending.exit(), exit, "{ending}");
        }
    }
}
