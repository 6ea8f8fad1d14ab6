//! The cryptography of the TLS client.
//!
//! A build with `pull` takes all that rustls offers. One without it is to be small: what every TLS 1.3 has to know (P-256,
//! AES-GCM), and certificates by P-256 or RSA, as keyhalf's and Keylime's tenants make them.

use rustls::crypto::CryptoProvider;

/// All of rustls with ring.
#[cfg(feature = "pull")]
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// The least: what isn't named here isn't linked.
///
/// Source: RFC 8446 section 9.1 (mandatory to implement).
#[cfg(not(feature = "pull"))]
pub(super) fn provider() -> CryptoProvider {
    use rustls::crypto::ring::{cipher_suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::SECP256R1],
        signature_verification_algorithms: small::ALGORITHMS,
        secure_random: &small::System,
        key_provider: &small::System,
    }
}

#[cfg(not(feature = "pull"))]
mod small {
    use std::sync::Arc;

    use rustix::rand::{GetRandomFlags, getrandom};
    use rustls::SignatureScheme;
    use rustls::crypto::{GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::SigningKey;
    use webpki::ring as by;

    pub(super) static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
        all: &[
            by::ECDSA_P256_SHA256,
            by::RSA_PKCS1_2048_8192_SHA256,
            by::RSA_PKCS1_2048_8192_SHA384,
            by::RSA_PKCS1_2048_8192_SHA512,
            by::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        ],
        mapping: &[
            (
                SignatureScheme::ECDSA_NISTP256_SHA256,
                &[by::ECDSA_P256_SHA256],
            ),
            (
                SignatureScheme::RSA_PSS_SHA256,
                &[by::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
            ),
            (
                SignatureScheme::RSA_PKCS1_SHA256,
                &[by::RSA_PKCS1_2048_8192_SHA256],
            ),
            (
                SignatureScheme::RSA_PKCS1_SHA384,
                &[by::RSA_PKCS1_2048_8192_SHA384],
            ),
            (
                SignatureScheme::RSA_PKCS1_SHA512,
                &[by::RSA_PKCS1_2048_8192_SHA512],
            ),
        ],
    };

    /// The system's random numbers, and no private key.
    #[derive(Debug)]
    pub(super) struct System;

    impl SecureRandom for System {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
            let mut rest = buffer;
            while !rest.is_empty() {
                match getrandom(&mut *rest, GetRandomFlags::empty()) {
                    Ok(filled) => rest = rest.get_mut(filled..).unwrap_or_default(),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return Err(GetRandomFailed),
                }
            }
            Ok(())
        }
    }

    impl KeyProvider for System {
        fn load_private_key(
            &self,
            _: PrivateKeyDer<'static>,
        ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
            Err(rustls::Error::General(
                "the client shows no certificate".to_owned(),
            ))
        }
    }
}
