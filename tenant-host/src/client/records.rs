//! Records as they travel: what the registrar keeps of a node, and what the verifier is given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Room for an enrolment, so that V and the revocation key are written to one place in memory.
const BODY_BYTES: usize = 64 << 10;

/// What the registrar keeps of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrarRecord {
    /// Base64 of the EK's `TPM2B_PUBLIC`.
    pub ek_tpm: String,
    /// The EK's certificate: base64 DER, or PEM.
    #[serde(default)]
    pub ekcert: Option<String>,
    /// Base64 of the AK's `TPM2B_PUBLIC`.
    pub aik_tpm: String,
    /// Where the agent is.
    #[serde(default)]
    pub ip: Option<String>,
    /// Its port.
    #[serde(default)]
    pub port: Option<u16>,
    /// Its TLS certificate in PEM, or `disabled`.
    #[serde(default)]
    pub mtls_cert: Option<String>,
    /// How often it registered.
    #[serde(default)]
    pub regcount: Option<u64>,
}

impl RegistrarRecord {
    /// The EK's certificate in DER; `None` if there is none, an error if it is neither base64 nor PEM.
    ///
    /// # Errors
    /// `()`: text that is no certificate's.
    pub fn ek_certificate(&self) -> Result<Option<Vec<u8>>, NotACertificate> {
        let Some(text) = self.ekcert.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if text.contains("-----BEGIN") {
            let der =
                CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| NotACertificate)?;
            return Ok(Some(der.to_vec()));
        }
        BASE64.decode(text).map(Some).map_err(|_| NotACertificate)
    }

    /// The agent's TLS certificate; `None` if it has none, as agents without mutual TLS.
    #[must_use]
    pub fn tls_certificate(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.mtls_cert.as_ref()?.as_bytes()).ok()
    }
}

/// The text is neither base64 nor PEM of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACertificate;

/// What the verifier is given: `POST /v2.6/agents/{uuid}`.
///
/// Source: protocol.md A7; every field that Keylime's verifier requires is there.
#[derive(Serialize)]
pub struct Enrolment<'a> {
    /// V in base64; `None` without a payload.
    pub v: Option<Zeroizing<String>>,
    /// Where the verifier finds the agent.
    pub cloudagent_ip: &'a str,
    /// The agent's port.
    pub cloudagent_port: u16,
    /// The verifier's address, as the tenant sees it.
    pub verifier_ip: &'a str,
    /// The verifier's port, as text.
    pub verifier_port: String,
    /// The policy as JSON text, its mask in it.
    pub tpm_policy: String,
    /// No runtime policy.
    pub runtime_policy: &'a str,
    /// No runtime policy.
    pub runtime_policy_name: &'a str,
    /// No runtime policy.
    pub runtime_policy_key: &'a str,
    /// No measured-boot policy.
    pub mb_policy: Option<&'a str>,
    /// No measured-boot policy.
    pub mb_policy_name: &'a str,
    /// No runtime policy.
    pub ima_sign_verification_keys: &'a str,
    /// JSON text with the certificate's serial number and subject.
    pub metadata: String,
    /// The key that revocations are signed with, PEM; empty without a package.
    pub revocation_key: &'a str,
    /// Hashes to accept.
    pub accept_tpm_hash_algs: &'a [String],
    /// Transport keys to accept.
    pub accept_tpm_encryption_algs: &'a [String],
    /// Signature schemes to accept.
    pub accept_tpm_signing_algs: &'a [String],
    /// Base64 of the AK's `TPM2B_PUBLIC`: the one that the tenant has checked.
    pub ak_tpm: &'a str,
    /// The agent's TLS certificate.
    pub mtls_cert: &'a str,
    /// The agent's API version.
    pub supported_version: String,
}

impl Enrolment<'_> {
    /// The request's body, in memory that is wiped when it has been sent.
    ///
    /// # Errors
    /// As the JSON writer; texts and numbers can always be written.
    pub fn to_body(&self) -> Result<Bytes, serde_json::Error> {
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        serde_json::to_writer(&mut *body, self)?;
        Ok(Bytes::from_owner(body))
    }
}
