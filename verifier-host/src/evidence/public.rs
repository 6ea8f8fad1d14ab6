//! Public keys of a TPM, parsed from `TPM2B_PUBLIC` and judged by their attributes.
//!
//! A value that exists is acceptable for its purpose: an [`AkPublic`] signs only what its TPM made itself, an [`EkPublic`]
//! decrypts only credentials. Names are computed here, never taken from a peer.
//!
//! Source: TPM 2.0 Library part 2, sections 8.3 (attributes), 12.2 (public areas); part 1, section 16 (names).

use std::fmt;

use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::text::Hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::area::{
    ALG_AES, ALG_CFB, ALG_ECDSA, ALG_NULL, ALG_RSASSA, Area, HASHES, Symmetric, refused,
};

/// A public area is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key} {fault}")]
pub struct PublicError {
    /// Which key.
    pub key: KeyRole,
    /// What is wrong with it.
    pub fault: PublicFault,
}

/// Why a public area is refused; reads on from the key's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublicFault {
    /// The text is no standard base64 with padding.
    #[error("is not valid base64")]
    Base64,
    /// The bytes end too early.
    #[error("is truncated: {need} more bytes expected, {have} there")]
    Truncated {
        /// Bytes that the next field takes.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// Bytes follow the structure.
    #[error("has {extra} bytes after its public area")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// An attribute isn't as it must be for this role.
    #[error("must have {attribute} {}", if *.wanted { "set" } else { "clear" })]
    Attribute {
        /// Its name in the TPM's specification.
        attribute: &'static str,
        /// What it must be.
        wanted: bool,
    },
    /// A field has a value that isn't supported, or isn't allowed for this role.
    #[error("has {field} 0x{found:04x}; accepted: {accepted}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u32,
        /// What it may be.
        accepted: &'static str,
    },
    /// The numbers make no key: a point off the curve, an even modulus, a modulus of another size than it says.
    #[error("holds no valid {kind} key")]
    Number {
        /// `RSA` or `P-256`.
        kind: &'static str,
    },
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// The attestation key.
    Ak,
    /// The endorsement key.
    Ek,
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ak => "attestation key (aik_tpm)",
            Self::Ek => "endorsement key (ek_tpm)",
        })
    }
}

/// A TPM object's name: `nameAlg` and the hash of its public area under it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The two bytes of `nameAlg`, then the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(area: &[u8], alg: HashAlg) -> Self {
        let mut name = alg.tpm_id().to_be_bytes().to_vec();
        name.extend_from_slice(&alg.digest([area]));
        Self(name.into())
    }
}

/// A key's numbers, checked: the modulus is odd and as long as it says, the point is on the curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyNumbers {
    /// RSA, 2048 bits, exponent 65537.
    Rsa(Box<rsa::PublicKey>),
    /// ECC NIST P-256.
    P256(p256::PublicKey),
}

impl KeyNumbers {
    /// The key as DER `SubjectPublicKeyInfo`; `None` if the encoder refuses it.
    #[must_use]
    pub fn spki_der(&self) -> Option<Vec<u8>> {
        let document = match self {
            Self::Rsa(key) => key.to_public_key_der(),
            Self::P256(key) => key.to_public_key_der(),
        };
        document.ok().map(|document| document.as_bytes().to_vec())
    }

    /// The key as PEM `SubjectPublicKeyInfo`, as OpenSSL writes it (64 columns, final newline); `None` if the encoder
    /// refuses it.
    #[must_use]
    pub fn spki_pem(&self) -> Option<String> {
        match self {
            Self::Rsa(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P256(key) => key.to_public_key_pem(LineEnding::LF),
        }
        .ok()
    }
}

/// An acceptable attestation key: bound to its TPM and parent, made inside, and signs nothing but TPM structures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AkPublic {
    marshalled: Box<[u8]>,
    name: Name,
    sign_alg: SignAlg,
    hash_alg: HashAlg,
    numbers: KeyNumbers,
    verifying: Verifying,
}

/// The key in the form that checks signatures fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verifying {
    /// The modulus, big-endian.
    Rsa(Box<[u8]>),
    P256 {
        /// SEC 1, uncompressed.
        point: Box<[u8]>,
        /// For the hashes that the fast way doesn't have.
        key: Box<p256::ecdsa::VerifyingKey>,
    },
}

impl AkPublic {
    /// Parses and judges a marshalled `TPM2B_PUBLIC`.
    ///
    /// # Errors
    /// [`PublicError`]: malformed, or not fit to attest; names the attribute.
    pub fn parse(marshalled: &[u8]) -> Result<Self, PublicError> {
        Self::judge(marshalled).map_err(|fault| PublicError {
            key: KeyRole::Ak,
            fault,
        })
    }

    fn judge(marshalled: &[u8]) -> Result<Self, PublicFault> {
        let area = Area::parse(marshalled)?;
        area.require(AK_ATTRIBUTES)?;
        if area.symmetric.alg != ALG_NULL {
            return Err(refused("symmetric", area.symmetric.alg.into(), "none"));
        }
        let sign_alg = match (&area.numbers, area.scheme.alg) {
            (KeyNumbers::Rsa(_), ALG_RSASSA) => SignAlg::Rsassa,
            (KeyNumbers::P256(_), ALG_ECDSA) => SignAlg::Ecdsa,
            _ => {
                return Err(refused(
                    "scheme",
                    area.scheme.alg.into(),
                    "rsassa with RSA, ecdsa with ECC",
                ));
            }
        };
        let hash_alg = HashAlg::from_tpm_id(area.scheme.hash)
            .ok_or_else(|| refused("scheme hash", area.scheme.hash.into(), HASHES))?;
        let verifying = match &area.numbers {
            KeyNumbers::Rsa(key) => Verifying::Rsa(key.n_bytes()),
            KeyNumbers::P256(key) => Verifying::P256 {
                point: key.to_sec1_point(false).as_bytes().into(),
                key: Box::new(key.into()),
            },
        };
        Ok(Self {
            marshalled: marshalled.into(),
            name: Name::of(area.bytes, area.name_alg),
            sign_alg,
            hash_alg,
            numbers: area.numbers,
            verifying,
        })
    }

