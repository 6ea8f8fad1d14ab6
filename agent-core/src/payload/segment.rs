//! Segments: a payload of any size as a row of AES-GCM messages, so that one of them at a time is in memory.
//!
//! Each is bound to its node, its deposit, its number and the number of all. Nothing of a segment is decrypted before its
//! whole tag has verified, and a buffer that doesn't verify stays as it was.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`.

use super::halves::Key;
use super::seal::{self, OpenError, SealError, TAG_BYTES};
use crate::wire::manifest::PayloadId;
use crate::wire::statement::length;
use crate::wire::text::{MAX_UUID_BYTES, Uuid};

/// Plaintext of every segment but the last, which has from one byte on.
pub const SEGMENT_BYTES: usize = 1024 * 1024;

/// A sealed segment: ciphertext and tag.
pub const SEALED_SEGMENT_BYTES: usize = SEGMENT_BYTES + TAG_BYTES;

/// How a sealed payload of some size is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    count: u32,
    sealed_bytes: u64,
}

impl Segments {
    /// The division of a sealed payload; `None` for a size that no payload is sealed to.
    #[must_use]
    pub fn of_sealed(sealed_bytes: u64) -> Option<Self> {
        let (whole, tag) = (u64_of(SEALED_SEGMENT_BYTES), u64_of(TAG_BYTES));
        let rest = sealed_bytes.checked_rem(whole)?;
        if sealed_bytes == 0 || (1..=tag).contains(&rest) {
            return None;
        }
        let count = u32::try_from(sealed_bytes.div_ceil(whole)).ok()?;
        Some(Self {
            count,
            sealed_bytes,
        })
    }

    /// The division of a plaintext that is to be sealed; `None` for an empty one, or one beyond all sizes.
    #[must_use]
    pub fn of_plain(plain_bytes: u64) -> Option<Self> {
        let count = plain_bytes.div_ceil(u64_of(SEGMENT_BYTES));
        let tags = count.checked_mul(u64_of(TAG_BYTES))?;
        Self::of_sealed(plain_bytes.checked_add(tags)?)
    }

    /// How many segments there are, at least one.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// All of them, sealed, in bytes.
    #[must_use]
    pub const fn sealed_bytes(self) -> u64 {
        self.sealed_bytes
    }

    /// All of them, opened, in bytes.
    #[must_use]
    pub fn plain_bytes(self) -> u64 {
        let tags = u64::from(self.count).saturating_mul(u64_of(TAG_BYTES));
        self.sealed_bytes.saturating_sub(tags)
    }

    /// Where a segment begins in the sealed payload, and how many bytes it has there; `None` beyond the last.
    #[must_use]
    pub fn place(self, number: u32) -> Option<(u64, usize)> {
        let whole = u64_of(SEALED_SEGMENT_BYTES);
        let start = u64::from(number).checked_mul(whole)?;
        let left = self
            .sealed_bytes
            .checked_sub(start)
            .filter(|left| *left > 0)?;
        Some((start, usize::try_from(left.min(whole)).ok()?))
    }
}

/// What a segment is bound to beside its number.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The node.
    pub agent: &'a Uuid,
    /// The deposit.
    pub payload_id: PayloadId,
    /// How many segments the payload has.
    pub count: u32,
}

/// Opens a segment in place and returns its plaintext.
///
/// # Errors
/// [`OpenError`]: shorter than a tag; another key, place, node or deposit, or tampering, which can't be told apart. The
/// segment is unchanged then.
///
/// Source: NIST SP 800-38D section 7.2.
pub fn open<'s>(
    key: &Key,
    binding: &Binding<'_>,
    number: u32,
    sealed: &'s mut [u8],
) -> Result<&'s mut [u8], OpenError> {
    let have = sealed.len();
    let (body, tag) = sealed
        .split_last_chunk_mut::<TAG_BYTES>()
        .ok_or(OpenError::TooShort {
            need: TAG_BYTES,
            have,
        })?;
    seal::open_segment(key, &nonce(number), &binding.associated(), body, tag)?;
    Ok(body)
}

/// Seals a segment: encrypts the plaintext in place and returns its tag.
///
/// # Errors
/// [`SealError`]; never for [`SEGMENT_BYTES`] or less and a key of 32 bytes.
///
/// Source: NIST SP 800-38D section 7.1.
pub fn seal(
    key: &Key,
    binding: &Binding<'_>,
    number: u32,
    plaintext: &mut [u8],
) -> Result<[u8; TAG_BYTES], SealError> {
    seal::seal_segment(key, &nonce(number), &binding.associated(), plaintext)
}

impl Binding<'_> {
    fn associated(&self) -> heapless::Vec<u8, ASSOCIATED_BYTES> {
        let agent = self.agent.as_str().as_bytes();
        let mut bytes = heapless::Vec::new();
        for part in [
            KIND,
            &length(agent),
            agent,
            &self.payload_id.0,
            &self.count.to_be_bytes(),
        ] {
            // Sized by the longest of each.
            let _ = bytes.extend_from_slice(part);
        }
        bytes
    }
}

