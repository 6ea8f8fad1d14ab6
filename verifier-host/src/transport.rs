//! Key halves on their way to a node: RSA-OAEP to its transport key.
//!
//! The node's PCR 16 holds the hash of that key's PEM text, so a quote that checks out says that the key is the node's.
//!
//! Source: Keylime's `crypto.rsa_encrypt`; RFC 8017 section 7.1 with SHA-1 for hash and MGF1 and an empty label.

use rand::rngs::SysRng;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, PublicKey};
use sha1::Sha1;
use thiserror::Error;

/// Why nothing can be encrypted to a node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The text is longer than the PEM of any key that is accepted.
    #[error("the node's transport key takes {have} bytes, at most {MAX_PEM_BYTES} are accepted")]
    Oversized {
        /// Its length.
        have: usize,
    },
    /// The text is no RSA public key in PEM.
    #[error("the node's transport key is no PEM of an RSA public key")]
    NotRsa,
    /// The key's size is one that this protocol doesn't use.
    #[error("the node's transport key has {have} bits, {MIN_BITS} to {MAX_BITS} are accepted")]
    Size {
        /// Bits of its modulus.
        have: usize,
    },
    /// The encryption itself: a value that is too long for the key, or no random numbers.
    #[error("encrypting to the node's transport key failed")]
    Encrypt,
}

/// A node's public transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportKey(PublicKey);

impl TransportKey {
    /// Reads a PEM `SubjectPublicKeyInfo` of an RSA key of 2048 to 4096 bits.
    ///
    /// # Errors
    /// Another text, another kind of key, another size.
    pub fn from_pem(pem: &str) -> Result<Self, TransportError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(TransportError::Oversized { have: pem.len() });
        }
        let key = PublicKey::from_public_key_pem(pem).map_err(|_| TransportError::NotRsa)?;
        let bits = key.size() * 8;
        if (MIN_BITS..=MAX_BITS).contains(&bits) {
            Ok(Self(key))
        } else {
            Err(TransportError::Size { have: bits })
        }
    }

    /// Encrypts a key half; only the TPM that holds the private key opens it.
    ///
    /// # Errors
    /// [`TransportError::Encrypt`].
    pub fn encrypt(&self, half: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.0
            .encrypt(&mut SysRng, Oaep::<Sha1>::new(), half)
            .map_err(|_| TransportError::Encrypt)
    }
}

/// A 4096-bit key's PEM takes 800 bytes; the same with line endings of any kind stays below this.
pub const MAX_PEM_BYTES: usize = 1024;

const MIN_BITS: usize = 2048;
const MAX_BITS: usize = 4096;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use rsa::PrivateKey;
    use rsa::pkcs8::{EncodePublicKey as _, LineEnding};

    use super::*;

    /// An RSA-1024 key, made with OpenSSL for this test.
    const SMALL: &str = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCgFznRF23eqIec1+DZcgMFqnp1\ndH+C0yRLydAO5ciPrNGDfDvqUlwr8Urn7gGLUaNyiGXzpliMkIqOkCQdeqYW1j9I\n5aPmV51kGcs+zLFg5E2bJX+fC7333DogcdWmDYR3vhBTztSQnXbr5d184v2CJQ4Z\n25lZ3/nhpa9oMiUflQIDAQAB\n-----END PUBLIC KEY-----\n";

    #[test]
    fn only_the_private_key_opens_it() {
        let private = PrivateKey::new(&mut SysRng, 2048).unwrap();
        let pem = private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let key = TransportKey::from_pem(&pem).unwrap();
        let (first, second) = (
            key.encrypt(&[7; 32]).unwrap(),
            key.encrypt(&[7; 32]).unwrap(),
        );
        assert_ne!(first, second);
        assert_eq!(first.len(), 256);
        for sealed in [first, second] {
            assert_eq!(
                private.decrypt(Oaep::<Sha1>::new(), &sealed).unwrap(),
                [7; 32]
            );
        }
        assert_eq!(key.encrypt(&[7; 300]), Err(TransportError::Encrypt));
    }

    #[test]
    fn other_texts_are_refused() {
        for (name, pem, expected) in [
            ("empty", String::new(), TransportError::NotRsa),
            (
                "no key",
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(),
                TransportError::NotRsa,
            ),
            (
                "endless",
                "A".repeat(5000),
                TransportError::Oversized { have: 5000 },
            ),
            (
                "1024 bits",
                SMALL.into(),
                TransportError::Size { have: 1024 },
            ),
        ] {
            assert_eq!(TransportKey::from_pem(&pem), Err(expected), "{name}");
        }
    }
}
