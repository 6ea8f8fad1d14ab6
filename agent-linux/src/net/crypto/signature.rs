//! Signatures of TLS and of certificates: P-256's here, RSA's by ring.

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use webpki::ring as by;

/// The signatures that are looked at.
pub(crate) static VERIFIED: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        P256_SHA256,
        #[cfg(feature = "tss")]
        by::ECDSA_P256_SHA384,
        #[cfg(feature = "tss")]
        by::ECDSA_P384_SHA256,
        #[cfg(feature = "tss")]
        by::ECDSA_P384_SHA384,
        #[cfg(feature = "tss")]
        by::ED25519,
        by::RSA_PKCS1_2048_8192_SHA256,
        by::RSA_PKCS1_2048_8192_SHA384,
        by::RSA_PKCS1_2048_8192_SHA512,
        by::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        #[cfg(feature = "pull")]
        by::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        #[cfg(feature = "pull")]
        by::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        #[cfg(feature = "pull")]
        by::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        #[cfg(feature = "pull")]
        by::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        #[cfg(feature = "pull")]
        by::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        // TLS 1.2 names no curve with the hash: rustls tries each of a row, and takes the first one alone in TLS 1.3.
        #[cfg(feature = "tss")]
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[by::ECDSA_P384_SHA384, by::ECDSA_P256_SHA384],
        ),
        #[cfg(feature = "tss")]
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[P256_SHA256, by::ECDSA_P384_SHA256],
        ),
        #[cfg(not(feature = "tss"))]
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[P256_SHA256]),
        #[cfg(feature = "tss")]
        (SignatureScheme::ED25519, &[by::ED25519]),
        #[cfg(feature = "pull")]
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[by::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        #[cfg(feature = "pull")]
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[by::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[by::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            &[by::RSA_PKCS1_2048_8192_SHA512],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            &[by::RSA_PKCS1_2048_8192_SHA384],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[by::RSA_PKCS1_2048_8192_SHA256],
        ),
    ],
};

/// ECDSA over P-256 with SHA-256.
pub(crate) static P256_SHA256: &dyn SignatureVerificationAlgorithm = &P256Sha256;

#[derive(Debug)]
struct P256Sha256;

impl SignatureVerificationAlgorithm for P256Sha256 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
        key.verify(message, &signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer;

    #[test]
    fn a_signature_counts_for_its_key_and_its_message_alone() {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let other = SigningKey::from_slice(&[8; 32]).unwrap();
        let point = |key: &SigningKey| {
            let point = key.verifying_key().to_sec1_point(false);
            point.as_bytes().to_vec()
        };
        let signature: DerSignature = key.sign(b"said");
        let signature = signature.as_bytes().to_vec();
        let longer = [signature.as_slice(), &[0]].concat();
        let shorter = &signature[..signature.len() - 1];
        for (public, message, signature, counts) in [
            (point(&key), "said", signature.as_slice(), true),
            (point(&key), "meant", &signature, false),
            (point(&other), "said", &signature, false),
            (point(&key), "said", &longer, false),
            (point(&key), "said", shorter, false),
            (point(&key), "said", &[], false),
            (Vec::new(), "said", &signature, false),
            (vec![0], "said", &signature, false),
        ] {
            for by in [P256_SHA256, webpki::ring::ECDSA_P256_SHA256] {
                let verified = by.verify_signature(&public, message.as_bytes(), signature);
                assert_eq!(
                    verified.is_ok(),
                    counts,
                    "{by:?} {public:?} {message} {signature:?}"
                );
            }
        }
    }
}
