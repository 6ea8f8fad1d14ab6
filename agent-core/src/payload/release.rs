//! The release: V on its way to a key of one boot.
//!
//! The agent draws a key pair for one attestation and binds its public part to the quote; the verifier seals V to it. What
//! was recorded opens in no other boot: the private part was in memory alone, and is wiped.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`.

use core::fmt;

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroize;

use crate::secret::Secret;
use crate::wire::statement::RELEASE_KEY_BYTES;
use crate::wire::text::Uuid;

/// V on the wire: the verifier's public key, V encrypted, the tag.
pub const WRAPPED_V_BYTES: usize = RELEASE_KEY_BYTES + V_BYTES + TAG_BYTES;

/// V of a deposited payload.
pub const V_BYTES: usize = 32;

/// A key pair for one release; wiped on drop.
pub struct ReleaseKey {
    private: StaticSecret,
    public: [u8; RELEASE_KEY_BYTES],
}

/// What a release is bound to, on both sides.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The node.
    pub agent: &'a Uuid,
    /// The challenge of the attestation that passed, decoded.
    pub challenge: &'a [u8],
    /// The exact bytes of the manifest.
    pub manifest: &'a [u8],
}

/// Why V doesn't come out, or doesn't go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The other side's key is one that gives everyone the same secret.
    Key,
    /// It was sealed to another key, node, challenge or manifest, or was changed.
    Tag,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Key => "the other side's release key is one that anybody could share",
            Self::Tag => {
                "the verifier's half doesn't verify: it was changed, or is of another attestation or manifest"
            }
        })
    }
}

impl core::error::Error for ReleaseError {}

impl ReleaseKey {
    /// A key pair from two sources of random numbers: whoever knows one of them knows nothing of the key.
    #[must_use]
    pub fn from_random(system: &Secret<32>, tpm: &Secret<32>) -> Self {
        let mut hash = Sha256::new();
        hash.update(SEED);
        hash.update(system.as_ref());
        hash.update(tpm.as_ref());
        let mut seed: [u8; 32] = hash.finalize().into();
        let private = StaticSecret::from(seed);
        seed.zeroize();
        let public = PublicKey::from(&private).to_bytes();
        Self { private, public }
    }

    /// The public part, which goes into PCR 16 and to the verifier.
    #[must_use]
    pub const fn public(&self) -> &[u8; RELEASE_KEY_BYTES] {
        &self.public
    }

    /// Opens what [`wrap`] made for this key.
    ///
    /// # Errors
    /// [`ReleaseError`].
    ///
    /// Source: RFC 7748 section 6.1, RFC 5869, NIST SP 800-38D.
    pub fn unwrap(
        &self,
        terms: &Terms<'_>,
        wrapped: &[u8; WRAPPED_V_BYTES],
    ) -> Result<Secret<V_BYTES>, ReleaseError> {
        let (ephemeral, rest) = wrapped
            .split_first_chunk::<RELEASE_KEY_BYTES>()
            .ok_or(ReleaseError::Tag)?;
        let (body, tag) = rest
            .split_first_chunk::<V_BYTES>()
            .ok_or(ReleaseError::Tag)?;
        let tag: &[u8; TAG_BYTES] = tag.try_into().map_err(|_| ReleaseError::Tag)?;
        let shared = self.private.diffie_hellman(&PublicKey::from(*ephemeral));
        let key = derive(&shared, ephemeral, &self.public, terms)?;
        let mut v = Secret::copy_of(body);
        cipher(&key)
            .decrypt_inout_detached(
                &NONCE.into(),
                terms.agent.as_str().as_bytes(),
                InOutBuf::from(v.as_mut().as_mut_slice()),
                tag.into(),
            )
            .map_err(|_| ReleaseError::Tag)?;
        Ok(v)
    }
}

/// Seals V to an agent's release key, with a key pair that was drawn for this alone.
///
/// # Errors
/// [`ReleaseError::Key`].
pub fn wrap(
    ephemeral: &ReleaseKey,
    release_key: &[u8; RELEASE_KEY_BYTES],
    terms: &Terms<'_>,
    v: &Secret<V_BYTES>,
) -> Result<[u8; WRAPPED_V_BYTES], ReleaseError> {
    let shared = ephemeral
        .private
        .diffie_hellman(&PublicKey::from(*release_key));
    let key = derive(&shared, &ephemeral.public, release_key, terms)?;
    let mut body = Secret::copy_of(v.as_ref());
    let tag = cipher(&key)
        .encrypt_inout_detached(
            &NONCE.into(),
            terms.agent.as_str().as_bytes(),
            InOutBuf::from(body.as_mut().as_mut_slice()),
        )
        .map_err(|_| ReleaseError::Key)?;
    let mut wrapped = [0; WRAPPED_V_BYTES];
    let parts = ephemeral.public.iter().chain(body.as_ref()).chain(&tag);
    for (to, from) in wrapped.iter_mut().zip(parts) {
        *to = *from;
    }
    Ok(wrapped)
}

