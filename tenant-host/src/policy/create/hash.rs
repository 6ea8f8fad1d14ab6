//! Hashes of files.

use std::io::{self, Read};

use agent_core::wire::quote::Digest;
use clap::ValueEnum;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::CHUNK_BYTES;

/// What files are hashed with; it must be what the kernel's `ima_hash` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileHash {
    /// SHA-1, which older kernels measure with. Nobody should rely on it.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl FileHash {
    /// The digest of all that can be read, and how many bytes that is.
    pub(super) fn of(self, content: &mut dyn Read) -> io::Result<(Digest, u64)> {
        match self {
            Self::Sha1 => stream::<Sha1>(content),
            Self::Sha256 => stream::<Sha256>(content),
            Self::Sha384 => stream::<Sha384>(content),
            Self::Sha512 => stream::<Sha512>(content),
        }
    }
}

fn stream<H: sha2::Digest>(content: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut hash = H::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0_u64;
    loop {
        let have = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(have) => have,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..have).unwrap_or_default());
        size = size.saturating_add(have as u64);
    }
    let digest = Digest::from_slice(&hash.finalize());
    // No hash of ours is longer than a digest can be.
    let digest = digest.map_err(|_| io::Error::other("a digest of another size"))?;
    Ok((digest, size))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use agent_core::wire::text::Hex;

    use super::*;

    /// FIPS 180-4, examples for "abc".
    #[test]
    fn digests_are_the_standards() {
        let rows = [
            (FileHash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                FileHash::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                FileHash::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                FileHash::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ];
        for (hash, wanted) in rows {
            let (digest, size) = hash.of(&mut &b"abc"[..]).unwrap();
            assert_eq!((Hex(&digest).to_string().as_str(), size), (wanted, 3));
        }
    }
}
