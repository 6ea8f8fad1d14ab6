use super::*;
use crate::evidence::software::{AK_ATTRIBUTES, AreaFields, EK_ATTRIBUTES, SoftwareTpm, p256_ek};

fn fault_of(fields: &AreaFields) -> Option<PublicFault> {
    AkPublic::parse(&fields.marshal())
        .err()
        .map(|error| error.fault)
}

fn attribute(attribute: &'static str, wanted: bool) -> Option<PublicFault> {
    Some(PublicFault::Attribute { attribute, wanted })
}

/// A key that wasn't made in this TPM, or can leave it.
#[test]
fn foreign_ak_is_refused() {
    let good = SoftwareTpm::new().ak_fields();
    for (name, attributes, wanted) in [
        ("as it must be", AK_ATTRIBUTES, None),
        ("without noDA", AK_ATTRIBUTES & !(1 << 10), None),
        ("no attribute", 0, attribute("fixedTPM", true)),
        ("made in software", 0x0005_0040, attribute("fixedTPM", true)),
        (
            "movable",
            AK_ATTRIBUTES & !(1 << 1),
            attribute("fixedTPM", true),
        ),
        (
            "rewrapped",
            AK_ATTRIBUTES & !(1 << 4),
            attribute("fixedParent", true),
        ),
        (
            "imported",
            AK_ATTRIBUTES & !(1 << 5),
            attribute("sensitiveDataOrigin", true),
        ),
    ] {
        let fields = AreaFields {
            attributes,
            ..good.clone()
        };
        assert_eq!(fault_of(&fields), wanted, "{name}");
    }
}

/// A key that signs what its user gives it, a forged quote among that.
#[test]
fn unrestricted_ak_is_refused() {
    let good = SoftwareTpm::new().ak_fields();
    for (name, attributes, wanted) in [
        (
            "unrestricted",
            AK_ATTRIBUTES & !(1 << 16),
            attribute("restricted", true),
        ),
        (
            "decrypts too",
            AK_ATTRIBUTES | 1 << 17,
            attribute("decrypt", false),
        ),
        (
            "doesn't sign",
            AK_ATTRIBUTES & !(1 << 18),
            attribute("sign", true),
        ),
        ("an EK", EK_ATTRIBUTES, attribute("decrypt", false)),
    ] {
        let fields = AreaFields {
            attributes,
            ..good.clone()
        };
        assert_eq!(fault_of(&fields), wanted, "{name}");
    }
}

#[test]
fn other_keys_are_refused() {
    let good = SoftwareTpm::new().ak_fields();
    let with = |change: fn(&mut AreaFields)| {
        let mut fields = good.clone();
        change(&mut fields);
        fault_of(&fields)
    };
    let field = |field, found, accepted| Some(refused(field, found, accepted));
    let number = Some(PublicFault::Number { kind: "P-256" });
    let rows = [
        (
            "SHA-1 names",
            with(|f| f.name_alg = 4),
            field("nameAlg", 4, HASHES),
        ),
        (
            "HMAC key",
            with(|f| f.kind = 8),
            field("type", 8, "RSA, ECC"),
        ),
        (
            "no scheme",
            with(|f| f.scheme = vec![0x10]),
            field("scheme", 0x10, "rsassa with RSA, ecdsa with ECC"),
        ),
        (
            "RSA scheme",
            with(|f| f.scheme[0] = 0x14),
            field("scheme", 0x14, "rsassa with RSA, ecdsa with ECC"),
        ),
        (
            "RSAPSS",
            with(|f| f.scheme[0] = 0x16),
            field("scheme", 0x16, "none, rsassa, ecdsa"),
        ),
        (
            "SHA-1",
            with(|f| f.scheme[1] = 4),
            field("scheme hash", 4, HASHES),
        ),
        (
            "P-384",
            with(|f| f.parameters[0] = 4),
            field("curve", 4, "NIST P-256"),
        ),
        (
            "KDF",
            with(|f| f.parameters[1] = 0x20),
            field("kdf", 0x20, "none"),
        ),
        (
            "symmetric",
            with(|f| f.symmetric = vec![6, 128, 0x43]),
            field("symmetric", 6, "none"),
        ),
        (
            "off the curve",
            with(|f| f.unique[0][31] ^= 1),
            number.clone(),
        ),
        ("long coordinate", with(|f| f.unique[0].push(0)), number),
        (
            "third number",
            with(|f| f.unique.push(vec![1])),
            Some(PublicFault::Trailing { extra: 3 }),
        ),
        (
            "no numbers",
            with(|f| f.unique.clear()),
            Some(PublicFault::Truncated { need: 2, have: 0 }),
        ),
    ];
    for (name, got, wanted) in rows {
        assert_eq!(got, wanted, "{name}");
    }
}

