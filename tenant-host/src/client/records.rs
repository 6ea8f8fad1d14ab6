//! Records as they travel: what the registrar keeps of a node, and what the verifier is given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Room for an enrolment but its policies, so that V and the revocation key are written to one place in memory.
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
    /// [`NotACertificate`].
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
/// Source: Keylime's `cloud_verifier_tornado.AgentsHandler.post`; every field that it requires is there.
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
    /// The runtime policy in base64; empty without one, and with one that the verifier keeps.
    pub runtime_policy: &'a str,
    /// The name that the verifier keeps the runtime policy under; empty for none.
    pub runtime_policy_name: &'a str,
    /// Base64 of the key that the runtime policy is signed by, PEM; empty if it isn't signed.
    pub runtime_policy_key: &'a str,
    /// The measured-boot policy, JSON text; `None` without one, and with one that the verifier keeps.
    pub mb_policy: Option<&'a str>,
    /// The name that the verifier keeps the measured-boot policy under; empty for none.
    pub mb_policy_name: &'a str,
    /// Empty: keys of file signatures are in the runtime policy.
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
        // In the worst case each byte of JSON text gets a backslash.
        let policies = self.runtime_policy.len() + 2 * self.mb_policy.map_or(0, str::len);
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES + policies));
        serde_json::to_writer(&mut *body, self)?;
        Ok(Bytes::from_owner(body))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn enrolment() -> Enrolment<'static> {
        Enrolment {
            v: None,
            cloudagent_ip: "10.0.0.7",
            cloudagent_port: 9002,
            verifier_ip: "10.0.0.1",
            verifier_port: "8881".to_owned(),
            tpm_policy: "{}".to_owned(),
            runtime_policy: "",
            runtime_policy_name: "",
            runtime_policy_key: "",
            mb_policy: None,
            mb_policy_name: "",
            ima_sign_verification_keys: "",
            metadata: "{}".to_owned(),
            revocation_key: "",
            accept_tpm_hash_algs: &[],
            accept_tpm_encryption_algs: &[],
            accept_tpm_signing_algs: &[],
            ak_tpm: "AA==",
            mtls_cert: "PEM",
            supported_version: "2.6".to_owned(),
        }
    }

    /// Source: the recorded `POST /v2.6/agents/{uuid}` of Keylime's tenant 7.14.3.
    #[test]
    fn an_enrolment_has_every_field_that_keylimes_has() {
        let body = enrolment().to_body().unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let wanted = json!({
            "v": null, "cloudagent_ip": "10.0.0.7", "cloudagent_port": 9002, "verifier_ip": "10.0.0.1",
            "verifier_port": "8881", "tpm_policy": "{}", "runtime_policy": "", "runtime_policy_name": "",
            "runtime_policy_key": "", "mb_policy": null, "mb_policy_name": "", "ima_sign_verification_keys": "",
            "metadata": "{}", "revocation_key": "", "accept_tpm_hash_algs": [], "accept_tpm_encryption_algs": [],
            "accept_tpm_signing_algs": [], "ak_tpm": "AA==", "mtls_cert": "PEM", "supported_version": "2.6",
        });
        assert_eq!(body, wanted);
        let with_v = Enrolment {
            v: Some(Zeroizing::new("Vg==".to_owned())),
            ..enrolment()
        };
        let body: Value = serde_json::from_slice(&with_v.to_body().unwrap()).unwrap();
        assert_eq!(body["v"], "Vg==");
        let policy = "{\"a\": \"\n\"}";
        let with_policies = Enrolment {
            runtime_policy: "cA==",
            runtime_policy_name: "web",
            runtime_policy_key: "aw==",
            mb_policy: Some(policy),
            mb_policy_name: "boot",
            ..enrolment()
        };
        let body: Value = serde_json::from_slice(&with_policies.to_body().unwrap()).unwrap();
        let sent = [
            ("runtime_policy", "cA=="),
            ("runtime_policy_name", "web"),
            ("runtime_policy_key", "aw=="),
            ("mb_policy", policy),
            ("mb_policy_name", "boot"),
        ];
        for (field, wanted) in sent {
            assert_eq!(body[field], wanted);
        }
    }

    #[test]
    fn a_record_may_lack_all_but_its_keys() {
        let least: RegistrarRecord =
            serde_json::from_value(json!({ "ek_tpm": "", "aik_tpm": "" })).unwrap();
        let nulls = json!({ "ek_tpm": "", "aik_tpm": "", "ekcert": null, "ip": null, "port": null, "mtls_cert": null, "new": 1 });
        assert_eq!(
            serde_json::from_value::<RegistrarRecord>(nulls).unwrap(),
            least
        );
        assert_eq!(least.ek_certificate(), Ok(None));
        assert_eq!(least.tls_certificate(), None);
        let with = |ekcert: &str| RegistrarRecord {
            ekcert: Some(ekcert.to_owned()),
            ..least.clone()
        };
        let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        let rows = [
            ("base64", "AQID", Ok(Some(vec![1, 2, 3]))),
            ("PEM", pem, Ok(Some(vec![1, 2, 3]))),
            ("empty", "", Ok(None)),
            ("neither", "?", Err(NotACertificate)),
        ];
        for (name, text, wanted) in rows {
            assert_eq!(with(text).ek_certificate(), wanted, "{name}");
        }
        let disabled = RegistrarRecord {
            mtls_cert: Some("disabled".to_owned()),
            ..least
        };
        assert_eq!(disabled.tls_certificate(), None);
    }
}
