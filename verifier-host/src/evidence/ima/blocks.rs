//! Bytes in the blocks that SHA-1 and SHA-256 take: template data are hashed with both, and padded but once.
//!
//! Source: FIPS 180-4, sections 5.1.1 (padding) and 5.3 (initial values); the rounds are those of `sha1` and `sha2`.

use sha1::block_api::compress;
use sha2::block_api::compress256;

use super::hash::SHA1_BYTES;

/// Bytes, ready for both hashes.
pub(super) struct Blocks<'a> {
    bytes: &'a [u8],
    whole: &'a [[u8; BLOCK_BYTES]],
    /// The bytes that don't fill a block, a one, zeros, and how many bits there are.
    end: [[u8; BLOCK_BYTES]; 2],
    /// Whether both blocks of the end are needed.
    two: bool,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (whole, rest) = bytes.as_chunks();
        let mut end = [[0; BLOCK_BYTES]; 2];
        // What is left is shorter than a block.
        if let Some((place, behind)) = end.as_flattened_mut().split_at_mut_checked(rest.len()) {
            place.copy_from_slice(rest);
            behind.iter_mut().take(1).for_each(|byte| *byte = 0x80);
        }
        let two = rest.len() + 1 + COUNT_BYTES > BLOCK_BYTES;
        let [first, second] = &mut end;
        let last = if two { second } else { first };
        if let Some(count) = last.last_chunk_mut::<COUNT_BYTES>() {
            // The standard counts modulo 2^64 too.
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            *count = size.wrapping_mul(8).to_be_bytes();
        }
        Self {
            bytes,
            whole,
            end,
            two,
        }
    }

    /// What is hashed, for other hashes.
    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn sha1(&self) -> [u8; SHA1_BYTES] {
        let mut state = SHA1_START;
        self.each(|blocks| compress(&mut state, blocks));
        let mut digest = [0; SHA1_BYTES];
        put(&mut digest, &state);
        digest
    }

    pub(super) fn sha256(&self) -> [u8; SHA256_BYTES] {
        let mut state = SHA256_START;
        self.each(|blocks| compress256(&mut state, blocks));
        let mut digest = [0; SHA256_BYTES];
        put(&mut digest, &state);
        digest
    }

    fn each(&self, mut compress: impl FnMut(&[[u8; BLOCK_BYTES]])) {
        if !self.whole.is_empty() {
            compress(self.whole);
        }
        let [first, _] = &self.end;
        compress(if self.two {
            &self.end
        } else {
            std::slice::from_ref(first)
        });
    }
}

/// Words as bytes, the high one first.
fn put(digest: &mut [u8], state: &[u32]) {
    let (places, _) = digest.as_chunks_mut();
    for (place, word) in places.iter_mut().zip(state) {
        *place = word.to_be_bytes();
    }
}

pub(super) const SHA256_BYTES: usize = 32;

const BLOCK_BYTES: usize = 64;

/// The number of bits, behind all others.
const COUNT_BYTES: usize = size_of::<u64>();

const SHA1_START: [u32; 5] = [
    0x6745_2301,
    0xEFCD_AB89,
    0x98BA_DCFE,
    0x1032_5476,
    0xC3D2_E1F0,
];

const SHA256_START: [u32; 8] = [
    0x6A09_E667,
    0xBB67_AE85,
    0x3C6E_F372,
    0xA54F_F53A,
    0x510E_527F,
    0x9B05_688C,
    0x1F83_D9AB,
    0x5BE0_CD19,
];

#[cfg(test)]
mod tests {
    use sha1::{Digest as _, Sha1};
    use sha2::Sha256;

    use super::*;

    /// So many that each way to end a block comes twice.
    #[test]
    fn both_hashes_are_the_standards_for_each_size() {
        let bytes: Vec<u8> = (0..4 * BLOCK_BYTES).map(|at| (at * 31) as u8).collect();
        for size in 0..=bytes.len() {
            let bytes = &bytes[..size];
            let blocks = Blocks::new(bytes);
            assert_eq!(blocks.sha1()[..], Sha1::digest(bytes)[..], "{size}");
            assert_eq!(blocks.sha256()[..], Sha256::digest(bytes)[..], "{size}");
        }
    }
}
