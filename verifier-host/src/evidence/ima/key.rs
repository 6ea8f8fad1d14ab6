//! Keys that files are signed with: from a policy, or as the kernel measured them when they were put into a keyring.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::Pkcs1v15Sign;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use sha1::{Digest as _, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512};
use thiserror::Error;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::entry::FileDigest;
use super::signature::{FileSignature, SignatureHash};

/// A public key, and the identifier that signatures name it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey {
    id: u32,
    numbers: Numbers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Numbers {
    Rsa(Box<rsa::PublicKey>),
    P256(Box<p256::ecdsa::VerifyingKey>),
    P384(Box<p384::ecdsa::VerifyingKey>),
    /// Nothing verifies with it. The object identifier of its algorithm, or of its curve.
    Other(String),
}

/// Why some bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileKeyError {
    /// Neither a certificate nor a `SubjectPublicKeyInfo`.
    #[error("it is neither a certificate nor a public key in DER")]
    Der,
    /// A key whose numbers make no sense, or an RSA key of more than 4096 bits.
    #[error("its numbers are no key's that is supported")]
    Numbers,
}

impl FileKey {
    /// Reads a certificate or a `SubjectPublicKeyInfo` in DER. Neither the certificate's dates nor its issuer are looked at: the kernel
    /// or the policy has said that the key counts.
    ///
    /// # Errors
    /// [`FileKeyError`]. A key of an algorithm that isn't supported is none: nothing verifies with it.
    pub fn from_der(der: &[u8]) -> Result<Self, FileKeyError> {
        if let Ok((&[], certificate)) = X509Certificate::from_der(der) {
            let named = subject_key_id(&certificate);
            return Self::from_info(certificate.public_key(), named);
        }
        match SubjectPublicKeyInfo::from_der(der) {
            Ok((&[], info)) => Self::from_info(&info, None),
            _ => Err(FileKeyError::Der),
        }
    }

    fn from_info(info: &SubjectPublicKeyInfo<'_>, id: Option<u32>) -> Result<Self, FileKeyError> {
        let algorithm = &info.algorithm;
        let curve = algorithm
            .parameters
            .as_ref()
            .filter(|_| algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY)
            .and_then(|parameters| parameters.as_oid().ok());
        let bits: &[u8] = &info.subject_public_key.data;
        let broken = |_| FileKeyError::Numbers;
        let numbers = if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
            let key = rsa::PublicKey::from_pkcs1_der(bits);
            Numbers::Rsa(Box::new(key.map_err(|_| FileKeyError::Numbers)?))
        } else if curve == Some(OID_EC_P256) {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(bits);
            Numbers::P256(Box::new(key.map_err(broken)?))
        } else if curve == Some(OID_NIST_EC_P384) {
            let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(bits);
            Numbers::P384(Box::new(key.map_err(broken)?))
        } else {
            Numbers::Other(curve.as_ref().unwrap_or(&algorithm.algorithm).to_string())
        };
        let id = id.unwrap_or_else(|| last_four(&Sha1::digest(bits)));
        Ok(Self { id, numbers })
    }

    /// The same key under another identifier.
    #[must_use]
    pub fn with_id(self, id: u32) -> Self {
        Self { id, ..self }
    }

    /// What signatures name it by: the last four bytes of a certificate's subject key identifier, else of the SHA-1 of the key's bits.
    ///
    /// Source: `calc_keyid_v2` in `libimaevm.c` of ima-evm-utils; the kernel compares the end of a key's description.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The object identifier of its algorithm or curve, if it is one that nothing verifies with.
    #[must_use]
    pub fn unsupported(&self) -> Option<&str> {
        match &self.numbers {
            Numbers::Other(algorithm) => Some(algorithm),
            _ => None,
        }
    }

    /// Whether a signature is this key's over a file with this digest.
    #[must_use]
    pub fn verifies(&self, digest: &FileDigest<'_>, signature: &FileSignature<'_>) -> bool {
        if digest.kind.is_some() || digest.alg != signature.hash.name() {
            return false;
        }
        match &self.numbers {
            Numbers::Rsa(key) => {
                let padding = padding(signature.hash);
                key.verify(padding, digest.bytes, signature.bytes).is_ok()
            }
            Numbers::P256(key) => p256::ecdsa::DerSignature::from_bytes(signature.bytes)
                .and_then(|signature| {
                    key.verify_prehash(&filled_up::<P256_BYTES>(digest.bytes), &signature)
                })
                .is_ok(),
            Numbers::P384(key) => p384::ecdsa::DerSignature::from_bytes(signature.bytes)
                .and_then(|signature| {
                    key.verify_prehash(&filled_up::<P384_BYTES>(digest.bytes), &signature)
                })
                .is_ok(),
            Numbers::Other(_) => false,
        }
    }
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<u32> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if id.0.len() >= ID_BYTES => {
                Some(last_four(id.0))
            }
            _ => None,
        })
}

fn last_four(bytes: &[u8]) -> u32 {
    let last = bytes.last_chunk::<ID_BYTES>();
    last.map_or(0, |last| u32::from_be_bytes(*last))
}

fn padding(hash: SignatureHash) -> Pkcs1v15Sign {
    match hash {
        SignatureHash::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
        SignatureHash::Sha224 => Pkcs1v15Sign::new::<Sha224>(),
        SignatureHash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
        SignatureHash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
        SignatureHash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
    }
}

/// A digest as the number that ECDSA takes: its leftmost bytes, or with zeros in front where the curve is longer. The crates refuse a
/// digest that is much shorter than the curve.
fn filled_up<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut number = [0; N];
    let taken = digest.get(..N).unwrap_or(digest);
    let start = N - taken.len();
    number[start..].copy_from_slice(taken);
    number
}

const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;
const ID_BYTES: usize = 4;
