//! The seal: AES-GCM over a payload, opened in place and only as a whole.
//!
//! Nothing is decrypted before the whole tag has verified, and a buffer that doesn't verify stays as it was. The tag is
//! compared in a time that doesn't depend on it: aes-gcm 0.11 does so with `ctutils`, as we do elsewhere with `subtle`.

use core::fmt;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{
    AeadInOut, AesGcm, KeyInit,
    aead::consts::{U12, U16},
};
use zeroize::Zeroize;

use super::halves::{Key, Material};

/// Keylime's nonce: 128 bits, not GCM's usual 96.
///
/// Source: Keylime's `crypto.encrypt` (`AES_BLOCK_SIZE`).
pub const NONCE_BYTES: usize = 16;

/// The whole tag; shortened ones are not accepted.
pub const TAG_BYTES: usize = 16;

/// What sealing adds to a payload.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Opens a payload of one segment in place and returns its plaintext.
///
/// `sealed` is nonce (16 bytes), ciphertext, tag (16 bytes), without associated data. A key of 32 bytes means
/// AES-256-GCM, one of 16 bytes AES-128-GCM.
///
/// # Errors
/// [`OpenError::TooShort`]; [`OpenError::Tag`]: a wrong key or tampering, which can't be told apart. `sealed` is
/// unchanged then.
///
/// Source: NIST SP 800-38D section 7.2; layout as in Keylime's `crypto.encrypt`.
pub fn open_single<'a>(key: &Key, sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
    let have = sealed.len();
    let too_short = OpenError::TooShort {
        need: OVERHEAD_BYTES,
        have,
    };
    let (nonce, rest) = sealed
        .split_first_chunk_mut::<NONCE_BYTES>()
        .ok_or(too_short)?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(too_short)?;
    let opened = match key.material() {
        Material::Short(key) => open::<Aes128Gcm>(key.as_ref().into(), nonce, body, tag),
        Material::Long(key) => open::<Aes256Gcm>(key.as_ref().into(), nonce, body, tag),
    };
    wipe_stack();
    opened.map(|()| body)
}

/// Seals a payload as one segment: encrypts `plaintext` in place and returns its tag.
///
/// What travels is nonce, ciphertext, tag. A nonce must never serve one key twice; Keylime's tenant draws key and nonce
/// for each payload.
///
/// # Errors
/// [`SealError::TooLong`]: more than AES-GCM can encrypt under one nonce. `plaintext` is unchanged then.
///
/// Source: NIST SP 800-38D section 7.1; layout as in Keylime's `crypto.encrypt`.
pub fn seal_single(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    plaintext: &mut [u8],
) -> Result<[u8; TAG_BYTES], SealError> {
    match key.material() {
        Material::Short(key) => seal::<Aes128Gcm>(key.as_ref().into(), nonce, plaintext),
        Material::Long(key) => seal::<Aes256Gcm>(key.as_ref().into(), nonce, plaintext),
    }
}

/// Decrypts a segment of a larger payload in place, after its whole tag has verified.
pub(super) fn open_segment(
    key: &Key,
    nonce: &[u8; 12],
    associated: &[u8],
    body: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let opened = match key.material() {
        // No tenant seals segments under so short a key.
        Material::Short(_) => Err(OpenError::Tag),
        Material::Long(key) => open_usual(key.as_ref(), nonce, associated, body, tag),
    };
    wipe_stack();
    opened
}

/// Encrypts a segment of a larger payload in place.
pub(super) fn seal_segment(
    key: &Key,
    nonce: &[u8; 12],
    associated: &[u8],
    body: &mut [u8],
) -> Result<[u8; TAG_BYTES], SealError> {
    let have = body.len();
    let too_long = SealError::TooLong {
        have,
        limit: aes_gcm::P_MAX,
    };
    match key.material() {
        Material::Short(_) => Err(too_long),
        Material::Long(key) => SegmentGcm::new(key.as_ref().into())
            .encrypt_inout_detached(nonce.into(), associated, InOutBuf::from(body))
            .map(Into::into)
            .map_err(|_| too_long),
    }
}

/// Why a sealed payload doesn't open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Not even a nonce and a tag.
    TooShort {
        /// What an empty payload takes.
        need: usize,
        /// What came.
        have: usize,
    },
    /// The tag doesn't verify: another key, or another byte somewhere.
    Tag,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { need, have } => {
                write!(f, "the sealed payload has {have} bytes, nonce and tag alone take {need}")
            }
            Self::Tag => f.write_str("the sealed payload doesn't verify: it was changed, or U and V are of another payload"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a payload can't be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// More than one segment can hold.
    TooLong {
        /// The payload's bytes.
        have: usize,
        /// The most that AES-GCM encrypts under one nonce.
        limit: u64,
    },
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { have, limit } => {
                write!(f, "a payload of {have} bytes, one seal holds {limit}")
            }
        }
    }
}

