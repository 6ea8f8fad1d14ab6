//! EK certificates: what a TPM's maker says about its endorsement key.

use rsa::pkcs1::DecodeRsaPublicKey as _;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::public::{EkPublic, KeyNumbers};

/// A well-formed X.509 certificate of an endorsement key, without the padding that TPMs keep it with. Who issued it, and
/// whether that is believed, is for the caller to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkCertificate(Vec<u8>);

/// Why a certificate is no EK certificate, or not this EK's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No X.509 certificate.
    #[error("it is not a valid X.509 certificate")]
    Malformed,
    /// Something other than padding follows it.
    #[error("{extra} bytes follow the certificate")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// It is for another key.
    #[error("it certifies another key than ek_tpm")]
    AnotherKey,
}

impl EkCertificate {
    /// Parses DER. NV storage may be larger than the certificate in it: zeros or 0xFF after it are dropped.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`], [`CertificateError::Trailing`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, _) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let padding = rest.iter().all(|byte| *byte == 0) || rest.iter().all(|byte| *byte == 0xFF);
        if !padding {
            return Err(CertificateError::Trailing { extra: rest.len() });
        }
        let (certificate, _) = der
            .split_at_checked(der.len() - rest.len())
            .ok_or(CertificateError::Malformed)?;
        Ok(Self(certificate.to_vec()))
    }

    /// The certificate's DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Checks that it is this EK's. Makers write the algorithm of an RSA EK in different ways, so the key's numbers are compared,
    /// not its `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`CertificateError::AnotherKey`].
    pub fn must_certify(&self, ek: &EkPublic) -> Result<(), CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(&self.0).map_err(|_| CertificateError::Malformed)?;
        let bits = &certificate.public_key().subject_public_key.data;
        let same = match ek.numbers() {
            KeyNumbers::Rsa(key) => {
                rsa::PublicKey::from_pkcs1_der(bits).is_ok_and(|certified| certified == **key)
            }
            KeyNumbers::P256(key) => {
                p256::PublicKey::from_sec1_bytes(bits).is_ok_and(|certified| certified == *key)
            }
        };
        if same {
            Ok(())
        } else {
            Err(CertificateError::AnotherKey)
        }
    }
}
