//! The measured-boot policy: what a machine may have measured before its kernel ran.
//!
//! Two forms are read: Keylime's reference state, judged as its example policy judges it ([`Refstate`]), and our own rules
//! ([`Rules`], `docs/measured-boot-policy.md`), which have a `version`. Either is judged over an event log that a quote has
//! explained already; then the digests of the quoted bank are what was measured, and types and data aren't. So a check that is
//! about data counts only where the data's own hash is the event's digest.

use agent_core::wire::quote::{HashAlg, PcrMask};
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::evidence::eventlog::EventLog;

mod builtin;
mod condition;
mod create;
mod document;
mod failure;
mod judge;
mod refstate;
mod rules;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;

pub use create::{CreateError, Kind, create};
pub use failure::{MeasuredBootFailure, Refusal};
pub use refstate::Refstate;
pub use rules::Rules;

/// The largest policy: a `dbx` of today has some 30 KB, and some 400 of them would fit.
pub const MAX_MEASURED_BOOT_POLICY_BYTES: usize = 4 << 20;

/// The version of our own form.
const VERSION: u64 = 1;

/// What a measured-boot policy can be refused for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MeasuredBootPolicyError {
    /// Larger than policies are.
    #[error("it has {have} bytes, and measured-boot policies of up to {limit} are taken")]
    TooLarge {
        /// Its size.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the JSON of a policy of either form.
    #[error("it is no measured-boot policy in JSON: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// Another version of our form.
    #[error("its version is {found}, and version {known} is understood")]
    Version {
        /// The policy's.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// Rules that judge nothing.
    #[error(
        "it has neither rules nor builtins nor empty PCRs, so every boot would pass; write {{}} if that is meant"
    )]
    NoRules,
    /// More rules than are judged.
    #[error("it has {have} rules, and up to {limit} are taken")]
    TooManyRules {
        /// How many it has.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// A part that can't be meant.
    #[error("{part}: {why}")]
    Part {
        /// Which part, as a person finds it.
        part: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A policy that can be judged.
#[derive(Clone, Debug)]
pub enum MeasuredBootPolicy {
    /// `{}`: every boot passes, and no PCR is looked at, as with Keylime.
    Nothing,
    /// Keylime's reference state.
    Refstate(Box<Refstate>),
    /// Our rules.
    Rules(Rules),
}

impl MeasuredBootPolicy {
    /// Reads a policy of either form.
    ///
    /// # Errors
    /// [`MeasuredBootPolicyError`].
    ///
    /// # Cost
    /// Linear in the size, which is bounded by [`MAX_MEASURED_BOOT_POLICY_BYTES`], and in the bounded sizes of its regular
    /// expressions.
    pub fn read(bytes: &[u8]) -> Result<Self, MeasuredBootPolicyError> {
        #[derive(Deserialize)]
        struct Shape {
            version: Option<IgnoredAny>,
            rules: Option<IgnoredAny>,
        }
        if bytes.len() > MAX_MEASURED_BOOT_POLICY_BYTES {
            return Err(MeasuredBootPolicyError::TooLarge {
                have: bytes.len(),
                limit: MAX_MEASURED_BOOT_POLICY_BYTES,
            });
        }
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        if shape.version.is_some() || shape.rules.is_some() {
            return Rules::read(bytes).map(Self::Rules);
        }
        let empty: super::Pairs<IgnoredAny> = serde_json::from_slice(bytes).map_err(json)?;
        if empty.0.is_empty() {
            return Ok(Self::Nothing);
        }
        let refstate = Refstate::read(bytes)?;
        Ok(Self::Refstate(Box::new(refstate)))
    }

    /// The PCRs that it judges: the quote must have them, and the log must explain them.
    #[must_use]
    pub fn pcrs(&self) -> PcrMask {
        match self {
            Self::Nothing => PcrMask::EMPTY,
            Self::Refstate(_) => refstate::PCRS,
            Self::Rules(rules) => rules.pcrs(),
        }
    }

    /// Whether it lets every boot pass: a status has to say so loudly.
    #[must_use]
    pub const fn says_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Judges a log that the quote of this bank has explained.
    ///
    /// # Errors
    /// [`MeasuredBootFailure`]: the first event that nothing allows, or what is missing.
    ///
    /// # Cost
    /// For each event of the policy's PCRs, at most seven hashes of its data, and a look at each rule of its PCR.
    pub fn judge(&self, log: &EventLog<'_>, bank: HashAlg) -> Result<(), MeasuredBootFailure> {
        match self {
            Self::Nothing => Ok(()),
            Self::Refstate(refstate) => refstate.judge(log, bank),
            Self::Rules(rules) => rules.judge(log, bank),
        }
    }
}

fn json(error: serde_json::Error) -> MeasuredBootPolicyError {
    MeasuredBootPolicyError::Json {
        reason: error.to_string(),
    }
}

fn part(part: impl Into<String>, why: impl Into<String>) -> MeasuredBootPolicyError {
    MeasuredBootPolicyError::Part {
        part: part.into(),
        why: why.into(),
    }
}
