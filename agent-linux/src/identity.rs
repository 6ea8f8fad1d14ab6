//! Who the agent is: its identifier, and the TLS key and certificate that verifier and tenant pin.
//!
//! Everything follows from the TPM and the configuration: the same bytes at each start, nothing on disk.

#[cfg(feature = "pull")]
mod certificate;
#[cfg(feature = "pull")]
mod signer;
#[cfg(all(test, feature = "pull"))]
mod with_x509_cert;

use std::fmt;
use std::str::FromStr;

use agent_core::wire::text::{Hex, Uuid};
use sha2::{Digest, Sha256};

#[cfg(feature = "pull")]
pub use certificate::{CertificateError, TlsIdentity};

/// Where the agent's identifier comes from (`--uuid`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UuidMode {
    /// This identifier.
    Literal(Uuid),
    /// A random UUID, another one at each start.
    Generate,
    /// The lowercase hex SHA-256 of the endorsement key's PEM text: the same wherever this TPM goes.
    HashEk,
}

impl UuidMode {
    /// The identifier; `random` is used up where a random one is wanted.
    ///
    /// Source: `hash_ek` as Keylime's agent has it; random ones by RFC 9562 section 5.4.
    #[must_use]
    pub fn resolve(&self, ek_pem: &str, random: [u8; 16]) -> Option<Uuid> {
        match self {
            Self::Literal(uuid) => Some(uuid.clone()),
            Self::Generate => Uuid::parse(&random_uuid(random)),
            Self::HashEk => Uuid::parse(&Hex(&Sha256::digest(ek_pem)).to_string()),
        }
    }
}

/// Text that is neither a mode nor an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnIdentifier(String);

impl fmt::Display for NotAnIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no identifier: write hash_ek, generate, or up to 128 letters, digits, '_', '.' and '-'",
            self.0
        )
    }
}

impl std::error::Error for NotAnIdentifier {}

impl FromStr for UuidMode {
    type Err = NotAnIdentifier;

    fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
        match text {
            "hash_ek" => Ok(Self::HashEk),
            "generate" => Ok(Self::Generate),
            text => Uuid::parse(text)
                .map(Self::Literal)
                .ok_or_else(|| NotAnIdentifier(text.to_owned())),
        }
    }
}

fn random_uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = Hex(&bytes).to_string();
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn modes() {
        let rows = [
            (
                "hash_ek",
                "70278335ab7cb0d139f9ebcaacbf93ea8ad5f614826f81f1454481f40abfac7a",
            ),
            ("generate", "00010203-0405-4607-8809-0a0b0c0d0e0f"),
            (
                "d432fbb3-d2f1-4a97-9ef7-75bd81c00000",
                "d432fbb3-d2f1-4a97-9ef7-75bd81c00000",
            ),
        ];
        for (text, wanted) in rows {
            let mode: UuidMode = text.parse().unwrap();
            let random = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
            let uuid = mode.resolve("pem\n", random).unwrap();
            assert_eq!(uuid.as_str(), wanted, "{text}");
        }
        for text in ["", ".", "..", "a/b", "a b", "../x", "ä", &"x".repeat(129)] {
            assert!(text.parse::<UuidMode>().is_err(), "{text:?}");
        }
    }
}
