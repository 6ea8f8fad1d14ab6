//! The agent's certificate as x509-cert writes it, for comparison.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use p256::ecdsa::{DerSignature, SigningKey};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{self, Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{GeneralizedTime, Ia5String, UtcTime};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{DateTime, Encode};
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

pub(super) fn self_signed(key: &SigningKey, uuid: &str, contact: &str) -> Vec<u8> {
    let public = SubjectPublicKeyInfo::from_key(key.verifying_key()).unwrap();
    let profile = AgentProfile {
        subject: Name::from_str(&format!("CN={uuid}")).unwrap(),
        names: SubjectAltName(vec![general_name(contact), general_name("localhost")]),
    };
    let not_before = UtcTime::from_unix_duration(Duration::from_secs(1_577_836_800)).unwrap();
    let validity = Validity::new(
        Time::UtcTime(not_before),
        Time::GeneralTime(GeneralizedTime::from_date_time(DateTime::INFINITY)),
    );
    let builder =
        CertificateBuilder::new(profile, SerialNumber::from(1u8), validity, public).unwrap();
    let certificate = builder.build::<_, DerSignature>(key).unwrap();
    certificate.to_der().unwrap()
}

fn general_name(host: &str) -> GeneralName {
    match host.parse::<IpAddr>() {
        Ok(ip) => GeneralName::from(ip),
        Err(_) => GeneralName::DnsName(Ia5String::new(host).unwrap()),
    }
}

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
        let constraints = BasicConstraints {
            ca: false,
            path_len_constraint: None,
        };
        let usage = KeyUsage(FlagSet::from(KeyUsages::DigitalSignature));
        Ok(vec![
            constraints.to_extension(subject, none)?,
            usage.to_extension(subject, none)?,
            ExtendedKeyUsage(vec![SERVER_AUTH]).to_extension(subject, none)?,
            self.names.to_extension(subject, none)?,
            SubjectKeyIdentifier::try_from(spk)?.to_extension(subject, none)?,
            AuthorityKeyIdentifier::try_from(issuer_spk)?.to_extension(subject, none)?,
        ])
    }
}

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
