//! What the certificates of a CA directory say: names, dates, uses.

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// How far `notBefore` lies in the past, so that a node whose clock is slow takes the certificate too.
const CLOCK_SLACK: Duration = Duration::days(2);

/// The CA's common name.
const CA_NAME: &str = "keyhalf tenant CA";

/// How long a CA, and the revocation notifier that goes with it, are valid.
const CA_LIFE: Duration = Duration::days(3650);

/// How long a node's certificate is valid.
pub(super) const LEAF_LIFE: Duration = Duration::days(365);

/// The CA itself: signs leaves and revocation lists, and no further CA.
pub(super) fn ca(serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = base(CA_NAME, serial, now, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Which side of a TLS connection a certificate is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Usage {
    /// It connects.
    Client,
    /// It is connected to.
    Server,
    /// Either side.
    #[default]
    Both,
}

/// What a leaf says.
pub(super) struct Leaf<'a> {
    pub(super) name: &'a str,
    pub(super) usage: Usage,
    /// The names and addresses that it is good for.
    pub(super) hosts: &'a [SanType],
    /// How long it is valid; never longer than the CA.
    pub(super) life: Duration,
    pub(super) ca_end: OffsetDateTime,
    /// Whether RSA may be used for the exchange of keys too.
    pub(super) is_rsa: bool,
    /// Where the revocation list is.
    pub(super) list_url: Option<&'a str>,
}

/// A node, or anything else: CN is its name.
pub(super) fn leaf(leaf: &Leaf<'_>, serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = base(leaf.name, serial, now, leaf.life);
    params.not_after = params.not_after.min(leaf.ca_end);
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = leaf.hosts.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if leaf.is_rsa {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = match leaf.usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Both => vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ],
    };
    params.crl_distribution_points = leaf
        .list_url
        .map(|url| CrlDistributionPoint {
            uris: vec![url.to_owned()],
        })
        .into_iter()
        .collect();
    params
}

/// A key that signs revocation lists in the CA's name, and nothing else.
pub(super) fn list_signer(
    ca_name: &str,
    serial: u64,
    now: OffsetDateTime,
    life: Duration,
) -> CertificateParams {
    let mut params = base(ca_name, serial, now, life);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
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
