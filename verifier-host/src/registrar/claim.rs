//! What a node says about itself when it registers, checked as far as it can be without its TPM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use thiserror::Error;

use crate::evidence::certificate::{CertificateError, EkCertificate};
use crate::evidence::public::{AkPublic, EkPublic, PublicError};

/// The body of a registration. Fields of Keylime's that rest on other keys than the EK (`iak_*`, `idevid_*`) are not read: here
/// a node is its EK.
#[derive(Debug, Deserialize)]
pub(super) struct ClaimBody {
    ek_tpm: Option<String>,
    aik_tpm: Option<String>,
    #[serde(default)]
    ekcert: Option<String>,
    #[serde(default)]
    ip: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    mtls_cert: Option<String>,
}

/// An acceptable EK and AK, an EK certificate that is for this EK, and where the node says it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) ek: EkPublic,
    pub(crate) ak: AkPublic,
    /// DER.
    pub(crate) ek_certificate: Option<Vec<u8>>,
    pub(crate) ip: Option<String>,
    pub(crate) port: Option<u16>,
    /// PEM, or `disabled`.
    pub(crate) mtls_cert: String,
}

/// Why a registration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum ClaimError {
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error(transparent)]
    Key(#[from] PublicError),
    #[error("ekcert is neither PEM nor base64 of DER")]
    CertificateText,
    #[error("ekcert: {0}")]
    Certificate(#[from] CertificateError),
    #[error("ip is neither an address nor a host name")]
    Ip,
    #[error("port is 0")]
    Port,
    #[error("mtls_cert is neither a certificate in PEM nor \"disabled\"")]
    MtlsCert,
}

impl Claim {
    pub(super) fn check(body: ClaimBody) -> Result<Self, ClaimError> {
        let missing = |field| ClaimError::Missing { field };
        let ek = EkPublic::from_base64(&body.ek_tpm.ok_or(missing("ek_tpm"))?)?;
        let ak = AkPublic::from_base64(&body.aik_tpm.ok_or(missing("aik_tpm"))?)?;
        let ek_certificate = body.ekcert.filter(|text| !text.is_empty());
        let ek_certificate = ek_certificate
            .map(|text| ek_certificate_of(&text, &ek))
            .transpose()?;
        if body.ip.as_deref().is_some_and(|ip| !is_host(ip)) {
            return Err(ClaimError::Ip);
        }
        if body.port == Some(0) {
            return Err(ClaimError::Port);
        }
        let mtls_cert = body.mtls_cert.ok_or(missing("mtls_cert"))?;
        if mtls_cert != MTLS_DISABLED
            && CertificateDer::from_pem_slice(mtls_cert.as_bytes()).is_err()
        {
            return Err(ClaimError::MtlsCert);
        }
        Ok(Self {
            ek,
            ak,
            ek_certificate,
            ip: body.ip,
            port: body.port,
            mtls_cert,
        })
    }

    /// Whether both claim the same keys and EK certificate; where the node is reached may differ.
    pub(super) fn same_identity(&self, other: &Self) -> bool {
        self.ek == other.ek && self.ak == other.ak && self.ek_certificate == other.ek_certificate
    }
}

/// The first certificate of a PEM chain, or one in base64 DER; it must be for this EK.
fn ek_certificate_of(text: &str, ek: &EkPublic) -> Result<Vec<u8>, ClaimError> {
    let der = if text.contains("-----BEGIN") {
        let first = CertificateDer::from_pem_slice(text.as_bytes());
        first.map_err(|_| ClaimError::CertificateText)?.to_vec()
    } else {
        let text: String = text.split_ascii_whitespace().collect();
        BASE64
            .decode(text)
            .map_err(|_| ClaimError::CertificateText)?
    };
    let certificate = EkCertificate::parse(&der)?;
    certificate.must_certify(ek)?;
    Ok(certificate.der().to_vec())
}

/// An address, or what may be a host name.
fn is_host(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || rustls::pki_types::DnsName::try_from(text).is_ok()
}

/// What stands for a certificate where a node serves no TLS.
const MTLS_DISABLED: &str = "disabled";
