//! Revocation lists: those that a tenant brings, and those that the verifier signs in its CA's place.

use std::collections::BTreeMap;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, PublicKeyData as _,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{FromDer as _, ParsedExtension};
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

/// A revocation list that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its DER.
    pub der: Vec<u8>,
    /// Its number.
    pub number: BigUint,
    /// The certificate that signed it, DER, if that isn't the CA's own.
    pub issuer: Option<Vec<u8>>,
}

/// Why a text is no revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListError {
    /// Longer than anybody should have to fetch.
    #[error("crl has {have} bytes, {MAX_BYTES} at most are taken")]
    Size {
        /// Its length.
        have: usize,
    },
    /// Not the DER of a list.
    #[error("crl is not the base64 of the DER of a revocation list (RFC 5280)")]
    NotAList,
    /// A list without a number, of which nobody can say whether it is newer.
    #[error("crl has no CRL number; make it with one (RFC 5280 section 5.2.3)")]
    NoNumber,
}

/// Why a delegate can't sign lists.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DelegateError {
    /// Not one certificate in PEM.
    #[error("certificate is no certificate in PEM")]
    Certificate,
    /// Too large to travel with each list.
    #[error("certificate has {have} bytes of DER, {MAX_ISSUER_BYTES} at most travel with a list")]
    Size {
        /// Its length.
        have: usize,
    },
    /// A certificate for other things.
    #[error("certificate may not sign revocation lists: its key usage lacks cRLSign")]
    Usage,
    /// A certificate that isn't valid now.
    #[error("certificate is valid from {from} to {to}, not now")]
    Dates {
        /// From when.
        from: String,
        /// Until when.
        to: String,
    },
    /// Not a private key in PEM that this program can sign with.
    #[error("key is no PEM (PKCS#8) of a private key: ECDSA P-256 or P-384, Ed25519 or RSA")]
    Key,
    /// Another certificate's key.
    #[error("key doesn't belong to certificate")]
    OtherKey,
    /// A subject that this program can't write byte for byte.
    #[error("the subject of certificate can't be repeated in a list; issue it with a plain name")]
    Subject,
}

/// Who signs lists in the CA's place.
pub struct Delegate {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    key_id: KeyIdMethod,
}

/// A certificate to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial.
    pub serial: BigUint,
    /// When it was revoked.
    pub at: OffsetDateTime,
    /// Whether its node was only taken out of use; else its key may be in other hands.
    pub ceased: bool,
}

impl List {
    /// Reads one list.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn parse(der: Vec<u8>) -> Result<Self, ListError> {
        if der.len() > MAX_BYTES {
            return Err(ListError::Size { have: der.len() });
        }
        let number = read(&der)?.crl_number().cloned();
        Ok(Self {
            number: number.ok_or(ListError::NoNumber)?,
            issuer: None,
            der,
        })
    }
}

fn read(der: &[u8]) -> Result<CertificateRevocationList<'_>, ListError> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        _ => Err(ListError::NotAList),
    }
}