#[test]
fn rsa_numbers() {
    let good = SoftwareTpm::with_rsa_ak().ak_fields();
    let number = Some(PublicFault::Number { kind: "RSA" });
    let with = |change: fn(&mut AreaFields)| {
        let mut fields = good.clone();
        change(&mut fields);
        fault_of(&fields)
    };
    let rows = [
        ("as it must be", with(|_| ()), None),
        (
            "exponent written out",
            with(|f| f.parameters = vec![2048, 1, 1]),
            None,
        ),
        (
            "1024 bits",
            with(|f| f.parameters[0] = 1024),
            Some(refused("keyBits", 1024, "2048")),
        ),
        (
            "exponent 3",
            with(|f| f.parameters[2] = 3),
            Some(refused("exponent", 3, "65537")),
        ),
        (
            "short modulus",
            with(|f| f.unique[0].truncate(255)),
            number.clone(),
        ),
        (
            "even modulus",
            with(|f| f.unique[0][255] = 0),
            number.clone(),
        ),
        ("small modulus", with(|f| f.unique[0][0] = 1), number),
    ];
    for (name, got, wanted) in rows {
        assert_eq!(got, wanted, "{name}");
    }
}

#[test]
fn other_eks_are_refused() {
    let ek = p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
    let good = p256_ek(&ek);
    let with = |change: fn(&mut AreaFields)| {
        let mut fields = good.clone();
        change(&mut fields);
        EkPublic::parse(&fields.marshal())
            .err()
            .map(|error| error.fault)
    };
    let rows = [
        ("as it must be", with(|_| ()), None),
        (
            "unrestricted",
            with(|f| f.attributes &= !(1 << 16)),
            attribute("restricted", true),
        ),
        (
            "signs",
            with(|f| f.attributes |= 1 << 18),
            attribute("sign", false),
        ),
        (
            "movable",
            with(|f| f.attributes &= !(1 << 1)),
            attribute("fixedTPM", true),
        ),
        (
            "AES-256",
            with(|f| f.symmetric[1] = 256),
            Some(refused("symmetric key bits", 256, "128")),
        ),
        (
            "no cipher",
            with(|f| f.symmetric = vec![0x10]),
            Some(refused("symmetric", 0x10, "AES")),
        ),
        (
            "CBC",
            with(|f| f.symmetric[2] = 0x42),
            Some(refused("symmetric mode", 0x42, "CFB")),
        ),
        (
            "SHA-384 names",
            with(|f| f.name_alg = 0xC),
            Some(refused("nameAlg", 0xC, "sha256")),
        ),
        (
            "signing scheme",
            with(|f| f.scheme = vec![0x18, 0xB]),
            Some(refused("scheme", 0x18, "none")),
        ),
    ];
    for (name, got, wanted) in rows {
        assert_eq!(got, wanted, "{name}");
    }
}

#[test]
fn cut_short_anywhere_is_refused() {
    let whole = SoftwareTpm::new().ak_fields().marshal();
    for end in 0..whole.len() {
        assert!(AkPublic::parse(&whole[..end]).is_err(), "{end} bytes");
    }
    let longer = [&whole[..], &[0]].concat();
    let error = AkPublic::parse(&longer).unwrap_err();
    assert_eq!(error.fault, PublicFault::Trailing { extra: 1 });
    assert!(AkPublic::from_base64("AA=").is_err());
}

#[test]
fn name_is_algorithm_and_digest() {
    let tpm = SoftwareTpm::new();
    let marshalled = tpm.ak_fields().marshal();
    let ak = tpm.ak();
    assert_eq!(ak.marshalled(), marshalled);
    assert_eq!(ak.name().as_bytes()[..2], [0, 0x0B]);
    assert_eq!(
        ak.name().as_bytes()[2..],
        Sha256::digest(&marshalled[2..])[..]
    );
}

#[test]
fn error_names_key_and_attribute() {
    let mut fields = SoftwareTpm::new().ak_fields();
    fields.attributes &= !(1 << 16);
    let error = AkPublic::parse(&fields.marshal()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "attestation key (aik_tpm) must have restricted set"
    );
}
