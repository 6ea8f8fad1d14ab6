//! `TPMT_SIGNATURE` by an attestation key.

use super::{HashAlg, SignAlg};
use crate::wire::bytes::{Reader, Truncated};

/// A `TPMT_SIGNATURE` by an RSA-2048 key takes 262 bytes; one by a P-256 key 72.
pub const MAX_SIGNATURE_BYTES: usize = 272;

/// A signature as the TPM marshals it, borrowed.
///
/// Source: TPM 2.0 Library part 2, section 11.3.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature<'a> {
    /// RSASSA-PKCS1-v1_5.
    Rsassa {
        /// Hash of what was signed.
        hash: HashAlg,
        /// The number, big-endian, as long as the key.
        signature: &'a [u8],
    },
    /// ECDSA.
    Ecdsa {
        /// Hash of what was signed.
        hash: HashAlg,
        /// Big-endian; the TPM may leave leading zeros out.
        r: &'a [u8],
        /// Big-endian; the TPM may leave leading zeros out.
        s: &'a [u8],
    },
}

/// Why bytes are no signature that can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// It ends too early.
    Truncated(Truncated),
    /// Bytes follow the structure.
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A scheme that isn't supported; RSAPSS is one.
    Scheme {
        /// Its `TPM_ALG_ID`.
        id: u16,
    },
    /// A hash that isn't supported; SHA-1 is one.
    Hash {
        /// Its `TPM_ALG_ID`.
        id: u16,
    },
}

impl From<Truncated> for SignatureError {
    fn from(error: Truncated) -> Self {
        Self::Truncated(error)
    }
}

impl<'a> Signature<'a> {
    /// Reads a whole `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// [`SignatureError`]: an unsupported algorithm, cut short, or followed by something.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let mut reader = Reader::new(bytes);
        let scheme = reader.u16_be()?;
        if scheme != RSASSA && scheme != ECDSA {
            return Err(SignatureError::Scheme { id: scheme });
        }
        let id = reader.u16_be()?;
        let hash = HashAlg::from_tpm_id(id).ok_or(SignatureError::Hash { id })?;
        let signature = if scheme == RSASSA {
            Self::Rsassa {
                hash,
                signature: reader.sized()?,
            }
        } else {
            Self::Ecdsa {
                hash,
                r: reader.sized()?,
                s: reader.sized()?,
            }
        };
        match reader.rest().len() {
            0 => Ok(signature),
            extra => Err(SignatureError::Trailing { extra }),
        }
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> SignAlg {
        match self {
            Self::Rsassa { .. } => SignAlg::Rsassa,
            Self::Ecdsa { .. } => SignAlg::Ecdsa,
        }
    }

    /// Hash of what was signed.
    #[must_use]
    pub const fn hash(&self) -> HashAlg {
        match self {
            Self::Rsassa { hash, .. } | Self::Ecdsa { hash, .. } => *hash,
        }
    }
}

/// `TPM_ALG_RSASSA`.
const RSASSA: u16 = 0x0014;
/// `TPM_ALG_ECDSA`.
const ECDSA: u16 = 0x0018;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let ecdsa = Signature::Ecdsa {
            hash: HashAlg::Sha256,
            r: &[7],
            s: &[8, 9],
        };
        let rsassa = Signature::Rsassa {
            hash: HashAlg::Sha384,
            signature: &[5; 3],
        };
        let short = SignatureError::Truncated(Truncated { need: 2, have: 1 });
        let cases: [(&str, &[u8], Result<Signature<'_>, SignatureError>); 7] = [
            ("ecdsa", &[0, 0x18, 0, 0x0B, 0, 1, 7, 0, 2, 8, 9], Ok(ecdsa)),
            ("rsassa", &[0, 0x14, 0, 0x0C, 0, 3, 5, 5, 5], Ok(rsassa)),
            (
                "rsapss",
                &[0, 0x16, 0, 0x0B, 0, 1, 5],
                Err(SignatureError::Scheme { id: 0x16 }),
            ),
            (
                "sha1",
                &[0, 0x14, 0, 4, 0, 1, 5],
                Err(SignatureError::Hash { id: 4 }),
            ),
            (
                "trailing",
                &[0, 0x14, 0, 0x0B, 0, 1, 5, 6],
                Err(SignatureError::Trailing { extra: 1 }),
            ),
            (
                "empty",
                &[],
                Err(SignatureError::Truncated(Truncated { need: 2, have: 0 })),
            ),
            ("cut", &[0, 0x18, 0, 0x0B, 0, 1, 7, 0, 2, 8], Err(short)),
        ];
        for (name, bytes, want) in cases {
            assert_eq!(Signature::parse(bytes), want, "{name}");
        }
    }
}
