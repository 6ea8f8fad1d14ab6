//! What the certificates of a CA directory say: names, dates, uses.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// How far `notBefore` lies in the past, so that a node whose clock is slow takes the certificate too.
const CLOCK_SLACK: Duration = Duration::days(2);

/// How long a CA, and the revocation notifier that goes with it, are valid.
const CA_LIFE: Duration = Duration::days(3650);

/// How long a node's certificate is valid.
const LEAF_LIFE: Duration = Duration::days(365);

/// The CA itself: signs leaves and revocation lists, and no further CA.
pub(super) fn ca(serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = base("keyhalf tenant CA", serial, now, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A node: CN is its identifier; for either side of a TLS connection.
pub(super) fn node(uuid: &str, serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = base(uuid, serial, now, LEAF_LIFE);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params
}

/// The key that the verifier signs revocations with.
pub(super) fn notifier(serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = base("RevocationNotifier", serial, now, CA_LIFE);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// The key that manifests are signed with.
pub(super) fn signer(serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = base("PayloadSigner", serial, now, CA_LIFE);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn base(common_name: &str, serial: u64, now: OffsetDateTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + life;
    params.use_authority_key_identifier_extension = true;
    params
}
