//! Whether an attestation key signed these bytes.
//!
//! *ring* checks what it can, several times as fast as the pure Rust crates; they check P-256 with the longer hashes.

use agent_core::wire::quote::{HashAlg, Signature};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::area::COORDINATE_BYTES;
use super::public::{AkPublic, Verifying};

/// Whether `message` was signed by this key, with its own scheme and hash.
#[must_use]
pub fn holds(ak: &AkPublic, message: &[u8], signature: &Signature<'_>) -> bool {
    if (signature.scheme(), signature.hash()) != (ak.sign_alg(), ak.hash_alg()) {
        return false;
    }
    match (ak.verifying(), signature) {
        (Verifying::Rsa(n), Signature::Rsassa { signature, .. }) => {
            let parameters = match ak.hash_alg() {
                HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                HashAlg::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
                HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
            };
            let key = RsaPublicKeyComponents {
                n: &**n,
                e: RSA_EXPONENT,
            };
            key.verify(parameters, message, signature).is_ok()
        }
        (Verifying::P256 { point, key }, Signature::Ecdsa { r, s, .. }) => {
            let Some(scalars) = scalars(r, s) else {
                return false;
            };
            match ak.hash_alg() {
                HashAlg::Sha256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, &scalars)
                    .is_ok(),
                longer => p256::ecdsa::Signature::from_slice(&scalars).is_ok_and(|signature| {
                    let digest = longer.digest([message]);
                    key.verify_prehash(&digest, &signature).is_ok()
                }),
            }
        }
        _ => false,
    }
}

/// Both numbers at full length; the TPM may leave leading zeros out.
fn scalars(r: &[u8], s: &[u8]) -> Option<[u8; 2 * COORDINATE_BYTES]> {
    let mut scalars = [0; 2 * COORDINATE_BYTES];
    for (place, number) in scalars.chunks_exact_mut(COORDINATE_BYTES).zip([r, s]) {
        let zeros = place.len().checked_sub(number.len())?;
        place[zeros..].copy_from_slice(number);
    }
    Some(scalars)
}

/// 65537, the only exponent that a public area is accepted with.
const RSA_EXPONENT: &[u8] = &[1, 0, 1];