impl core::error::Error for SealError {}

type Aes128Gcm = AesGcm<Aes128, U16>;
type Aes256Gcm = AesGcm<Aes256, U16>;
type SegmentGcm = AesGcm<Aes256, U12>;

/// Never inlined, as [`open`].
#[inline(never)]
fn open_usual(
    key: &[u8; 32],
    nonce: &[u8; 12],
    associated: &[u8],
    body: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    SegmentGcm::new(key.into())
        .decrypt_inout_detached(nonce.into(), associated, InOutBuf::from(body), tag.into())
        .map_err(|_| OpenError::Tag)
}

/// Never inlined: what it leaves on the stack has to lie where [`wipe_stack`] writes.
#[inline(never)]
fn open<A>(
    key: &aes_gcm::Key<A>,
    nonce: &[u8; NONCE_BYTES],
    body: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError>
where
    A: KeyInit + AeadInOut<NonceSize = U16, TagSize = U16>,
{
    A::new(key)
        .decrypt_inout_detached(
            nonce.into(),
            NO_ASSOCIATED_DATA,
            InOutBuf::from(body),
            tag.into(),
        )
        .map_err(|_| OpenError::Tag)
}

// Never inlined: the compiler would merge the panics of both ciphers' libraries into one of ours.
#[inline(never)]
fn seal<A>(
    key: &aes_gcm::Key<A>,
    nonce: &[u8; NONCE_BYTES],
    body: &mut [u8],
) -> Result<[u8; TAG_BYTES], SealError>
where
    A: KeyInit + AeadInOut<NonceSize = U16, TagSize = U16>,
{
    let have = body.len();
    A::new(key)
        .encrypt_inout_detached(nonce.into(), NO_ASSOCIATED_DATA, InOutBuf::from(body))
        .map(Into::into)
        .map_err(|_| SealError::TooLong {
            have,
            limit: aes_gcm::P_MAX,
        })
}

/// Overwrites the stack below its caller: the cipher works on 64 blocks at a time there and leaves the last ones, which are
/// plaintext.
#[inline(never)]
fn wipe_stack() {
    let mut used = [0_u8; CIPHER_STACK_BYTES];
    used.zeroize();
}

/// The deepest frames of AES-GCM with wide vectors take 4 KiB; this is twice that.
const CIPHER_STACK_BYTES: usize = 8 * 1024;

/// Keylime authenticates nothing beside the payload; what a key is good for is bound by its `auth_tag`.
const NO_ASSOCIATED_DATA: &[u8] = &[];

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    fn sealed(key: &Key, plaintext: &[u8]) -> Vec<u8> {
        let nonce = [7; NONCE_BYTES];
        let mut body = plaintext.to_vec();
        let tag = seal_single(key, &nonce, &mut body).unwrap();
        [&nonce[..], &body, &tag].concat()
    }

    #[test]
    fn opens_what_it_seals() {
        for key in [
            Key::from_slice(&[1; 16]).unwrap(),
            Key::from_slice(&[1; 32]).unwrap(),
        ] {
            for plaintext in [&b""[..], b"x", &[9; 1000]] {
                let mut sealed = sealed(&key, plaintext);
                assert_eq!(
                    open_single(&key, &mut sealed),
                    Ok(&mut plaintext.to_vec()[..])
                );
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused_and_changes_nothing() {
        let key = Key::from_slice(&[1; 32]).unwrap();
        let good = sealed(&key, b"what nobody else may read");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let before = bad.clone();
            assert_eq!(
                open_single(&key, &mut bad),
                Err(OpenError::Tag),
                "bit {bit}"
            );
            assert_eq!(bad, before, "bit {bit}");
        }
    }

    #[test]
    fn every_shorter_length_is_refused() {
        let key = Key::from_slice(&[1; 32]).unwrap();
        let good = sealed(&key, b"abc");
        for have in 0..good.len() {
            let mut cut = good[..have].to_vec();
            let want = if have < OVERHEAD_BYTES {
                OpenError::TooShort {
                    need: OVERHEAD_BYTES,
                    have,
                }
            } else {
                OpenError::Tag
            };
            assert_eq!(open_single(&key, &mut cut), Err(want), "{have}");
        }
    }

    #[test]
    fn another_key_is_refused() {
        let good = sealed(&Key::from_slice(&[1; 32]).unwrap(), b"abc");
        for key in [&[2; 32][..], &[1; 16]] {
            let key = Key::from_slice(key).unwrap();
            assert_eq!(open_single(&key, &mut good.clone()), Err(OpenError::Tag));
        }
    }
}