    /// Parses the base64 text that travels as `aik_tpm` or `ak_tpm`.
    ///
    /// # Errors
    /// As [`AkPublic::parse`], and [`PublicFault::Base64`].
    pub fn from_base64(text: &str) -> Result<Self, PublicError> {
        Self::parse(&decode(KeyRole::Ak, text)?)
    }

    /// The marshalled `TPM2B_PUBLIC`, byte for byte as it came.
    #[must_use]
    pub fn marshalled(&self) -> &[u8] {
        &self.marshalled
    }

    /// The object's name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The scheme that it signs with; a restricted key has exactly one.
    #[must_use]
    pub const fn sign_alg(&self) -> SignAlg {
        self.sign_alg
    }

    /// The hash of its scheme.
    #[must_use]
    pub const fn hash_alg(&self) -> HashAlg {
        self.hash_alg
    }

    /// The key's numbers.
    #[must_use]
    pub const fn numbers(&self) -> &KeyNumbers {
        &self.numbers
    }

    pub(super) const fn verifying(&self) -> &Verifying {
        &self.verifying
    }
}

/// An acceptable endorsement key: bound to its TPM, made inside, and decrypts nothing but credentials. RSA-2048 or P-256 with
/// AES-128-CFB and name algorithm SHA-256, as in the TCG's low-range templates.
///
/// Source: TCG EK Credential Profile 2.5, sections B.3.3 and B.3.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    marshalled: Box<[u8]>,
    name: Name,
    numbers: KeyNumbers,
}

impl EkPublic {
    /// Parses and judges a marshalled `TPM2B_PUBLIC`.
    ///
    /// # Errors
    /// [`PublicError`]: malformed, or no endorsement key; names the attribute.
    pub fn parse(marshalled: &[u8]) -> Result<Self, PublicError> {
        Self::judge(marshalled).map_err(|fault| PublicError {
            key: KeyRole::Ek,
            fault,
        })
    }

    fn judge(marshalled: &[u8]) -> Result<Self, PublicFault> {
        let area = Area::parse(marshalled)?;
        area.require(EK_ATTRIBUTES)?;
        if area.name_alg != HashAlg::Sha256 {
            return Err(refused("nameAlg", area.name_alg.tpm_id().into(), "sha256"));
        }
        let Symmetric { alg, bits, mode } = area.symmetric;
        if alg != ALG_AES {
            return Err(refused("symmetric", alg.into(), "AES"));
        }
        if bits != 128 {
            return Err(refused("symmetric key bits", bits.into(), "128"));
        }
        if mode != ALG_CFB {
            return Err(refused("symmetric mode", mode.into(), "CFB"));
        }
        if area.scheme.alg != ALG_NULL {
            return Err(refused("scheme", area.scheme.alg.into(), "none"));
        }
        Ok(Self {
            marshalled: marshalled.into(),
            name: Name::of(area.bytes, area.name_alg),
            numbers: area.numbers,
        })
    }

    /// Parses the base64 text that travels as `ek_tpm`.
    ///
    /// # Errors
    /// As [`EkPublic::parse`], and [`PublicFault::Base64`].
    pub fn from_base64(text: &str) -> Result<Self, PublicError> {
        Self::parse(&decode(KeyRole::Ek, text)?)
    }

    /// The marshalled `TPM2B_PUBLIC`, byte for byte as it came.
    #[must_use]
    pub fn marshalled(&self) -> &[u8] {
        &self.marshalled
    }

    /// The object's name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The key's numbers.
    #[must_use]
    pub const fn numbers(&self) -> &KeyNumbers {
        &self.numbers
    }

    /// Lowercase hex SHA-256 of the key's PEM: the uuid that an agent with `uuid = "hash_ek"` has. `None` if the encoder
    /// refuses the key.
    #[must_use]
    pub fn hash_ek(&self) -> Option<String> {
        let pem = self.numbers.spki_pem()?;
        let digest = Sha256::digest(pem.as_bytes());
        Some(Hex(&digest).to_string())
    }
}

fn decode(key: KeyRole, text: &str) -> Result<Vec<u8>, PublicError> {
    BASE64.decode(text).map_err(|_| PublicError {
        key,
        fault: PublicFault::Base64,
    })
}

const AK_ATTRIBUTES: &[(&str, u32, bool)] = &[
    ("fixedTPM", 1 << 1, true),
    ("fixedParent", 1 << 4, true),
    ("sensitiveDataOrigin", 1 << 5, true),
    ("restricted", 1 << 16, true),
    ("decrypt", 1 << 17, false),
    ("sign", 1 << 18, true),
];

const EK_ATTRIBUTES: &[(&str, u32, bool)] = &[
    ("fixedTPM", 1 << 1, true),
    ("fixedParent", 1 << 4, true),
    ("sensitiveDataOrigin", 1 << 5, true),
    ("restricted", 1 << 16, true),
    ("decrypt", 1 << 17, true),
    ("sign", 1 << 18, false),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;
