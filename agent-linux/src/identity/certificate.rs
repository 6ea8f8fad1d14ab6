//! The agent's TLS key, derived from its TPM, and the self-signed certificate over it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::secret::Secret;
use agent_core::wire::text::Uuid;
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::Sha256;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{self, Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{GeneralizedTime, Ia5String, UtcTime};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{DateTime, Encode, EncodePem, pem::LineEnding};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};
use zeroize::{Zeroize, Zeroizing};

/// The key and the certificate that the agent shows as a TLS server.
pub struct TlsIdentity {
    certified: Arc<CertifiedKey>,
    pem: String,
}

impl TlsIdentity {
    /// Derives the key from the TPM's seed and signs a certificate over it: CN is the identifier, subjectAltName has the
    /// contact address and localhost.
    ///
    /// The same arguments give the same bytes: dates and serial number are fixed, the signature follows RFC 6979.
    ///
    /// # Errors
    /// [`CertificateError`] if the contact address doesn't fit into a certificate.
    pub fn derive(seed: &Secret<32>, uuid: &Uuid, contact: &str) -> Result<Self, CertificateError> {
        let key = derive_key(seed)?;
        let certificate = self_signed(&key, uuid, contact)?;
        let pem = certificate.to_pem(LineEnding::LF)?;
        let der = CertificateDer::from(certificate.to_der()?);
        let pkcs8 = key.to_pkcs8_der().map_err(|_| CertificateError::Key)?;
        let mut private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_bytes().to_vec()));
        let signer = any_ecdsa_type(&private).map_err(|_| CertificateError::Key);
        private.zeroize();
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(vec![der], signer?)),
            pem,
        })
    }

    /// The certificate in PEM: what the registrar is given as `mtls_cert`.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Key and certificate as rustls takes them.
    #[must_use]
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// No key came out of the seed.
    Key,
    /// A name or an address can't stand in a certificate.
    Encoding(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("no TLS key could be derived from the TPM's seed"),
            Self::Encoding(what) => write!(
                f,
                "the agent's certificate can't be written ({what}); check contact_ip"
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<x509_cert::der::Error> for CertificateError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

impl From<builder::Error> for CertificateError {
    fn from(error: builder::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

/// A P-256 key out of the seed: HMAC-SHA256 over a label and a counter until the result is a scalar, nearly always at once.
///
/// Source: rejection sampling as in FIPS 186-5 section A.2.2.
fn derive_key(seed: &Secret<32>) -> Result<SigningKey, CertificateError> {
    for counter in 0..=u8::MAX {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(seed.as_ref()).map_err(|_| CertificateError::Key)?;
        mac.update(KEY_LABEL);
        mac.update(&[counter]);
        let candidate = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        if let Ok(key) = SigningKey::from_slice(candidate.as_slice()) {
            return Ok(key);
        }
    }
    Err(CertificateError::Key)
}

fn self_signed(
    key: &SigningKey,
    uuid: &Uuid,
    contact: &str,
) -> Result<x509_cert::certificate::Certificate, CertificateError> {
    let public =
        SubjectPublicKeyInfo::from_key(key.verifying_key()).map_err(builder::Error::from)?;
    let profile = AgentProfile {
        subject: Name::from_str(&format!("CN={uuid}"))?,
        names: SubjectAltName(vec![general_name(contact)?, general_name("localhost")?]),
    };
    let validity = Validity::new(
        Time::UtcTime(UtcTime::from_unix_duration(NOT_BEFORE)?),
        Time::GeneralTime(GeneralizedTime::from_date_time(DateTime::INFINITY)),
    );
    let builder = CertificateBuilder::new(profile, SerialNumber::from(1u8), validity, public)?;
    Ok(builder.build::<_, DerSignature>(key)?)
}

fn general_name(host: &str) -> Result<GeneralName, CertificateError> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(GeneralName::from(ip)),
        Err(_) => Ok(GeneralName::DnsName(Ia5String::new(host)?)),
    }
}

/// The shape of the agent's certificate: a server, no authority, its own issuer.
struct AgentProfile {
    subject: Name,
    names: SubjectAltName,
}

impl BuilderProfile for AgentProfile {
    fn get_issuer(&self, subject: &Name) -> Name {
        subject.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        spk: SubjectPublicKeyInfoRef<'_>,
        issuer_spk: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        let (subject, none) = (tbs.subject(), &[][..]);
        let usage = KeyUsage(FlagSet::from(KeyUsages::DigitalSignature));
        Ok(vec![
            BasicConstraints {
                ca: false,
                path_len_constraint: None,
            }
            .to_extension(subject, none)?,
            usage.to_extension(subject, none)?,
            ExtendedKeyUsage(vec![SERVER_AUTH]).to_extension(subject, none)?,
            self.names.to_extension(subject, none)?,
            SubjectKeyIdentifier::try_from(spk)?.to_extension(subject, none)?,
            AuthorityKeyIdentifier::try_from(issuer_spk)?.to_extension(subject, none)?,
        ])
    }
}

const KEY_LABEL: &[u8] = b"keyhalf tls key 1";

/// 2020-01-01T00:00:00Z: before any clock that the other side may have.
const NOT_BEFORE: Duration = Duration::from_secs(1_577_836_800);

/// id-kp-serverAuth.
///
/// Source: RFC 5280 section 4.2.1.12.
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn derive(seed: u8, uuid: &str, contact: &str) -> Result<String, CertificateError> {
        let seed = Secret::copy_of(&[seed; 32]);
        TlsIdentity::derive(&seed, &Uuid::parse(uuid).unwrap(), contact)
            .map(|identity| identity.pem)
    }

    #[test]
    fn same_bytes_at_each_start() {
        let first = derive(1, "node-1", "10.0.0.1").unwrap();
        let rows = [
            ("the same", derive(1, "node-1", "10.0.0.1"), true),
            ("another TPM", derive(2, "node-1", "10.0.0.1"), false),
            ("another node", derive(1, "node-2", "10.0.0.1"), false),
            ("another address", derive(1, "node-1", "10.0.0.2"), false),
        ];
        for (name, pem, same) in rows {
            assert_eq!(pem.unwrap() == first, same, "{name}");
        }
    }

    #[test]
    fn contacts() {
        for contact in ["::1", "127.0.0.1", "node.example"] {
            assert!(derive(1, "n", contact).is_ok(), "{contact}");
        }
        assert!(derive(1, "n", "nöde").is_err());
    }

    #[test]
    fn unusable_scalars_are_passed_over() {
        // No known seed needs a second try, so only that the key isn't the seed itself is seen here.
        let key = derive_key(&Secret::copy_of(&[7; 32])).unwrap();
        assert_ne!(key.to_bytes().as_slice(), &[7; 32]);
    }
}
