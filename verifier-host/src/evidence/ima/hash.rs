//! The hash that a list's second column is made with.

use agent_core::wire::quote::{Digest, HashAlg};

use super::blocks::{Blocks, SHA256_BYTES};

/// A hash of template data. `ascii_runtime_measurements` has SHA-1, whatever the TPM's banks; newer kernels show other banks in
/// files of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListHash {
    /// SHA-1.
    Sha1,
    /// One of the hashes that banks are quoted in.
    Sha2(HashAlg),
}

impl ListHash {
    /// The hash with digests of this size.
    #[must_use]
    pub const fn of_size(bytes: usize) -> Option<Self> {
        match bytes {
            SHA1_BYTES => Some(Self::Sha1),
            32 => Some(Self::Sha2(HashAlg::Sha256)),
            48 => Some(Self::Sha2(HashAlg::Sha384)),
            64 => Some(Self::Sha2(HashAlg::Sha512)),
            _ => None,
        }
    }

    /// The hash of this name, as IMA and policies write it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == SHA1_NAME {
            return Some(Self::Sha1);
        }
        HashAlg::from_name(name).map(Self::Sha2)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => SHA1_NAME,
            Self::Sha2(hash) => hash.name(),
        }
    }

    /// The digest of some bytes.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Digest {
        self.of(&Blocks::new(bytes))
    }

    /// The digest of bytes that may be hashed once more.
    pub(super) fn of(self, blocks: &Blocks<'_>) -> Digest {
        match self {
            Self::Sha1 => Digest::from(blocks.sha1()),
            Self::Sha2(HashAlg::Sha256) => Digest::from(blocks.sha256()),
            Self::Sha2(hash) => hash.digest([blocks.bytes()]),
        }
    }
}

/// The value of a PCR of this bank behind an extension.
///
/// Source: TPM 2.0 Library, Part 1, section 17.2 (`TPM2_PCR_Extend`).
pub(super) fn extend(bank: HashAlg, pcr: &[u8], with: &[u8]) -> Digest {
    if let (HashAlg::Sha256, Ok(pcr), Ok(with)) = (bank, pcr.try_into(), with.try_into()) {
        let both: [[u8; SHA256_BYTES]; 2] = [pcr, with];
        return Digest::from(Blocks::new(both.as_flattened()).sha256());
    }
    bank.digest([pcr, with])
}

/// Size of a SHA-1 digest.
pub(super) const SHA1_BYTES: usize = 20;

const SHA1_NAME: &str = "sha1";
