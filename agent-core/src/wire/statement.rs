//! Statements: what the agent writes into PCR 16 before a quote, so that the quote speaks for it.
//!
//! The text before the zero byte tells one kind from the other; every part is preceded by its length, so no two statements
//! share their bytes. `extraData` is left to the challenge alone: who poses as a verifier chooses that, PCR 16 it can't.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`.

use sha2::{Digest as _, Sha256};

use super::quote::{Digest, HashAlg};
use super::text::Uuid;

/// The PCR that statements go into: resettable, and in every quote.
pub const STATEMENT_PCR: u8 = 16;

/// What the cap PCR is extended with, after hashing by each bank's own algorithm.
pub const CAP_TEXT: &[u8] = b"keyhalf cap 1";

/// Bytes of a challenge of API 3.0, decoded.
pub const CHALLENGE_BYTES: usize = 16;

/// An X25519 public key.
pub const RELEASE_KEY_BYTES: usize = 32;

/// The digest that binds a release key to the quote of this challenge: what PCR 16 is extended with in that bank.
#[must_use]
pub fn release(
    bank: HashAlg,
    agent: &Uuid,
    challenge: &[u8],
    release_key: &[u8; RELEASE_KEY_BYTES],
) -> Digest {
    statement(bank, RELEASE, agent, challenge, release_key)
}

/// The digest that binds a receipt to the quote of this challenge: what PCR 16 is extended with in that bank.
#[must_use]
pub fn receipt(bank: HashAlg, agent: &Uuid, challenge: &[u8], receipt: &[u8]) -> Digest {
    let hash: [u8; 32] = Sha256::digest(receipt).into();
    statement(bank, RECEIPT, agent, challenge, &hash)
}

/// What PCR 16 is extended with before the quote of an attestation that is to release nothing.
#[must_use]
pub fn nothing(bank: HashAlg) -> Digest {
    bank.digest([NOTHING])
}

/// The value of PCR 16 once it was reset and extended with a statement's digest.
///
/// Source: TPM 2.0 Library part 1, section 17.1 (PCR extend); the reset value of PCR 16 is zeros.
#[must_use]
pub fn pcr_value(bank: HashAlg, digest: &Digest) -> Digest {
    let zeros = [0; 64];
    let zeros = zeros.get(..bank.digest_bytes()).unwrap_or_default();
    bank.digest([zeros, digest.as_slice()])
}

/// What the cap PCR of this bank is extended with.
#[must_use]
pub fn cap(bank: HashAlg) -> Digest {
    bank.digest([CAP_TEXT])
}

fn statement(bank: HashAlg, kind: &[u8], agent: &Uuid, challenge: &[u8], subject: &[u8]) -> Digest {
    let agent = agent.as_str().as_bytes();
    bank.digest([
        kind,
        &length(agent),
        agent,
        &length(challenge),
        challenge,
        &length(subject),
        subject,
    ])
}

/// The two-byte length of a part. Longer parts than that don't come: identifiers take 128 bytes, nonces 64.
pub(crate) fn length(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes()
}

const RELEASE: &[u8] = b"keyhalf/1 release\0";
const NOTHING: &[u8] = b"keyhalf/1 nothing\0";
const RECEIPT: &[u8] = b"keyhalf/1 receipt\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_statements_are_alike() {
        let agent = Uuid::parse("node").unwrap();
        let other = Uuid::parse("nod").unwrap();
        let (bank, key) = (HashAlg::Sha256, [7; RELEASE_KEY_BYTES]);
        let all = [
            release(bank, &agent, &[1; 16], &key),
            release(bank, &other, &[1; 16], &key),
            release(bank, &agent, &[2; 16], &key),
            release(bank, &agent, &[1; 16], &[8; 32]),
            release(HashAlg::Sha384, &agent, &[1; 16], &key),
            receipt(bank, &agent, &[1; 16], &key),
            nothing(bank),
            cap(bank),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(n + 1).any(|other| other == one), "{n}");
        }
    }

    #[test]
    fn pcr_16_holds_the_digest_after_its_zeros() {
        let digest = cap(HashAlg::Sha256);
        let by_hand: [u8; 32] = Sha256::digest([&[0; 32][..], &digest].concat()).into();
        assert_eq!(pcr_value(HashAlg::Sha256, &digest).as_slice(), by_hand);
    }
}
