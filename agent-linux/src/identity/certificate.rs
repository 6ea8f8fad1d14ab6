//! The agent's TLS key, derived from its TPM, and the self-signed certificate over it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use agent_core::secret::Secret;
use agent_core::wire::text::Uuid;
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::signer::TlsSigner;
use crate::der::{self, element, explicit, implicit};
use crate::pem;

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
        let pem = pem::encode("CERTIFICATE", &certificate);
        let der = CertificateDer::from(certificate);
        let signer = Arc::new(TlsSigner::from(key));
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(vec![der], signer)),
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
    /// The contact address can't stand in a certificate: it has characters beyond ASCII.
    Contact(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("no TLS key could be derived from the TPM's seed"),
            Self::Contact(contact) => write!(
                f,
                "the agent's certificate can't be written: {contact:?} has characters beyond ASCII; check contact_ip"
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

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

/// The certificate: a server, no authority, its own issuer.
///
/// Source: RFC 5280 section 4.1; RFC 5480 section 2.1.1 for the key, RFC 5758 section 3.2 for the signature.
fn self_signed(key: &SigningKey, uuid: &Uuid, contact: &str) -> Result<Vec<u8>, CertificateError> {
    let sequence = |parts: &[&[u8]]| element(der::SEQUENCE, parts);
    let algorithm = sequence(&[ECDSA_WITH_SHA256]);
    let common_name = element(der::UTF8_STRING, &[uuid.as_str().as_bytes()]);
    let name = element(der::SET, &[&sequence(&[COMMON_NAME, &common_name])]);
    let name = sequence(&[&name]);
    let validity = sequence(&[
        &element(der::UTC_TIME, &[NOT_BEFORE]),
        &element(der::GENERALIZED_TIME, &[NO_END]),
    ]);
    let point = key.verifying_key().to_sec1_point(false);
    let public = sequence(&[
        &sequence(&[EC_PUBLIC_KEY, PRIME256V1]),
        &bits(point.as_bytes()),
    ]);
    let version = element(explicit(0), &[&element(der::INTEGER, &[&[VERSION_3]])]);
    let serial_number = element(der::INTEGER, &[&[1]]);
    let extensions = extensions(point.as_bytes(), contact)?;
    let extensions = element(explicit(3), &[&sequence(&[&extensions])]);
    let signed = sequence(&[
        &version,
        &serial_number,
        &algorithm,
        &name,
        &validity,
        &name,
        &public,
        &extensions,
    ]);
    let signature: DerSignature = key.sign(&signed);
    Ok(sequence(&[
        &signed,
        &algorithm,
        &bits(signature.as_bytes()),
    ]))
}

/// What the certificate says beyond name and key, each extension after the other.
///
/// Source: RFC 5280 section 4.2.1; the key's identifier is method 1 of its section 4.2.1.2.
fn extensions(point: &[u8], contact: &str) -> Result<Vec<u8>, CertificateError> {
    let sequence = |parts: &[&[u8]]| element(der::SEQUENCE, parts);
    let names = sequence(&[&general_name(contact)?, &general_name("localhost")?]);
    let id = Sha1::digest(point);
    let rows: [(&[u8], &[u8], Vec<u8>); 6] = [
        (BASIC_CONSTRAINTS, CRITICAL, sequence(&[])),
        (
            KEY_USAGE,
            CRITICAL,
            element(der::BIT_STRING, &[DIGITAL_SIGNATURE]),
        ),
        (EXTENDED_KEY_USAGE, &[], sequence(&[SERVER_AUTH])),
        (SUBJECT_ALT_NAME, &[], names),
        (
            SUBJECT_KEY_IDENTIFIER,
            &[],
            element(der::OCTET_STRING, &[&id]),
        ),
        (
            AUTHORITY_KEY_IDENTIFIER,
            &[],
            sequence(&[&element(implicit(0), &[&id])]),
        ),
    ];
    let extensions = rows.map(|(what, critical, value)| {
        sequence(&[what, critical, &element(der::OCTET_STRING, &[&value])])
    });
    Ok(extensions.concat())
}

/// A GeneralName: an address, or else the name of a host.
fn general_name(host: &str) -> Result<Vec<u8>, CertificateError> {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Ok(element(IP_ADDRESS, &[&ip.octets()])),
        Ok(IpAddr::V6(ip)) => Ok(element(IP_ADDRESS, &[&ip.octets()])),
        Err(_) if host.is_ascii() => Ok(element(DNS_NAME, &[host.as_bytes()])),
        Err(_) => Err(CertificateError::Contact(host.to_owned())),
    }
}

/// A BIT STRING of whole bytes.
fn bits(bytes: &[u8]) -> Vec<u8> {
    const UNUSED_BITS: u8 = 0;
    element(der::BIT_STRING, &[&[UNUSED_BITS], bytes])
}

const KEY_LABEL: &[u8] = b"keyhalf tls key 1";

/// The number of version 3 of certificates.
const VERSION_3: u8 = 2;

/// Before any clock that the other side may have.
const NOT_BEFORE: &[u8] = b"200101000000Z";
/// For a certificate that has no end.
///
/// Source: RFC 5280 section 4.1.2.5.
const NO_END: &[u8] = b"99991231235959Z";

const IP_ADDRESS: u8 = implicit(7);
const DNS_NAME: u8 = implicit(2);

/// `TRUE`, where an extension is critical.
const CRITICAL: &[u8] = &[0x01, 1, 0xFF];
/// The first of nine bits, the seven unused ones of one byte left out.
const DIGITAL_SIGNATURE: &[u8] = &[7, 0x80];

// Object identifiers as elements.
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[OID, 3, 0x55, 4, 3];
/// 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[OID, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
/// 1.2.840.10045.3.1.7.
const PRIME256V1: &[u8] = &[OID, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
/// 1.2.840.10045.4.3.2.
const ECDSA_WITH_SHA256: &[u8] = &[OID, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
/// 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: &[u8] = &[OID, 8, 0x2B, 6, 1, 5, 5, 7, 3, 1];
/// 2.5.29.14.
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[OID, 3, 0x55, 0x1D, 14];
/// 2.5.29.15.
const KEY_USAGE: &[u8] = &[OID, 3, 0x55, 0x1D, 15];
/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[OID, 3, 0x55, 0x1D, 17];
/// 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[OID, 3, 0x55, 0x1D, 19];
/// 2.5.29.35.
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[OID, 3, 0x55, 0x1D, 35];
/// 2.5.29.37.
const EXTENDED_KEY_USAGE: &[u8] = &[OID, 3, 0x55, 0x1D, 37];

const OID: u8 = der::OBJECT_IDENTIFIER;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::identity::with_x509_cert;

    /// What x509-cert 0.3.0 made of the seed 01 01 .. 01, this identifier and this address.
    const VECTOR: (&str, &str, &str) = (
        "d432fbb3-d2f1-4a97-9ef7-75bd81c00000",
        "10.0.0.1",
        "-----BEGIN CERTIFICATE-----
MIIB4jCCAYigAwIBAgIBATAKBggqhkjOPQQDAjAvMS0wKwYDVQQDDCRkNDMyZmJi
My1kMmYxLTRhOTctOWVmNy03NWJkODFjMDAwMDAwIBcNMjAwMTAxMDAwMDAwWhgP
OTk5OTEyMzEyMzU5NTlaMC8xLTArBgNVBAMMJGQ0MzJmYmIzLWQyZjEtNGE5Ny05
ZWY3LTc1YmQ4MWMwMDAwMDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEdnEo9E
FCwPHNlGh/YgV4kPoxA4RJs5JBOuA8f+z8ISczmmfpLt2TiW4boIPbvCilYm9Ya2
hJwWMLR3o0GwwEmjgZIwgY8wDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4Aw
EwYDVR0lBAwwCgYIKwYBBQUHAwEwGgYDVR0RBBMwEYcECgAAAYIJbG9jYWxob3N0
MB0GA1UdDgQWBBQweHVwLYWKuVLp86/PoLtV4+8zNzAfBgNVHSMEGDAWgBQweHVw
LYWKuVLp86/PoLtV4+8zNzAKBggqhkjOPQQDAgNIADBFAiBuPE1GuhydV1m7fJXP
i6NgLbwSNoiZZzS+AOENpbA5egIhALB8uJhED/lAZZ2kTk3nGjPpz8te9jhpslRm
31/nyKFF
-----END CERTIFICATE-----
",
    );

    #[test]
    fn the_certificate_of_a_node_never_changes() {
        let (uuid, contact, pem) = VECTOR;
        assert_eq!(derive(1, uuid, contact).unwrap(), pem);
    }

    /// At every length of name and address, so that each length in it is written in each of its forms.
    #[test]
    fn another_library_writes_the_same_bytes() {
        let contacts = ["10.0.0.1", "::1", "2001:db8::7", "node-7.example.org"];
        let contacts = contacts.map(str::to_owned).into_iter();
        let contacts = contacts.chain((1..=253).map(|len| "a".repeat(len)));
        for (number, contact) in (0..=u8::MAX).cycle().zip(contacts) {
            let key = derive_key(&Secret::copy_of(&[number; 32])).unwrap();
            let uuid = "Ab0-_.xy".repeat(16);
            let uuid = &uuid[..1 + usize::from(number) % uuid.len()];
            let uuid = Uuid::parse(uuid).unwrap();
            assert_eq!(
                self_signed(&key, &uuid, &contact).unwrap(),
                with_x509_cert::self_signed(&key, uuid.as_str(), &contact),
                "{uuid} {contact}"
            );
        }
    }

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