/// The segment's number, big-endian, in GCM's usual 96 bits: K serves one payload only, so no nonce comes twice.
fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(8);
    for (to, from) in low.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    nonce
}

fn u64_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

const KIND: &[u8] = b"keyhalf/1 segment\0";
const ASSOCIATED_BYTES: usize = KIND.len() + 2 + MAX_UUID_BYTES + 8 + 4;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    fn sealed(key: &Key, binding: &Binding<'_>, number: u32, plain: &[u8]) -> Vec<u8> {
        let mut body = plain.to_vec();
        let tag = seal(key, binding, number, &mut body).unwrap();
        [&body[..], &tag].concat()
    }

    #[test]
    fn division() {
        let whole = u64_of(SEALED_SEGMENT_BYTES);
        for (sealed, count, plain) in [
            (17, Some(1), 1),
            (whole, Some(1), 1 << 20),
            (whole + 17, Some(2), (1 << 20) + 1),
            (3 * whole, Some(3), 3 << 20),
            (0, None, 0),
            (16, None, 0),
            (whole + 1, None, 0),
            (whole + 16, None, 0),
            (u64::MAX, None, 0),
        ] {
            let segments = Segments::of_sealed(sealed);
            assert_eq!(segments.map(Segments::count), count, "{sealed}");
            if let Some(segments) = segments {
                assert_eq!(segments.plain_bytes(), plain, "{sealed}");
                assert_eq!(Segments::of_plain(plain), Some(segments), "{sealed}");
                let bytes: u64 = (0..segments.count())
                    .map(|n| segments.place(n).unwrap())
                    .inspect(|(start, length)| assert!(start + u64_of(*length) <= sealed))
                    .map(|(_, length)| u64_of(length))
                    .sum();
                assert_eq!(bytes, sealed);
                assert_eq!(segments.place(segments.count()), None);
            }
        }
        assert_eq!(Segments::of_plain(0), None);
    }

    #[test]
    fn another_key_place_node_deposit_or_count_is_refused() {
        let (agent, other) = (Uuid::parse("node").unwrap(), Uuid::parse("nodf").unwrap());
        let key = Key::from_slice(&[1; 32]).unwrap();
        let usual = Binding {
            agent: &agent,
            payload_id: PayloadId([5; 8]),
            count: 3,
        };
        let good = sealed(&key, &usual, 1, b"a secret");
        let opened = |key: &Key, binding: &Binding<'_>, number| {
            let mut bytes = good.clone();
            open(key, binding, number, &mut bytes).map(|plain| plain.to_vec())
        };
        assert_eq!(opened(&key, &usual, 1), Ok(b"a secret".to_vec()));
        let id = PayloadId([6; 8]);
        for (name, key, binding, number) in [
            ("key", Key::from_slice(&[2; 32]).unwrap(), usual, 1),
            ("number", Key::from_slice(&[1; 32]).unwrap(), usual, 2),
            (
                "node",
                Key::from_slice(&[1; 32]).unwrap(),
                Binding {
                    agent: &other,
                    ..usual
                },
                1,
            ),
            (
                "deposit",
                Key::from_slice(&[1; 32]).unwrap(),
                Binding {
                    payload_id: id,
                    ..usual
                },
                1,
            ),
            (
                "count",
                Key::from_slice(&[1; 32]).unwrap(),
                Binding { count: 4, ..usual },
                1,
            ),
        ] {
            assert_eq!(
                opened(&key, &binding, number),
                Err(OpenError::Tag),
                "{name}"
            );
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&key, &usual, 1, &mut bad).map(|_| ()),
                Err(OpenError::Tag),
                "{bit}"
            );
        }
        let short = open(&key, &usual, 1, &mut [0; 15]).map(|_| ());
        assert_eq!(short, Err(OpenError::TooShort { need: 16, have: 15 }));
    }

    #[test]
    fn matches_a_message_made_by_hand() {
        use aes_gcm::aead::consts::U12;
        use aes_gcm::{AeadInOut as _, AesGcm, KeyInit as _, aes::Aes256};
        let agent = Uuid::parse("n").unwrap();
        let binding = Binding {
            agent: &agent,
            payload_id: PayloadId(*b"12345678"),
            count: 2,
        };
        let key = Key::from_slice(&[7; 32]).unwrap();
        let mut by_hand = b"plain".to_vec();
        let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let tag = AesGcm::<Aes256, U12>::new(&[7; 32].into())
            .encrypt_inout_detached(
                &nonce.into(),
                b"keyhalf/1 segment\0\0\x01n12345678\0\0\0\x02",
                by_hand.as_mut_slice().into(),
            )
            .unwrap();
        by_hand.extend_from_slice(&tag);
        assert_eq!(sealed(&key, &binding, 1, b"plain"), by_hand);
    }
}
