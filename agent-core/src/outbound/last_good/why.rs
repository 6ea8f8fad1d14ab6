//! Why a copy goes, and why one doesn't serve.

use core::fmt;

use super::super::deposit::Fault;
use super::super::end::{End, Reason};
use crate::wire::push::Code;

/// Why a copy is removed, or not made.
#[expect(
    clippy::large_enum_variant,
    reason = "a line for a log, and nothing can be boxed without an allocator"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forget {
    /// The verifier says something against it.
    Verifier(Code),
    /// The tenant allows none: by the manifest, or since the payload is for one boot.
    NotAllowed,
    /// It is older than what this node had since.
    Old,
    /// The quote that passed selects no PCR that tells one system from another, or another bank than the cap's.
    Weak,
    /// PCRs have moved since the quote.
    Pcrs,
    /// The system's clock can't be right.
    Clock,
    /// The TPM didn't seal it.
    Tpm(Reason),
}

impl fmt::Display for Forget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verifier(code) => write!(out, "the verifier says {}", code.name()),
            Self::NotAllowed => out.write_str("the tenant allows none of this payload"),
            Self::Old => out.write_str("this node had a newer payload since"),
            Self::Weak => out.write_str("the policy selects no boot PCR in the cap's bank"),
            Self::Pcrs => out.write_str("PCRs have moved since the quote that passed"),
            Self::Clock => out.write_str("the system's clock can't be right"),
            Self::Tpm(reason) => write!(out, "the TPM failed: {reason}"),
        }
    }
}

/// Why a copy isn't used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoCopy {
    /// Its bytes are no copy.
    Unreadable,
    /// The deposit in it isn't taken, or the TPM doesn't tell.
    Deposit(End),
    /// It isn't as it was kept.
    Changed,
    /// The tenant allows none.
    NotAllowed,
    /// The system's clock can't be right.
    NoClock,
    /// The system's clock is before the time of keeping.
    ClockBehind {
        /// What the clock says.
        now: u64,
        /// When it was kept.
        kept_at: u64,
    },
    /// It is beyond its age limit.
    TooOld {
        /// Its age in seconds: by the system's clock, or the time that the TPM was powered since.
        age: u64,
        /// The limit.
        limit: u64,
    },
    /// The payload has ended.
    Expired {
        /// What the clock says.
        now: u64,
        /// When it ended.
        until: u64,
    },
    /// This boot is capped.
    Capped,
    /// The sealed bytes aren't there, or aren't the ones that were signed.
    Sealed,
    /// The TPM doesn't give the key: the PCRs have other values, or it is another TPM.
    Tpm(Reason),
}

impl NoCopy {
    /// Whether it never serves again.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Deposit(End::BadPayload(Fault::Floor { .. })))
    }
}

impl fmt::Display for NoCopy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => out.write_str("its file can't be read"),
            Self::Deposit(end) => end.fmt(out),
            Self::Changed => out.write_str("it was changed since it was kept"),
            Self::NotAllowed => out.write_str("the tenant allows none of this payload"),
            Self::NoClock => out.write_str("the system's clock can't be right"),
            Self::ClockBehind { now, kept_at } => write!(
                out,
                "the clock is at {now}, and it was kept later, at {kept_at}"
            ),
            Self::TooOld { age, limit } => write!(
                out,
                "it is too old: kept {age} seconds ago, and the tenant allows {limit}"
            ),
            Self::Expired { now, until } => {
                write!(out, "the payload has ended at {until}, and it is {now}")
            }
            Self::Capped => out.write_str("this boot is capped"),
            Self::Sealed => out.write_str("its sealed bytes aren't there, or were changed"),
            Self::Tpm(reason) => write!(
                out,
                "the TPM gives no key for it, as under other PCRs or in another machine: {reason}"
            ),
        }
    }
}
