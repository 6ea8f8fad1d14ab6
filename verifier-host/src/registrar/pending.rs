//! Registrations that wait for their TPM's proof.
//!
//! Anyone may claim any identifier, so claims stand beside each other: none replaces another's, and only the TPM that opens its
//! credential turns its claim into a record. A wrong proof spends the claims that came from the same address, so each
//! credential is good for one try, and nobody spends another's try. All of it is bounded, in memory, and gone after
//! [`CLAIM_LIFE`]; a node whose claim is lost registers again.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_core::wire::text::Uuid;
use subtle::ConstantTimeEq as _;

use super::claim::Claim;

/// The HMAC that proves an activation.
pub(super) type AuthTag = [u8; 48];

/// Claims that wait.
#[derive(Default)]
pub(super) struct Pending(Mutex<Vec<Waiting>>);

struct Waiting {
    uuid: Uuid,
    claim: Claim,
    expected: AuthTag,
    from: IpAddr,
    since: Instant,
}

/// What came of a proof.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redeemed {
    /// It opens this claim, which no longer waits.
    Proved(Box<Claim>),
    /// It opens none; the claims from this address are gone.
    Wrong,
    /// Nobody has claimed this identifier.
    Unknown,
}

impl Pending {
    /// Lets a claim wait for `expected`. The same identity's earlier claim from this address is dropped; where there are too
    /// many, the oldest of the address that has most goes.
    pub(super) fn add(
        &self,
        uuid: &Uuid,
        claim: Claim,
        expected: AuthTag,
        from: IpAddr,
        now: Instant,
    ) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|other| {
            let replaced =
                other.uuid == *uuid && other.from == from && other.claim.same_identity(&claim);
            other.is_alive(now) && !replaced
        });
        if waiting.len() >= MAX_CLAIMS {
            drop_oldest_of_the_busiest(&mut waiting);
        }
        waiting.push(Waiting {
            uuid: uuid.clone(),
            claim,
            expected,
            from,
            since: now,
        });
    }

    /// Takes the claim that this proof opens.
    pub(super) fn redeem(
        &self,
        uuid: &Uuid,
        tag: &AuthTag,
        from: IpAddr,
        now: Instant,
    ) -> Redeemed {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|claim| claim.is_alive(now));
        if !waiting.iter().any(|claim| claim.uuid == *uuid) {
            return Redeemed::Unknown;
        }
        let proved = waiting
            .iter()
            .position(|claim| claim.uuid == *uuid && bool::from(claim.expected.ct_eq(tag)));
        match proved {
            Some(place) => Redeemed::Proved(Box::new(waiting.remove(place).claim)),
            None => {
                waiting.retain(|claim| claim.uuid != *uuid || claim.from != from);
                Redeemed::Wrong
            }
        }
    }

    /// Drops all claims to an identifier.
    pub(super) fn forget(&self, uuid: &Uuid) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|claim| claim.uuid != *uuid);
    }
}

impl Waiting {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < CLAIM_LIFE
    }
}

fn drop_oldest_of_the_busiest(waiting: &mut Vec<Waiting>) {
    let claims_of = |from: IpAddr| waiting.iter().filter(|claim| claim.from == from).count();
    let mut counts = std::collections::HashMap::new();
    for claim in waiting.iter() {
        counts
            .entry(claim.from)
            .or_insert_with(|| claims_of(claim.from));
    }
    let Some((&busiest, _)) = counts.iter().max_by_key(|(_, count)| **count) else {
        return;
    };
    // They stand in the order in which they came.
    if let Some(oldest) = waiting.iter().position(|claim| claim.from == busiest) {
        waiting.remove(oldest);
    }
}

/// A claim takes at most the size of a request's body, [`super::routes::MAX_BODY_BYTES`]: all together 32 MiB.
const MAX_CLAIMS: usize = 1024;

/// The slowest TPMs take seconds to open a credential.
const CLAIM_LIFE: Duration = Duration::from_secs(120);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;
    use crate::evidence::software::SoftwareTpm;

    fn claim() -> Claim {
        let tpm = SoftwareTpm::new();
        Claim {
            ek: tpm.ek(),
            ak: tpm.ak(),
            ek_certificate: None,
            ip: None,
            port: None,
            mtls_cert: "disabled".to_owned(),
        }
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn nobody_spends_anothers_try() {
        let (pending, now) = (Pending::default(), Instant::now());
        let uuid = Uuid::parse("node").unwrap();
        let (node, thief) = (claim(), claim());
        pending.add(&uuid, node.clone(), [1; 48], address(1), now);
        pending.add(&uuid, thief, [2; 48], address(2), now);
        assert_eq!(
            pending.redeem(&uuid, &[9; 48], address(2), now),
            Redeemed::Wrong
        );
        assert_eq!(
            pending.redeem(&uuid, &[2; 48], address(2), now),
            Redeemed::Wrong,
            "its try is spent"
        );
        let proved = pending.redeem(&uuid, &[1; 48], address(1), now);
        assert_eq!(proved, Redeemed::Proved(Box::new(node)));
        assert_eq!(
            pending.redeem(&uuid, &[1; 48], address(1), now),
            Redeemed::Unknown
        );
    }

    #[test]
    fn a_node_that_tries_again_has_one_claim() {
        let (pending, now) = (Pending::default(), Instant::now());
        let uuid = Uuid::parse("node").unwrap();
        let node = claim();
        pending.add(&uuid, node.clone(), [1; 48], address(1), now);
        pending.add(&uuid, node, [2; 48], address(1), now);
        assert_eq!(pending.0.lock().unwrap().len(), 1);
        assert!(matches!(
            pending.redeem(&uuid, &[2; 48], address(1), now),
            Redeemed::Proved(_)
        ));
    }

    #[test]
    fn claims_end() {
        let (pending, now) = (Pending::default(), Instant::now());
        let uuid = Uuid::parse("node").unwrap();
        pending.add(&uuid, claim(), [1; 48], address(1), now);
        let late = now + CLAIM_LIFE;
        assert_eq!(
            pending.redeem(&uuid, &[1; 48], address(1), late),
            Redeemed::Unknown
        );
        pending.add(&uuid, claim(), [1; 48], address(1), late);
        pending.forget(&uuid);
        assert_eq!(
            pending.redeem(&uuid, &[1; 48], address(1), late),
            Redeemed::Unknown
        );
    }

    #[test]
    fn a_flood_from_one_address_drops_its_own() {
        let (pending, now) = (Pending::default(), Instant::now());
        let node = Uuid::parse("node").unwrap();
        pending.add(&node, claim(), [1; 48], address(1), now);
        let flood = claim();
        for number in 0..2 * MAX_CLAIMS {
            let uuid = Uuid::parse(&format!("flood-{number}")).unwrap();
            pending.add(&uuid, flood.clone(), [2; 48], address(2), now);
        }
        assert_eq!(pending.0.lock().unwrap().len(), MAX_CLAIMS);
        assert!(matches!(
            pending.redeem(&node, &[1; 48], address(1), now),
            Redeemed::Proved(_)
        ));
    }
}
