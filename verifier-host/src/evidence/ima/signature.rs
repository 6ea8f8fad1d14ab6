//! The signature of a file, as it stands in its attribute `security.ima`, and in entries of the template ima-sig.
//!
//! Source: `struct signature_v2_hdr` in Linux's `integrity.h`, `enum hash_algo` in its `hash_info.h`.

use thiserror::Error;

/// `EVM_IMA_XATTR_DIGSIG`. EVM's portable signatures have another type: they sign more than the file's content.
const TYPE: u8 = 3;

const VERSION: u8 = 2;

/// A hash that files are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureHash {
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl SignatureHash {
    const fn of_id(id: u8) -> Option<Self> {
        Some(match id {
            2 => Self::Sha1,
            4 => Self::Sha256,
            5 => Self::Sha384,
            6 => Self::Sha512,
            7 => Self::Sha224,
            _ => return None,
        })
    }

    /// The kernel's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// A well-formed signature; by whom it is, and over what, is for a key to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSignature<'a> {
    /// The hash of the file that was signed.
    pub hash: SignatureHash,
    /// The identifier of the signer's key.
    pub key: u32,
    /// PKCS #1 v1.5, or ECDSA in DER.
    pub bytes: &'a [u8],
}

/// Why a signature can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileSignatureError {
    /// Not as long as it says.
    #[error("it has {have} bytes, and needs {need}")]
    Size {
        /// What it needs.
        need: usize,
        /// Its size.
        have: usize,
    },
    /// Another kind of signature.
    #[error(
        "it is of type {kind}, version {version}; signatures of files are of type 3, version 2"
    )]
    Kind {
        /// Its type.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// Another hash.
    #[error("its hash has the kernel's number {id}, which is not supported")]
    Hash {
        /// The kernel's number.
        id: u8,
    },
}

impl<'a> FileSignature<'a> {
    /// Reads the attribute's bytes.
    ///
    /// # Errors
    /// [`FileSignatureError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FileSignatureError> {
        let have = bytes.len();
        let cut = FileSignatureError::Size {
            need: HEADER_BYTES,
            have,
        };
        let (header, signature) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(cut)?;
        let [kind, version, hash, k0, k1, k2, k3, s0, s1] = *header;
        if (kind, version) != (TYPE, VERSION) {
            return Err(FileSignatureError::Kind { kind, version });
        }
        let size = usize::from(u16::from_be_bytes([s0, s1]));
        if size != signature.len() {
            let need = HEADER_BYTES + size;
            return Err(FileSignatureError::Size { need, have });
        }
        Ok(Self {
            hash: SignatureHash::of_id(hash).ok_or(FileSignatureError::Hash { id: hash })?,
            key: u32::from_be_bytes([k0, k1, k2, k3]),
            bytes: signature,
        })
    }
}

/// Type, version, hash, identifier of the key, size.
const HEADER_BYTES: usize = 1 + 1 + 1 + 4 + 2;
