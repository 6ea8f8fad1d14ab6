//! Who gets V.
//!
//! [`decide`] is the only way to a grant, and a grant is the only way to V.

use std::time::{Duration, Instant};

use agent_core::wire::manifest::Deliver;
use agent_core::wire::quote::Digest;
use agent_core::wire::statement::{self, RELEASE_KEY_BYTES, STATEMENT_PCR};
use agent_core::wire::text::Uuid;
use thiserror::Error;

use super::boot::Boot;
use super::deposit::{Deposit, Spent};
use crate::push::attestations::Proof;
use crate::rounds::terms::Terms;

/// What a release is asked with.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The node.
    pub agent: &'a Uuid,
    /// What the tenant said of it.
    pub terms: &'a Terms,
    /// The attestation that passed.
    pub proof: &'a Proof,
    /// The key that V is to go to.
    pub release_key: &'a [u8; RELEASE_KEY_BYTES],
    /// The boot that the node was seen in last.
    pub boot: Option<&'a Boot>,
    /// Now.
    pub now: Instant,
    /// Now, in seconds since 1970.
    pub unix_now: u64,
}

/// Why V isn't released.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The attestation failed, or the node isn't attested any more.
    #[error("{reason}")]
    NotPassed {
        /// By what.
        reason: String,
    },
    /// No attestation of this session, too old, or used.
    #[error("{what}; attest again")]
    NotFresh {
        /// Which of them.
        what: &'static str,
    },
    /// The quote isn't bound to the release key.
    #[error("{what}")]
    NotBound {
        /// What it lacks.
        what: String,
    },
    /// This boot had its chance.
    #[error("the cap PCR {pcr} is not at an uncapped value: this boot had its chance")]
    Capped {
        /// The PCR.
        pcr: u8,
    },
    /// A resumed system.
    #[error(
        "the cap PCR {pcr} is capped since boot {}.{} and the boot counters are {}.{}: this is a resumed system",
        .opened.0, .opened.1, .boot.0, .boot.1
    )]
    Resumed {
        /// The PCR.
        pcr: u8,
        /// The boot in which it was uncapped.
        opened: (u32, u32),
        /// The boot now.
        boot: (u32, u32),
    },
    /// The boot counters went back.
    #[error(
        "the boot counters went back: the TPM was cleared or replaced, and the tenant has to confirm"
    )]
    ClearedTpm,
    /// Another boot had it.
    #[error("this payload is for one boot, and another one had it")]
    Spent,
    /// Too late.
    #[error("this payload was to be delivered until {until}, it is {now} (seconds since 1970)")]
    Expired {
        /// The end.
        until: u64,
        /// The verifier's clock.
        now: u64,
    },
}

impl Refusal {
    /// The code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotPassed { .. } => "not-passed",
            Self::NotFresh { .. } => "not-fresh",
            Self::NotBound { .. } => "not-bound",
            Self::Capped { .. } => "capped",
            Self::Resumed { .. } => "resumed",
            Self::ClearedTpm => "cleared-tpm",
            Self::Spent => "spent",
            Self::Expired { .. } => "expired",
        }
    }
}

/// Permission to seal V of this deposit to this key; made by [`decide`] alone.
#[derive(Debug)]
pub struct Grant(());

/// Whether V is released.
///
/// # Errors
/// [`Refusal`]: the first rule that doesn't hold.
pub fn decide(deposit: &Deposit, asking: &Asking<'_>) -> Result<Grant, Refusal> {
    let Asking { proof, boot, .. } = asking;
    fresh(asking)?;
    bound(deposit, asking)?;
    let cap = &deposit.manifest.cap;
    let uncapped = proof
        .value(cap.pcr)
        .is_some_and(|value| cap.is_uncapped(value));
    if !uncapped {
        return Err(capped(cap.pcr, proof.boot(), *boot));
    }
    if boot.is_some_and(|boot| boot.cleared) {
        return Err(Refusal::ClearedTpm);
    }
    match deposit.manifest.deliver {
        Deliver::PerBoot => {}
        Deliver::Once => match deposit.spent {
            None => {}
            Some(Spent::By(boot)) if boot == proof.boot() => {}
            Some(_) => return Err(Refusal::Spent),
        },
        Deliver::Until(until) => {
            let now = asking.unix_now;
            if now >= until {
                return Err(Refusal::Expired { until, now });
            }
        }
    }
    Ok(Grant(()))
}

fn fresh(asking: &Asking<'_>) -> Result<(), Refusal> {
    let age = asking.now.saturating_duration_since(asking.proof.received);
    if age > MAX_AGE {
        let what = "the attestation is older than 60 seconds";
        return Err(Refusal::NotFresh { what });
    }
    if asking.proof.released.is_some() {
        let what = "the attestation was used with another release key";
        return Err(Refusal::NotFresh { what });
    }
    Ok(())
}

/// The quote covers what the policy names, the cap PCR and PCR 16, in one bank, and PCR 16 holds this key's statement.
fn bound(deposit: &Deposit, asking: &Asking<'_>) -> Result<(), Refusal> {
    let Asking { proof, terms, .. } = asking;
    let cap = &deposit.manifest.cap;
    let lacks = |what: String| Err(Refusal::NotBound { what });
    if proof.bank != cap.bank {
        let (got, want) = (proof.bank.name(), cap.bank.name());
        return lacks(format!(
            "the quote is of bank {got}, the cap PCR's is {want}"
        ));
    }
    let needed = terms.policy.mask().with(cap.pcr).with(STATEMENT_PCR);
    if let Some(pcr) = needed.iter().find(|pcr| proof.value(*pcr).is_none()) {
        return lacks(format!("the quote lacks PCR {pcr}"));
    }
    let digest = statement::release(
        proof.bank,
        asking.agent,
        &proof.challenge,
        asking.release_key,
    );
    if holds_statement(proof, &digest) {
        Ok(())
    } else {
        lacks("PCR 16 doesn't hold this release key".to_owned())
    }
}

/// Whether PCR 16 was reset and extended with this statement and nothing else.
fn holds_statement(proof: &Proof, digest: &Digest) -> bool {
    let want = statement::pcr_value(proof.bank, digest);
    proof.value(STATEMENT_PCR) == Some(want.as_slice())
}

/// A reset gives the cap PCR its first value back, a resume keeps it: so capped in a boot that differs by restarts alone is a
/// resumed system.
fn capped(pcr: u8, now: (u32, u32), boot: Option<&Boot>) -> Refusal {
    match boot.and_then(|boot| boot.opened) {
        Some(opened) if opened != now && opened.0 == now.0 => Refusal::Resumed {
            pcr,
            opened,
            boot: now,
        },
        _ => Refusal::Capped { pcr },
    }
}

/// How long after its quote came V may be asked for.
const MAX_AGE: Duration = Duration::from_secs(60);
