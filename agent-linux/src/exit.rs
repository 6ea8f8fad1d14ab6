//! How the program ends, for scripts and service managers: one code a reason, the same for every command.

use std::process::ExitCode;

/// Why a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it is for.
    Done,
    /// Something that has no code of its own: the log says what.
    Internal,
    /// The command line or the configuration is wrong.
    Usage,
    /// No TPM answers, or it doesn't do what it must.
    NoTpm,
    /// No verifier (or registrar) could be reached.
    NoNetwork,
    /// The node isn't registered, isn't enrolled, or has no payload yet: it may be so later.
    NotYetAccepted,
    /// The verifier refuses: a policy that isn't met, a boot that is capped, a payload that is spent.
    Refused,
    /// The payload isn't the tenant's, isn't for this node, is an old one, or can't be unpacked.
    BadPayload,
    /// The payload's script failed.
    ScriptFailed,
    /// The deadline came first.
    Deadline,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Internal,
        Self::Usage,
        Self::NoTpm,
        Self::NoNetwork,
        Self::NotYetAccepted,
        Self::Refused,
        Self::BadPayload,
        Self::ScriptFailed,
        Self::Deadline,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NoTpm => 10,
            Self::NoNetwork => 11,
            Self::NotYetAccepted => 12,
            Self::Refused => 13,
            Self::BadPayload => 14,
            Self::ScriptFailed => 15,
            Self::Deadline => 16,
        }
    }

    /// What the help says of it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Internal => "something else went wrong: the log says what",
            Self::Usage => "the command line or the configuration is wrong",
            Self::NoTpm => "no TPM answers, or it refuses what the agent needs",
            Self::NoNetwork => "no server could be reached",
            Self::NotYetAccepted => "not registered, not enrolled, or no payload there: try later",
            Self::Refused => "refused by the verifier: policy, capped, spent, expired",
            Self::BadPayload => {
                "the payload is not the tenant's, not this node's, too old or broken"
            }
            Self::ScriptFailed => "the payload's script failed",
            Self::Deadline => "the deadline came first",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 10, 11, 12, 13, 14, 15, 16]);
    }
}
