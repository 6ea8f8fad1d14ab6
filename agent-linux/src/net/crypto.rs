//! The cryptography of the agent's TLS, as client and as server.
//!
//! Sessions are encrypted with AES-GCM by ring; keys are exchanged over X25519 or P-256 and P-256 signs, by the curves that the
//! agent has anyway: ring's own tables for them would be a tenth of the static agent. Certificates are by P-256 or RSA, as
//! keyhalf's, Keylime's and their tenants make them. Builds with tpm2-tss, which aren't small, take what else ring offers.

mod exchange;
mod signature;

use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use rustls::crypto::ring::cipher_suite;
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;

pub(crate) use signature::P256_SHA256;
#[cfg(feature = "revocations")]
pub(crate) use signature::VERIFIED;

/// What isn't named here isn't linked.
///
/// Source: RFC 8446 section 9.1 (mandatory to implement).
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            #[cfg(feature = "tss")]
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            #[cfg(feature = "pull")]
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            #[cfg(feature = "pull")]
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            #[cfg(feature = "tss")]
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            #[cfg(feature = "pull")]
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            #[cfg(feature = "pull")]
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            #[cfg(feature = "tss")]
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            exchange::X25519,
            exchange::P256,
            #[cfg(feature = "tss")]
            rustls::crypto::ring::kx_group::SECP384R1,
        ],
        signature_verification_algorithms: signature::VERIFIED,
        secure_random: &System,
        key_provider: &System,
    }
}

/// The system's random numbers, and no private key: the agent's own comes as a signer.
#[derive(Debug)]
struct System;

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
        Err(rustls::Error::General("no key is loaded here".to_owned()))
    }
}
