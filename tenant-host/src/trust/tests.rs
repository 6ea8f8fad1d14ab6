#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PublicKeyData as _,
};
use time::{Duration as Span, OffsetDateTime};

use super::*;

/// A vendor's authority.
struct Vendor {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

fn vendor(name: &str) -> Vendor {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Vendor {
        pem: certificate.pem(),
        der: certificate.der().to_vec(),
        issuer: Issuer::new(params, key),
    }
}

/// What an EK certificate says; each test changes one thing.
fn ek_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    params
}

/// A P-256 endorsement key with the default template, as `TPM2B_PUBLIC`.
fn ek_of(key: &KeyPair) -> EkPublic {
    const POLICY_A: [u8; 32] = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7,
        0x24, 0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14,
        0x69, 0xAA,
    ];
    let point = key.der_bytes();
    let mut area = vec![0x00, 0x23, 0x00, 0x0B, 0x00, 0x03, 0x00, 0xB2, 0x00, 0x20];
    area.extend_from_slice(&POLICY_A);
    area.extend_from_slice(&[
        0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x00, 0x03, 0x00, 0x10,
    ]);
    for coordinate in [&point[1..33], &point[33..65]] {
        area.extend_from_slice(&[0x00, 0x20]);
        area.extend_from_slice(coordinate);
    }
    let mut public = u16::try_from(area.len()).unwrap().to_be_bytes().to_vec();
    public.extend_from_slice(&area);
    EkPublic::parse(&public).unwrap()
}

fn now() -> UnixTime {
    unix_time(OffsetDateTime::now_utc())
}

fn required() -> Demands {
    Demands {
        certificate: true,
        hash: None,
    }
}

#[test]
fn a_certificate_must_be_of_this_key_for_this_use_and_by_a_known_authority() {
    type Wanted = fn(&Result<Vouched, TrustError>) -> bool;
    type Change = fn(&mut CertificateParams);
    let root = tempfile::tempdir().unwrap();
    let (known, unknown, namesake) = (
        vendor("Known TPM CA"),
        vendor("Unknown TPM CA"),
        vendor("Known TPM CA"),
    );
    fs::write(root.path().join("known.pem"), &known.pem).unwrap();
    let key = KeyPair::generate().unwrap();
    let ek = ek_of(&key);
    let invalid: Wanted = |result| matches!(result, Err(TrustError::Invalid { issuer, .. }) if issuer.contains("Known"));
    let nothing: Change = |_| {};
    let rows: [(&str, &Vendor, Change, Wanted); 7] = [
        (
            "good, until the year 9999",
            &known,
            nothing,
            |result| matches!(result, Ok(Vouched::Certificate { issuer }) if issuer.contains("CN=Known TPM CA")),
        ),
        (
            "unknown authority",
            &unknown,
            nothing,
            |result| matches!(result, Err(TrustError::UnknownIssuer { issuer, .. }) if issuer.contains("CN=Unknown TPM CA")),
        ),
        ("authority of the same name", &namesake, nothing, invalid),
        (
            "expired",
            &known,
            |params| params.not_after = OffsetDateTime::now_utc() - Span::days(1),
            invalid,
        ),
        (
            "not valid yet",
            &known,
            |params| params.not_before = OffsetDateTime::now_utc() + Span::days(1),
            invalid,
        ),
        (
            "for another use",
            &known,
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            invalid,
        ),
        (
            "for no use",
            &known,
            |params| params.extended_key_usages = Vec::new(),
            invalid,
        ),
    ];
    for (name, signer, change, wanted) in rows {
        let mut params = ek_params();
        change(&mut params);
        let certificate = params.signed_by(&key, &signer.issuer).unwrap();
        let result = judge(
            &ek,
            Some(certificate.der()),
            root.path(),
            &required(),
            now(),
        );
        assert!(wanted(&result), "{name}: {result:?}");
    }
    let other = ek_params()
        .signed_by(&KeyPair::generate().unwrap(), &known.issuer)
        .unwrap();
    for demands in [
        required(),
        Demands {
            certificate: false,
            hash: None,
        },
    ] {
        let result = judge(&ek, Some(other.der()), root.path(), &demands, now());
        assert!(
            matches!(
                result,
                Err(TrustError::Certificate(CertificateError::AnotherKey))
            ),
            "{result:?}"
        );
    }
}

#[test]
fn the_operator_can_vouch_by_hash_or_waive_the_certificate() {
    let root = tempfile::tempdir().unwrap();
    let ek = ek_of(&KeyPair::generate().unwrap());
    let hash = ek_hash(&ek).unwrap();
    let ask = |certificate, hash| {
        judge(
            &ek,
            None,
            root.path(),
            &Demands { certificate, hash },
            now(),
        )
    };
    assert!(
        matches!(ask(true, None), Err(TrustError::NoCertificate { hash: named }) if named == hash)
    );
    assert_eq!(ask(true, Some(hash.clone())).unwrap(), Vouched::Hash);
    assert!(matches!(ask(false, None), Ok(Vouched::Nobody { .. })));
    for required in [true, false] {
        let other = Some("0".repeat(64));
        assert!(matches!(
            ask(required, other),
            Err(TrustError::AnotherHash { .. })
        ));
    }
}

