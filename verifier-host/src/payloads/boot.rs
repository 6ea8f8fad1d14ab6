//! Which boot a node is in, and what is known of its cap.

use agent_core::wire::manifest::CapPcr;

use crate::push::attestations::Proof;

/// The boot that a node was seen in last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Resets of the TPM.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether the TPM's clock is sure of itself: not after a loss of power.
    pub safe: bool,
    /// Whether the cap PCR had a capped value; unknown without a deposit.
    pub capped: Option<bool>,
    /// The last boot whose cap PCR was seen uncapped.
    pub opened: Option<(u32, u32)>,
    /// The boot counters went back since the tenant last said that this is right.
    pub cleared: bool,
}

impl Boot {
    /// The boot after this attestation passed. `went_back`: its counters are below the last ones.
    #[must_use]
    pub fn seen(
        before: Option<&Self>,
        proof: &Proof,
        cap: Option<&CapPcr>,
        went_back: bool,
    ) -> Self {
        let value = |cap: &CapPcr| {
            let value = proof.value(cap.pcr).filter(|_| proof.bank == cap.bank);
            value.map(|value| !cap.is_uncapped(value))
        };
        let capped = cap.and_then(value);
        let opened = match capped {
            Some(false) => Some(proof.boot()),
            _ => before.and_then(|before| before.opened),
        };
        Self {
            reset_count: proof.clock.reset_count,
            restart_count: proof.clock.restart_count,
            safe: proof.clock.safe,
            capped,
            opened,
            cleared: went_back || before.is_some_and(|before| before.cleared),
        }
    }

    /// The tenant says that the TPM was cleared or replaced, and that this is right: boots from before say nothing any more.
    #[must_use]
    pub const fn confirmed(self) -> Self {
        Self {
            opened: None,
            cleared: false,
            ..self
        }
    }
}
