//! What a tenant said about a node when it added it; it never changes until the node is deleted.

use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::evidence::public::{AkPublic, PublicError};
use crate::policy::PolicyName;
use crate::policy::tpm::{PolicyError, TpmPolicy};

/// The terms as they travel and are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsText {
    /// The agent's address, or its host name.
    pub ip: String,
    /// The agent's port.
    pub port: u16,
    /// The verifier's address as the tenant knows it.
    pub verifier_ip: String,
    /// The verifier's port as the tenant knows it.
    pub verifier_port: u16,
    /// JSON text of the PCR policy.
    pub tpm_policy: String,
    /// Name of the policy for its IMA list; none if it isn't judged by one.
    #[serde(default)]
    pub runtime_policy: Option<PolicyName>,
    /// Name of the policy for its boot log; none if it isn't judged by one.
    #[serde(default)]
    pub mb_policy: Option<PolicyName>,
    /// JSON text `{cert_serial, subject}` of the certificate that the payload carries.
    pub metadata: String,
    /// Hash algorithms that the tenant accepts.
    pub accept_tpm_hash_algs: Vec<String>,
    /// Algorithms of the transport key that the tenant accepts.
    pub accept_tpm_encryption_algs: Vec<String>,
    /// Signature schemes that the tenant accepts.
    pub accept_tpm_signing_algs: Vec<String>,
    /// The attestation key, base64 of a `TPM2B_PUBLIC`.
    pub ak_tpm: String,
    /// The agent's own certificate, PEM.
    pub mtls_cert: String,
    /// The API version to begin with.
    #[serde(with = "version_text")]
    pub supported_version: ApiVersion,
}

/// Terms that can be acted on.
#[derive(Clone, Debug)]
pub struct Terms {
    /// As they were given.
    pub text: TermsText,
    /// The PCR policy.
    pub policy: TpmPolicy,
    /// The key that must sign every quote.
    pub ak: AkPublic,
    /// The certificate that the agent must show, byte for byte; none for a node that calls and is never called.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Why terms can't be acted on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TermsError {
    /// The PCR policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The attestation key.
    #[error("ak_tpm: {0}")]
    Ak(#[from] PublicError),
    /// Not a certificate in PEM.
    #[error("mtls_cert is no certificate in PEM")]
    Certificate,
    /// An address that no node can have.
    #[error("cloudagent_ip is \"{ip}\", which is neither an address nor a host name")]
    Address {
        /// The text.
        ip: String,
    },
    /// A port that no node can have.
    #[error("cloudagent_port is 0")]
    Port,
}

impl TryFrom<TermsText> for Terms {
    type Error = TermsError;

    fn try_from(text: TermsText) -> Result<Self, TermsError> {
        if !is_host(&text.ip) {
            let ip = text.ip.chars().take(MAX_HOST_BYTES).collect();
            return Err(TermsError::Address { ip });
        }
        if text.port == 0 {
            return Err(TermsError::Port);
        }
        let certificate = match text.mtls_cert.as_str() {
            MTLS_DISABLED => None,
            pem => Some(certificate(pem)?),
        };
        Ok(Self {
            policy: TpmPolicy::parse(&text.tpm_policy)?,
            ak: AkPublic::from_base64(&text.ak_tpm)?,
            certificate,
            text,
        })
    }
}

impl Terms {
    /// Whether the node calls by itself (API 3.0) and is never polled.
    #[must_use]
    pub const fn is_push(&self) -> bool {
        self.certificate.is_none()
    }

    /// Whether the tenant accepts this hash.
    #[must_use]
    pub fn accepts_hash(&self, alg: HashAlg) -> bool {
        lists(&self.text.accept_tpm_hash_algs, alg.name())
    }

    /// Whether the tenant accepts this signature scheme.
    #[must_use]
    pub fn accepts_signing(&self, alg: SignAlg) -> bool {
        lists(&self.text.accept_tpm_signing_algs, alg.name())
    }

    /// Whether the tenant accepts this kind of transport key.
    #[must_use]
    pub fn accepts_encryption(&self, name: &str) -> bool {
        lists(&self.text.accept_tpm_encryption_algs, name)
    }
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, TermsError> {
    let certificate =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| TermsError::Certificate)?;
    x509_parser::parse_x509_certificate(&certificate).map_err(|_| TermsError::Certificate)?;
    Ok(certificate)
}

/// An [`ApiVersion`] as the text that it is on the wire.
pub(super) mod version_text {
    use super::ApiVersion;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer>(
        version: &ApiVersion,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(version)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ApiVersion, D::Error> {
        let text = String::deserialize(deserializer)?;
        ApiVersion::parse(&text).ok_or_else(|| D::Error::custom("no API version of an agent"))
    }
}

/// Whether the list has the name, or the older short one that Keylime uses for it.
fn lists(names: &[String], wanted: &str) -> bool {
    let full = |name: &str| {
        match name {
            "rsa" => "rsa2048",
            "ecc" => "ecc256",
            other => other,
        }
        .to_owned()
    };
    names.iter().any(|name| full(name) == full(wanted))
}

/// Addresses and host names; nothing that could change the meaning of a URL or a header.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    (1..=MAX_HOST_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// What stands for the certificate of an agent that has no server.
pub const MTLS_DISABLED: &str = "disabled";

/// Source: RFC 1035 section 2.3.4.
const MAX_HOST_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_the_long_ones() {
        for (list, name, expected) in [
            (&["rsa"][..], "rsa2048", true),
            (&["rsa2048"], "rsa", true),
            (&["ecc", "rsa"], "rsa2048", true),
            (&["ecc"], "ecc256", true),
            (&["ecc"], "ecc384", false),
            (&["sha512", "sha256"], "sha256", true),
            (&["sha512"], "sha256", false),
            (&[], "sha256", false),
        ] {
            let list: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(lists(&list, name), expected, "{name} in {list:?}");
        }
    }

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("edge-7.example", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("a\r\nHost: b", false),
            ("a@b", false),
        ] {
            assert_eq!(is_host(text), expected, "{text}");
        }
    }
}
