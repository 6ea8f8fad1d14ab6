//! The hash that a list's second column is made with.

use agent_core::wire::quote::{Digest, HashAlg};
use sha1::Digest as _;

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
        match self {
            Self::Sha1 => Digest::from_slice(&sha1::Sha1::digest(bytes)).unwrap_or_default(),
            Self::Sha2(hash) => hash.digest([bytes]),
        }
    }
}

/// Size of a SHA-1 digest.
pub(super) const SHA1_BYTES: usize = 20;

const SHA1_NAME: &str = "sha1";
