//! Exchanging keys over X25519 and P-256.

use p256::elliptic_curve::sec1::ToSec1Point;
use rustls::crypto::{ActiveKeyExchange, SecureRandom, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use super::System;

/// Source: RFC 7748, RFC 8446 section 4.2.8.2.
pub(super) static X25519: &dyn SupportedKxGroup = &X25519Group;
/// Source: RFC 8446 section 4.2.8.2.
pub(super) static P256: &dyn SupportedKxGroup = &P256Group;

#[derive(Debug)]
struct X25519Group;

impl SupportedKxGroup for X25519Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        System.fill(bytes.as_mut_slice())?;
        let secret = x25519_dalek::StaticSecret::from(*bytes);
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(X25519Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct X25519Exchange {
    secret: x25519_dalek::StaticSecret,
    public: x25519_dalek::PublicKey,
}

impl ActiveKeyExchange for X25519Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = <[u8; 32]>::try_from(peer).map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.secret.diffie_hellman(&peer.into());
        // Source: RFC 8446 section 7.4.2: an all-zero result is refused.
        if !shared.was_contributory() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(shared.as_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
struct P256Group;

impl SupportedKxGroup for P256Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = p256_secret()?;
        let public = secret.public_key().to_sec1_point(UNCOMPRESSED);
        Ok(Box::new(P256Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

/// Random bytes until they are a scalar of the curve: the first ones, but for one time in four billion.
///
/// Source: rejection sampling as in FIPS 186-5 section A.2.2.
fn p256_secret() -> Result<p256::SecretKey, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    for _ in 0..=u8::MAX {
        System.fill(bytes.as_mut_slice())?;
        if let Ok(secret) = p256::SecretKey::from_slice(bytes.as_slice()) {
            return Ok(secret);
        }
    }
    Err(Error::FailedToGetRandomBytes)
}

struct P256Exchange {
    secret: p256::SecretKey,
    public: p256::Sec1Point,
}

impl ActiveKeyExchange for P256Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // The other forms of a point aren't for TLS: RFC 8446 section 4.2.8.2, RFC 8422 section 5.1.2.
        if peer.first() != Some(&UNCOMPRESSED_POINT) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let peer =
            p256::PublicKey::from_sec1_bytes(peer).map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.secret.diffie_hellman(&peer);
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

const UNCOMPRESSED: bool = false;
const UNCOMPRESSED_POINT: u8 = 4;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use rustls::crypto::ring::kx_group;

    #[test]
    fn a_key_is_exchanged_with_ring() {
        for (ours, theirs) in [(X25519, kx_group::X25519), (P256, kx_group::SECP256R1)] {
            assert_eq!(ours.name(), theirs.name());
            let (ours, theirs) = (ours.start().unwrap(), theirs.start().unwrap());
            let (our_public, their_public) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
            let (ours, theirs) = (
                ours.complete(&their_public).unwrap(),
                theirs.complete(&our_public).unwrap(),
            );
            assert_eq!(ours.secret_bytes(), theirs.secret_bytes());
        }
    }

    #[test]
    fn two_exchanges_have_two_keys() {
        for group in [X25519, P256] {
            let public = || group.start().unwrap().pub_key().to_vec();
            assert_ne!(public(), public());
        }
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        let point = P256.start().unwrap().pub_key().to_vec();
        let mut beside = point.clone();
        *beside.last_mut().unwrap() ^= 1;
        let compressed = [&[2], &point[1..33]].concat();
        let compact = [&[5], &point[1..33]].concat();
        for (group, share) in [
            (X25519, vec![9; 31]),
            (X25519, vec![9; 33]),
            (X25519, vec![0; 32]),
            (P256, Vec::new()),
            (P256, vec![0]),
            (P256, point[..64].to_vec()),
            (P256, [point.as_slice(), &[0]].concat()),
            (P256, beside),
            (P256, compressed),
            (P256, compact),
        ] {
            let refused = group.start().unwrap().complete(&share).err();
            assert_eq!(
                refused,
                Some(PeerMisbehaved::InvalidKeyShare.into()),
                "{:?} {share:?}",
                group.name()
            );
        }
    }
}