fn derive(
    shared: &SharedSecret,
    ephemeral: &[u8; RELEASE_KEY_BYTES],
    release_key: &[u8; RELEASE_KEY_BYTES],
    terms: &Terms<'_>,
) -> Result<Secret<32>, ReleaseError> {
    if !shared.was_contributory() {
        return Err(ReleaseError::Key);
    }
    let manifest = Sha256::digest(terms.manifest);
    let info: [&[u8]; 4] = [KIND, ephemeral, release_key, &manifest];
    let mut key = Secret::zeroed();
    Hkdf::<Sha256>::new(Some(terms.challenge), shared.as_bytes())
        .expand_multi_info(&info, key.as_mut())
        // One block of SHA-256, where 255 would be allowed.
        .map_err(|_| ReleaseError::Key)?;
    Ok(key)
}

fn cipher(key: &Secret<32>) -> AesGcm<Aes256, U12> {
    AesGcm::new(key.as_ref().into())
}

const SEED: &[u8] = b"keyhalf/1 release key\0";
const KIND: &[u8] = b"keyhalf/1 v\0";
/// The key serves this one message.
const NONCE: [u8; 12] = [0; 12];
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> ReleaseKey {
        ReleaseKey::from_random(&Secret::copy_of(&[seed; 32]), &Secret::copy_of(&[9; 32]))
    }

    #[test]
    fn opens_for_its_key_and_terms_alone() {
        let (agent, other) = (Uuid::parse("node").unwrap(), Uuid::parse("other").unwrap());
        let terms = Terms {
            agent: &agent,
            challenge: &[1; 16],
            manifest: b"{}",
        };
        let (ephemeral, release) = (key(1), key(2));
        let v = Secret::copy_of(&[42; 32]);
        let wrapped = wrap(&ephemeral, release.public(), &terms, &v).unwrap();
        assert!(release.unwrap(&terms, &wrapped).unwrap().same_as(&[42; 32]));
        for (name, key, terms) in [
            ("another key", key(3), terms),
            (
                "another node",
                key(2),
                Terms {
                    agent: &other,
                    ..terms
                },
            ),
            (
                "another challenge",
                key(2),
                Terms {
                    challenge: &[2; 16],
                    ..terms
                },
            ),
            (
                "another manifest",
                key(2),
                Terms {
                    manifest: b"{ }",
                    ..terms
                },
            ),
        ] {
            let opened = key.unwrap(&terms, &wrapped);
            assert_eq!(opened.err(), Some(ReleaseError::Tag), "{name}");
        }
        for bit in 0..WRAPPED_V_BYTES * 8 {
            // X25519 ignores the highest bit of a public key, but the key derivation doesn't.
            let mut bad = wrapped;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(release.unwrap(&terms, &bad).is_err(), "{bit}");
        }
    }

    #[test]
    fn keys_that_anybody_could_share_are_refused() {
        let agent = Uuid::parse("node").unwrap();
        let terms = Terms {
            agent: &agent,
            challenge: &[1; 16],
            manifest: b"{}",
        };
        let one = {
            let mut one = [0; 32];
            one[0] = 1;
            one
        };
        for low_order in [[0; 32], one] {
            let v = Secret::copy_of(&[42; 32]);
            let wrapped = wrap(&key(1), &low_order, &terms, &v);
            assert_eq!(wrapped, Err(ReleaseError::Key));
            let mut answer = [0; WRAPPED_V_BYTES];
            answer[..32].copy_from_slice(&low_order);
            assert_eq!(
                key(2).unwrap(&terms, &answer).err(),
                Some(ReleaseError::Key)
            );
        }
    }

    #[test]
    fn both_random_sources_count() {
        let with = |system: u8, tpm: u8| {
            *ReleaseKey::from_random(
                &Secret::copy_of(&[system; 32]),
                &Secret::copy_of(&[tpm; 32]),
            )
            .public()
        };
        assert_ne!(with(1, 1), with(2, 1));
        assert_ne!(with(1, 1), with(1, 2));
    }
}