impl Delegate {
    /// Reads certificate and key, and tries them.
    ///
    /// # Errors
    /// [`DelegateError`].
    pub fn parse(
        certificate: &str,
        key: &Zeroizing<String>,
        now: OffsetDateTime,
    ) -> Result<Self, DelegateError> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| DelegateError::Certificate)?;
        Self::new(certificate, key, now)
    }

    /// The same with the certificate in DER.
    ///
    /// # Errors
    /// [`DelegateError`].
    pub fn new(
        certificate: CertificateDer<'static>,
        key: &Zeroizing<String>,
        now: OffsetDateTime,
    ) -> Result<Self, DelegateError> {
        if certificate.len() > MAX_ISSUER_BYTES {
            let have = certificate.len();
            return Err(DelegateError::Size { have });
        }
        let Ok(([], parsed)) = X509Certificate::from_der(&certificate) else {
            return Err(DelegateError::Certificate);
        };
        let usage = parsed.key_usage().map_err(|_| DelegateError::Certificate)?;
        if !usage.is_some_and(|usage| usage.value.crl_sign()) {
            return Err(DelegateError::Usage);
        }
        let validity = parsed.validity();
        let (from, to) = (
            validity.not_before.to_datetime(),
            validity.not_after.to_datetime(),
        );
        if !(from..=to).contains(&now) {
            let (from, to) = (from.to_string(), to.to_string());
            return Err(DelegateError::Dates { from, to });
        }
        let key = KeyPair::from_pem(key).map_err(|_| DelegateError::Key)?;
        if key.subject_public_key_info() != parsed.public_key().raw {
            return Err(DelegateError::OtherKey);
        }
        let subject = parsed.subject().as_raw().to_vec();
        let key_id = key_id(&parsed);
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|_| DelegateError::Certificate)?;
        let this = Self {
            certificate,
            issuer,
            key_id,
        };
        let trial = this.sign(BTreeMap::new(), &BigUint::from(1_u8), now);
        let trial = trial.map_err(|_| DelegateError::Key)?;
        match read(&trial) {
            Ok(trial) if trial.issuer().as_raw() == subject => Ok(this),
            _ => Err(DelegateError::Subject),
        }
    }

    /// The certificate's DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The next list: all of the newest known one, and these.
    ///
    /// # Errors
    /// [`ListError`]: the known list can't be read, or the new one would be too long.
    pub fn next(
        &self,
        known: Option<&List>,
        revoked: &[Revoked],
        now: OffsetDateTime,
    ) -> Result<List, ListError> {
        let mut listed =
            known.map_or_else(|| Ok(BTreeMap::new()), |known| listed_in(&known.der))?;
        for Revoked { serial, at, ceased } in revoked {
            listed.entry(serial.clone()).or_insert_with(|| {
                let reason = if *ceased {
                    RevocationReason::CessationOfOperation
                } else {
                    RevocationReason::KeyCompromise
                };
                line(serial, *at, Some(reason))
            });
        }
        let number = known.map_or_else(BigUint::default, |known| known.number.clone()) + 1_u8;
        let der = self.sign(listed, &number, now);
        let der = der.map_err(|_| ListError::NotAList)?;
        if der.len() > MAX_BYTES {
            return Err(ListError::Size { have: der.len() });
        }
        Ok(List {
            der,
            number,
            issuer: Some(self.certificate.to_vec()),
        })
    }

    fn sign(
        &self,
        listed: BTreeMap<BigUint, RevokedCertParams>,
        number: &BigUint,
        now: OffsetDateTime,
    ) -> Result<Vec<u8>, rcgen::Error> {
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + LIFE,
            crl_number: SerialNumber::from(number.to_bytes_be()),
            issuing_distribution_point: None,
            revoked_certs: listed.into_values().collect(),
            key_identifier_method: self.key_id.clone(),
        };
        Ok(list.signed_by(&self.issuer)?.der().to_vec())
    }
}

/// What a list says already, by serial.
fn listed_in(der: &[u8]) -> Result<BTreeMap<BigUint, RevokedCertParams>, ListError> {
    let list = read(der)?;
    let lines = list.iter_revoked_certificates().map(|revoked| {
        let at = revoked.revocation_date.to_datetime();
        let reason = revoked.reason_code().and_then(|(_, code)| reason(code.0));
        let serial = revoked.user_certificate.clone();
        (serial.clone(), line(&serial, at, reason))
    });
    Ok(lines.collect())
}

fn line(
    serial: &BigUint,
    at: OffsetDateTime,
    reason: Option<RevocationReason>,
) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial.to_bytes_be()),
        revocation_time: at,
        reason_code: reason,
        invalidity_date: None,
    }
}

/// Source: RFC 5280 section 5.3.1. What isn't one, or takes a revocation back, is left out.
const fn reason(code: u8) -> Option<RevocationReason> {
    use RevocationReason as Reason;
    Some(match code {
        1 => Reason::KeyCompromise,
        2 => Reason::CaCompromise,
        3 => Reason::AffiliationChanged,
        4 => Reason::Superseded,
        5 => Reason::CessationOfOperation,
        6 => Reason::CertificateHold,
        9 => Reason::PrivilegeWithdrawn,
        10 => Reason::AaCompromise,
        _ => return None,
    })
}