#[test]
fn a_store_has_pem_bundles_der_and_other_things() {
    let root = tempfile::tempdir().unwrap();
    let vendors = [vendor("One"), vendor("Two"), vendor("Three")];
    fs::write(
        root.path().join("bundle.pem"),
        format!("{}text\n{}", vendors[0].pem, vendors[1].pem),
    )
    .unwrap();
    fs::write(root.path().join("three.der"), &vendors[2].der).unwrap();
    fs::write(root.path().join("README"), "hello").unwrap();
    fs::create_dir(root.path().join("old")).unwrap();
    let store = TrustStore::read(root.path()).unwrap();
    assert_eq!(store.anchors.len(), 3);
    assert_eq!(store.skipped, [root.path().join("README")]);
    let missing = TrustStore::read(&root.path().join("none"));
    assert!(matches!(missing, Err(TrustError::Store { .. })));
}

/// What swtpm's CA issues: valid until the year 9999, the TPM's maker in a critical alternative name.
#[test]
fn certificates_of_swtpm_hold() {
    #[derive(serde::Deserialize)]
    struct Vector {
        ek_tpm: String,
        ekcert: String,
    }
    let vector: Vector = serde_json::from_str(include_str!("vectors/swtpm-ek.json")).unwrap();
    let issuer = include_bytes!("vectors/swtpm-issuer.pem");
    let root = tempfile::tempdir().unwrap();
    let certificate =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, vector.ekcert).unwrap();
    let ek = EkPublic::from_base64(&vector.ek_tpm).unwrap();
    let now = unix_time(rcgen::date_time_ymd(2027, 1, 1));
    let ask = || judge(&ek, Some(&certificate), root.path(), &required(), now);
    assert!(
        matches!(ask(), Err(TrustError::UnknownIssuer { issuer, .. }) if issuer == "CN=swtpm-localca")
    );
    fs::write(root.path().join("issuer.pem"), issuer).unwrap();
    assert_eq!(
        ask().unwrap(),
        Vouched::Certificate {
            issuer: "CN=swtpm-localca".to_owned()
        }
    );
    let mut flipped = certificate.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let result = judge(&ek, Some(&flipped), root.path(), &required(), now);
    assert!(
        matches!(result, Err(TrustError::Invalid { .. })),
        "{result:?}"
    );
}

#[test]
fn tenant_pins_the_ek() {
    use super::pin::{PinError, Pinned, Told, pin};
    let root = tempfile::tempdir().unwrap();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let file = |name: &str, key: &KeyPair, pem: bool| {
        let certificate = ek_params().self_signed(key).unwrap();
        let path = root.path().join(name);
        let bytes = match pem {
            true => certificate.pem().into_bytes(),
            false => certificate.der().to_vec(),
        };
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (pem, der, foreign) = (
        file("pem", &key, true),
        file("der", &key, false),
        file("other", &other, true),
    );
    let ek = ek_of(&key);
    let hash = ek_hash(&ek).unwrap();
    let wrong = "0".repeat(64);
    let vendor = || Vouched::Certificate {
        issuer: "CN=vendor".to_owned(),
    };
    let told = |path: Option<&std::path::PathBuf>, hash: Option<&String>, first_use| {
        Told::read(path.map(|path| path.as_path()), hash.cloned(), first_use).unwrap()
    };
    let (new, before) = (known::Known::First, known::Known::Already);
    type Row<'a> = (
        &'a str,
        &'a str,
        Told,
        known::Known,
        Result<Pinned, &'a str>,
    );
    let rows: [Row<'_>; 12] = [
        (
            "vendor alone",
            "node",
            told(None, None, false),
            new,
            Err("Unknown"),
        ),
        (
            "certificate in PEM",
            "node",
            told(Some(&pem), None, false),
            new,
            Ok(Pinned::Certificate),
        ),
        (
            "certificate in DER",
            "node",
            told(Some(&der), None, false),
            new,
            Ok(Pinned::Certificate),
        ),
        (
            "hash",
            "node",
            told(None, Some(&hash), false),
            new,
            Ok(Pinned::Hash),
        ),
        (
            "uuid",
            &hash,
            told(None, None, false),
            new,
            Ok(Pinned::Name),
        ),
        (
            "another key's uuid",
            &wrong,
            told(None, None, false),
            new,
            Err("Unknown"),
        ),
        (
            "inventory",
            "node",
            told(None, None, false),
            before,
            Ok(Pinned::Inventory),
        ),
        (
            "first use",
            "node",
            told(None, None, true),
            new,
            Ok(Pinned::FirstUse(vendor())),
        ),
        (
            "another certificate",
            "node",
            told(Some(&foreign), None, true),
            before,
            Err("AnotherCertificate"),
        ),
        (
            "another hash",
            "node",
            told(None, Some(&wrong), true),
            before,
            Err("AnotherHash"),
        ),
        (
            "another hash, right uuid",
            &hash,
            told(None, Some(&wrong), false),
            new,
            Err("AnotherHash"),
        ),
        (
            "one of both wrong",
            "node",
            told(Some(&pem), Some(&wrong), false),
            new,
            Err("AnotherHash"),
        ),
    ];
    for (name, uuid, told, known, wanted) in rows {
        let result = pin(uuid, &ek, &told, known, || Ok(vendor()));
        match (&result, &wanted) {
            (Ok(have), Ok(want)) => assert_eq!(have, want, "{name}"),
            (Err(error), Err(want)) => {
                assert!(format!("{error:?}").starts_with(want), "{name}: {error:?}")
            }
            _ => panic!("{name}: {result:?}"),
        }
    }
    // What the flag lets pass still has to pass its own check.
    let hash = || hash.clone();
    let refused = pin("node", &ek, &told(None, None, true), new, || {
        Err(TrustError::NoCertificate { hash: hash() })
    });
    assert!(matches!(refused, Err(PinError::Trust(_))));
    std::fs::write(&pem, "no certificate").unwrap();
    let read = Told::read(Some(&pem), None, false);
    assert!(matches!(read, Err(PinError::NotACertificate { .. })));
}
