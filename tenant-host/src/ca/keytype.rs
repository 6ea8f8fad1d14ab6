//! What kind of key a certificate is for.

use std::fmt;
use std::str::FromStr;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rsa::pkcs8::EncodePrivateKey as _;

use super::CaError;

/// Bits of an RSA key where no number is given.
const RSA_BITS: usize = 3072;

/// What kind of key is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256, with SHA-256.
    #[default]
    P256,
    /// RSA of 2048, 3072 or 4096 bits, signing by PKCS#1 v1.5 with SHA-256.
    Rsa(usize),
}

/// A text that names no kind of key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no kind of key: ecdsa, rsa:2048, rsa:3072 or rsa:4096")]
pub struct KeyTypeError {
    /// What was given.
    text: String,
}

impl FromStr for KeyType {
    type Err = KeyTypeError;

    fn from_str(text: &str) -> Result<Self, KeyTypeError> {
        match text {
            "ecdsa" | "ecdsa:p256" => Ok(Self::P256),
            "rsa" => Ok(Self::Rsa(RSA_BITS)),
            "rsa:2048" => Ok(Self::Rsa(2048)),
            "rsa:3072" => Ok(Self::Rsa(3072)),
            "rsa:4096" => Ok(Self::Rsa(4096)),
            _ => Err(KeyTypeError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("ecdsa"),
            Self::Rsa(bits) => write!(f, "rsa:{bits}"),
        }
    }
}

impl KeyType {
    /// Makes a key.
    ///
    /// # Cost
    /// RSA: seconds for 4096 bits.
    ///
    /// # Errors
    /// [`CaError::Issue`] if there are no random numbers.
    pub(super) fn generate(self) -> Result<KeyPair, CaError> {
        let Self::Rsa(bits) = self else {
            return Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        };
        let issue = |error: &dyn fmt::Display| CaError::Issue(error.to_string());
        let key =
            rsa::PrivateKey::new(&mut rand::rngs::SysRng, bits).map_err(|error| issue(&error))?;
        let pkcs8 = key.to_pkcs8_der().map_err(|error| issue(&error))?;
        let pkcs8 = pkcs8.as_bytes().into();
        Ok(KeyPair::from_pkcs8_der_and_sign_algo(
            &pkcs8,
            &PKCS_RSA_SHA256,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names() {
        let rows = [
            ("ecdsa", Some(KeyType::P256)),
            ("rsa", Some(KeyType::Rsa(3072))),
            ("rsa:2048", Some(KeyType::Rsa(2048))),
            ("rsa:4096", Some(KeyType::Rsa(4096))),
            ("rsa:1024", None),
            ("rsa:", None),
            ("ed25519", None),
            ("", None),
        ];
        for (text, wanted) in rows {
            let parsed: Option<KeyType> = text.parse().ok();
            assert_eq!(parsed, wanted, "{text}");
        }
        assert_eq!(
            KeyType::Rsa(4096).to_string().parse(),
            Ok(KeyType::Rsa(4096))
        );
    }
}