/// The certificate's own key identifier, which lists have to name.
fn key_id(certificate: &X509Certificate<'_>) -> KeyIdMethod {
    let own = certificate.extensions().iter();
    let own = own.map(|extension| extension.parsed_extension());
    let own = own.filter_map(|extension| match extension {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let mut own = own.map(KeyIdMethod::PreSpecified);
    own.next().unwrap_or(KeyIdMethod::Sha256)
}

/// How long a list counts as fresh.
const LIFE: Duration = Duration::days(30);

/// The largest list that is taken or made: some 25,000 certificates.
pub const MAX_BYTES: usize = 1 << 20;

/// The largest certificate of a delegate: it travels with each list.
const MAX_ISSUER_BYTES: usize = 3_072;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
pub(crate) mod tests {
    use rcgen::{CertificateParams, DnType, IsCa, KeyUsagePurpose, date_time_ymd};

    use super::*;

    /// PEM of a certificate of this usage and of its key.
    pub(crate) fn delegate(usage: &[KeyUsagePurpose]) -> (String, Zeroizing<String>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "signs lists");
        params.is_ca = IsCa::NoCa;
        params.key_usages = usage.to_vec();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem().into())
    }

    fn now() -> OffsetDateTime {
        date_time_ymd(2026, 7, 1)
    }

    fn revoked(serial: u32, ceased: bool) -> Revoked {
        Revoked {
            serial: serial.into(),
            at: now(),
            ceased,
        }
    }

    #[test]
    fn lists_go_on_from_the_newest_known() {
        let (certificate, key) = delegate(&[KeyUsagePurpose::CrlSign]);
        let delegate = Delegate::parse(&certificate, &key, now()).unwrap();
        let first = delegate.next(None, &[revoked(2, false)], now()).unwrap();
        let more = [revoked(2, true), revoked(300, true)];
        let second = delegate.next(Some(&first), &more, now()).unwrap();

        let list = read(&second.der).unwrap();
        assert_eq!(list.crl_number(), Some(&BigUint::from(2_u8)));
        let lines: Vec<_> = list
            .iter_revoked_certificates()
            .map(|line| {
                let reason = line.reason_code().map(|(_, code)| code.0);
                (line.user_certificate.clone(), reason)
            })
            .collect();
        let expected = [(2_u32.into(), Some(1)), (300_u32.into(), Some(5))];
        assert_eq!(lines, expected);
        let end = list.next_update().unwrap().to_datetime();
        assert_eq!(end - now(), LIFE);
        let (_, parsed) = X509Certificate::from_der(delegate.certificate()).unwrap();
        assert_eq!(list.issuer().as_raw(), parsed.subject().as_raw());
        assert_eq!(
            List::parse(second.der.clone()).unwrap().number,
            second.number
        );
    }

    #[test]
    fn other_delegates_are_refused() {
        let (certificate, key) = delegate(&[KeyUsagePurpose::CrlSign]);
        let (plain, plain_key) = delegate(&[KeyUsagePurpose::DigitalSignature]);
        let (none, none_key) = delegate(&[]);
        let later = date_time_ymd(5000, 1, 1);
        let no_key = Zeroizing::new("no key".to_owned());
        for (name, certificate, key, now, expected) in [
            ("good", &certificate, &key, now(), None),
            (
                "no PEM",
                &"x".to_owned(),
                &key,
                now(),
                Some("no certificate"),
            ),
            ("another usage", &plain, &plain_key, now(), Some("cRLSign")),
            ("no usage", &none, &none_key, now(), Some("cRLSign")),
            ("expired", &certificate, &key, later, Some("not now")),
            (
                "another's key",
                &certificate,
                &plain_key,
                now(),
                Some("belong"),
            ),
            ("no key", &certificate, &no_key, now(), Some("PKCS#8")),
        ] {
            let refused = Delegate::parse(certificate, key, now).err();
            let refused = refused.map(|error| error.to_string());
            let as_expected = match (&refused, expected) {
                (None, None) => true,
                (Some(refused), Some(expected)) => refused.contains(expected),
                _ => false,
            };
            assert!(as_expected, "{name}: {refused:?}");
        }
    }

    #[test]
    fn other_lists_are_refused() {
        let (certificate, key) = delegate(&[KeyUsagePurpose::CrlSign]);
        let good = Delegate::parse(&certificate, &key, now()).unwrap();
        let good = good.next(None, &[], now()).unwrap().der;
        let mut longer = good.clone();
        longer.push(0);
        for (name, der, expected) in [
            ("empty", vec![], ListError::NotAList),
            ("a byte too many", longer, ListError::NotAList),
            ("a part", good[..40].to_vec(), ListError::NotAList),
            (
                "huge",
                vec![0; MAX_BYTES + 1],
                ListError::Size {
                    have: MAX_BYTES + 1,
                },
            ),
        ] {
            assert_eq!(List::parse(der).unwrap_err(), expected, "{name}");
        }
    }
}
