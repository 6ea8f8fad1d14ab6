//! Key halves: U from the tenant, V from the verifier, and K, which is U xor V.
//!
//! A half alone tells nothing about K. Lengths are checked where bytes come in, so a [`Half`] or [`Key`] that exists can
//! be used.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha384;
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// An `auth_tag` is one HMAC-SHA384.
pub const AUTH_TAG_BYTES: usize = 48;

/// One of the two halves of a key: 16 or 32 bytes, wiped on drop.
pub struct Half(Material);

impl Half {
    /// Copies a half; the caller wipes its own.
    ///
    /// # Errors
    /// [`HalfError::Length`]: neither 16 nor 32 bytes.
    ///
    /// Source: Keylime's `crypto.strbitxor` and its agent's `keys_handler`.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, HalfError> {
        Material::from_slice(bytes).map(Self)
    }

    /// The key that this half and the other make: their xor.
    ///
    /// # Errors
    /// [`HalfError::Mismatch`]: one half is longer than the other.
    pub fn combine(&self, other: &Self) -> Result<Key, HalfError> {
        self.0.xor(&other.0).map(Key)
    }

    /// The raw half, for its transport.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The key K that a payload is sealed under: 16 or 32 bytes, wiped on drop.
pub struct Key(Material);

impl Key {
    /// Copies a key; the caller wipes its own.
    ///
    /// # Errors
    /// [`HalfError::Length`]: neither 16 nor 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, HalfError> {
        Material::from_slice(bytes).map(Self)
    }

    /// The half that makes this key together with `half`: how a tenant that drew K and V gets U.
    ///
    /// # Errors
    /// [`HalfError::Mismatch`]: the half is longer or shorter than the key.
    pub fn other_half(&self, half: &Half) -> Result<Half, HalfError> {
        self.0.xor(&half.0).map(Half)
    }

    /// HMAC-SHA384 under the raw key: of the agent's uuid it is the `auth_tag`, of a challenge the answer to
    /// `keys/verify`.
    ///
    /// Source: RFC 2104; Keylime's `crypto.do_hmac`.
    #[must_use]
    pub fn auth_tag(&self, message: &[u8]) -> [u8; AUTH_TAG_BYTES] {
        let mut block = Secret::<HMAC_BLOCK_BYTES>::zeroed();
        for (to, from) in block.as_mut().iter_mut().zip(self.as_bytes()) {
            *to = *from;
        }
        // A key that fills the hash's block, padded with zeros as RFC 2104 pads it: no length that could be refused.
        let mut mac = Hmac::<Sha384>::new(block.as_ref().into());
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// Whether the tag is this key's for the message, in a time that doesn't depend on where they differ.
    #[must_use]
    pub fn matches(&self, message: &[u8], tag: &[u8; AUTH_TAG_BYTES]) -> bool {
        self.auth_tag(message).ct_eq(tag).into()
    }

    /// The raw key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The key with its length as a type, for a cipher.
    pub(super) const fn material(&self) -> &Material {
        &self.0
    }
}

/// Why halves don't make a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfError {
    /// A half or key is 16 or 32 bytes.
    Length {
        /// The length that came.
        have: usize,
    },
    /// Two parts have to be of one length.
    Mismatch {
        /// The length of the one.
        one: usize,
        /// The length of the other.
        other: usize,
    },
}

impl fmt::Display for HalfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { have } => {
                write!(f, "a key or half has 16 or 32 bytes, this one has {have}")
            }
            Self::Mismatch { one, other } => {
                write!(f, "halves of {one} and {other} bytes don't make a key")
            }
        }
    }
}

impl core::error::Error for HalfError {}

/// Key bytes of either length.
pub(super) enum Material {
    /// AES-128.
    Short(Secret<SHORT_BYTES>),
    /// AES-256.
    Long(Secret<LONG_BYTES>),
}

impl Material {
    fn from_slice(bytes: &[u8]) -> Result<Self, HalfError> {
        if let Ok(short) = bytes.try_into() {
            Ok(Self::Short(Secret::copy_of(short)))
        } else if let Ok(long) = bytes.try_into() {
            Ok(Self::Long(Secret::copy_of(long)))
        } else {
            Err(HalfError::Length { have: bytes.len() })
        }
    }

    fn xor(&self, other: &Self) -> Result<Self, HalfError> {
        match (self, other) {
            (Self::Short(one), Self::Short(other)) => Ok(Self::Short(one.xor(other))),
            (Self::Long(one), Self::Long(other)) => Ok(Self::Long(one.xor(other))),
            _ => Err(HalfError::Mismatch {
                one: self.as_bytes().len(),
                other: other.as_bytes().len(),
            }),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes.as_ref(),
            Self::Long(bytes) => bytes.as_ref(),
        }
    }
}

const SHORT_BYTES: usize = 16;
const LONG_BYTES: usize = 32;

/// The block of SHA-384.
///
/// Source: FIPS 180-4, figure 1.
const HMAC_BLOCK_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_make_the_key_again() {
        for len in [SHORT_BYTES, LONG_BYTES] {
            let key = Key::from_slice(&[0xA5; LONG_BYTES][..len]).unwrap();
            let v = Half::from_slice(&[0x3C; LONG_BYTES][..len]).unwrap();
            let u = key.other_half(&v).unwrap();
            assert!(
                u.as_bytes().iter().all(|byte| *byte == 0xA5 ^ 0x3C),
                "{len}"
            );
            assert_eq!(u.combine(&v).unwrap().as_bytes(), key.as_bytes(), "{len}");
            assert_eq!(v.combine(&u).unwrap().as_bytes(), key.as_bytes(), "{len}");
        }
    }

    #[test]
    fn wrong_lengths() {
        for have in [0, 1, 15, 17, 31, 33, 64] {
            assert_eq!(
                Half::from_slice(&[0; 64][..have]).err(),
                Some(HalfError::Length { have })
            );
            assert_eq!(
                Key::from_slice(&[0; 64][..have]).err(),
                Some(HalfError::Length { have })
            );
        }
        let (short, long) = (
            Half::from_slice(&[0; 16]).unwrap(),
            Half::from_slice(&[0; 32]).unwrap(),
        );
        assert_eq!(
            short.combine(&long).err(),
            Some(HalfError::Mismatch { one: 16, other: 32 })
        );
        assert_eq!(
            long.combine(&short).err(),
            Some(HalfError::Mismatch { one: 32, other: 16 })
        );
    }
}
