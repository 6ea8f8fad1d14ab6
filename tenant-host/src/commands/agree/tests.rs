#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use agent_core::wire::quote::{ClockInfo, PcrDump, PcrValues, QuoteWriter};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Parser as _;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use verifier_host::evidence::public::PublicFault;

use super::*;
use crate::cli::Arguments;
use crate::trust::known::KnownError;

const PEM: &str = "-----BEGIN PUBLIC KEY-----\n";

/// Attributes of an attestation key as it must be: fixed to its TPM and parent, made inside, restricted, for signing.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
const FIXED_TPM: u32 = 1 << 1;
const DECRYPT: u32 = 1 << 17;
const RESTRICTED: u32 = 1 << 16;

fn key() -> SigningKey {
    p256::SecretKey::try_generate_from_rng(&mut SysRng)
        .unwrap()
        .into()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap();
    [&size.to_be_bytes(), bytes].concat()
}

/// A `TPM2B_PUBLIC` of a P-256 key, with these attributes, policy, and symmetric algorithm and scheme.
fn public(key: &SigningKey, attributes: u32, policy: &[u8], algorithms: &[u16]) -> String {
    let point = p256::PublicKey::from(key.verifying_key()).to_sec1_point(false);
    let mut area = vec![0x00, 0x23, 0x00, 0x0B];
    area.extend(attributes.to_be_bytes());
    area.extend(sized(policy));
    area.extend(algorithms.iter().flat_map(|number| number.to_be_bytes()));
    area.extend([0x00, 0x03, 0x00, 0x10]);
    point.as_bytes()[1..]
        .chunks(32)
        .for_each(|coordinate| area.extend(sized(coordinate)));
    BASE64.encode(sized(&area))
}

fn ak_text(key: &SigningKey, attributes: u32) -> String {
    public(key, attributes, &[], &[0x0010, 0x0018, 0x000B])
}

fn ek_text(key: &SigningKey) -> String {
    const POLICY_A: [u8; 32] = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7,
        0x24, 0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14,
        0x69, 0xAA,
    ];
    public(key, 0x0003_00B2, &POLICY_A, &[0x0006, 128, 0x0043, 0x0010])
}

fn record(ek: &SigningKey, aik_tpm: String) -> RegistrarRecord {
    RegistrarRecord {
        ek_tpm: ek_text(ek),
        ekcert: None,
        aik_tpm,
        ip: None,
        port: None,
        mtls_cert: None,
        regcount: None,
    }
}

/// Settings with nothing but this directory in them, which accept an EK without certificate.
fn settings(directory: &Path) -> Settings {
    let config = directory.join("tenant.conf");
    std::fs::write(&config, "[tenant]\nrequire_ek_cert = False\n").unwrap();
    let words = [
        "keyhalf-tenant",
        "--config",
        config.to_str().unwrap(),
        "--keylime-dir",
        directory.to_str().unwrap(),
    ];
    Settings::read(&Arguments::try_parse_from(words).unwrap()).unwrap()
}

/// A quote over PCR 16 with this transport key in it, signed with an ECDSA key.
fn quote(key: &SigningKey, nonce: &str, pem: &str) -> String {
    let bank = HashAlg::Sha256;
    let transport = bank.digest([&[0; 32][..], &bank.digest([pem.as_bytes()])[..]]);
    let mut values = PcrValues::new();
    values.push((16, transport)).unwrap();
    let dump = PcrDump::new(bank, values).unwrap();
    let clock = ClockInfo {
        clock_ms: 1,
        reset_count: 1,
        restart_count: 1,
        safe: true,
    };
    let attest = [
        &0xFF54_4347_u32.to_be_bytes()[..],
        &0x8018_u16.to_be_bytes(),
        &sized(&[0; 34]),
        &sized(nonce.as_bytes()),
        &clock.clock_ms.to_be_bytes(),
        &clock.reset_count.to_be_bytes(),
        &clock.restart_count.to_be_bytes(),
        &[u8::from(clock.safe)],
        &[7; 8],
        &[0, 0, 0, 1],
        &bank.tpm_id().to_be_bytes(),
        &[3],
        &dump.pcrs().to_select(),
        &sized(&dump.digest(bank)),
    ]
    .concat();
    let signature: p256::ecdsa::Signature = key.sign_prehash(&bank.digest([&attest[..]])).unwrap();
    let (r, s) = signature.split_bytes();
    let signature = [&[0, 0x18, 0, 0x0B], &sized(&r)[..], &sized(&s)].concat();
    QuoteWriter {
        attest: &attest,
        signature: &signature,
        dump: &dump,
    }
    .to_string()
}

fn identity(key: &SigningKey, nonce: &str) -> IdentityQuote {
    IdentityQuote {
        quote: quote(key, nonce, PEM),
        hash_alg: "sha256".to_owned(),
        enc_alg: "rsa2048".to_owned(),
        sign_alg: "ecdsa".to_owned(),
        pubkey: PEM.to_owned(),
    }
}

#[test]
fn unrestricted_ak_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let uuid = Uuid::parse("node").unwrap();
    let rows = [
        ("good", AK_ATTRIBUTES, true),
        ("unrestricted", AK_ATTRIBUTES & !RESTRICTED, false),
        (
            "foreign_ak_is_refused: not fixed to its TPM",
            AK_ATTRIBUTES & !FIXED_TPM,
            false,
        ),
        ("decrypts too", AK_ATTRIBUTES | DECRYPT, false),
    ];
    for (name, attributes, good) in rows {
        let record = record(&key(), ak_text(&key(), attributes));
        match check_keys(&uuid, &record, &settings, None) {
            Ok(_) => assert!(good, "{name}"),
            Err(Failure::Key { source, .. }) => {
                assert!(
                    !good && matches!(source.fault, PublicFault::Attribute { .. }),
                    "{name}: {source}"
                );
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn another_tpm_of_a_known_node_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let uuid = Uuid::parse("node").unwrap();
    let first = record(&key(), ak_text(&key(), AK_ATTRIBUTES));
    let keys = check_keys(&uuid, &first, &settings, None).unwrap();
    assert_eq!(keys.known, Known::First);
    known::check_or_record(&settings.known_eks, &uuid, &keys.ek_hash).unwrap();
    assert_eq!(
        check_keys(&uuid, &first, &settings, None).unwrap().known,
        Known::Already
    );
    let second = record(&key(), ak_text(&key(), AK_ATTRIBUTES));
    let refused = check_keys(&uuid, &second, &settings, None);
    assert!(matches!(
        refused,
        Err(Failure::Known(KnownError::Changed { .. }))
    ));
}

#[test]
fn ak_swapped_between_steps() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let registered = key();
    let ak = AkPublic::from_base64(&ak_text(&registered, AK_ATTRIBUTES)).unwrap();
    let good = identity(&registered, "nonce");
    let swapped = identity(&key(), "nonce");
    let other_key = IdentityQuote {
        pubkey: format!("{PEM} "),
        ..good.clone()
    };
    let other_bank = IdentityQuote {
        hash_alg: "sha384".to_owned(),
        ..good.clone()
    };
    let no_bank = IdentityQuote {
        hash_alg: "md5".to_owned(),
        ..good.clone()
    };
    let not_accepted = IdentityQuote {
        sign_alg: "rsapss".to_owned(),
        ..good.clone()
    };
    let rows = [
        ("good", &good, "nonce", None),
        ("signed by another AK", &swapped, "nonce", Some("signature")),
        ("recorded quote", &good, "fresh", Some("another nonce")),
        ("another transport key", &other_key, "nonce", Some("PCR 16")),
        (
            "another bank than it says",
            &other_bank,
            "nonce",
            Some("bank"),
        ),
        (
            "hash that isn't accepted",
            &no_bank,
            "nonce",
            Some("accept_tpm_hash_algs"),
        ),
        (
            "scheme that isn't accepted",
            &not_accepted,
            "nonce",
            Some("accept_tpm_signing_algs"),
        ),
    ];
    for (name, identity, nonce, wanted) in rows {
        let reason = check_identity(&ak, identity, nonce, &settings).err();
        match (wanted, &reason) {
            (None, None) => {}
            (Some(part), Some(reason)) => assert!(reason.contains(part), "{name}: {reason}"),
            _ => panic!("{name}: {reason:?}"),
        }
    }
}

#[test]
fn nonces_are_letters_and_digits_and_differ() {
    let (one, two) = (random_text().unwrap(), random_text().unwrap());
    assert_eq!(one.len(), NONCE_CHARS);
    assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_ne!(one, two);
}

#[test]
fn short_names_of_algorithms_mean_the_usual_sizes() {
    let rows = [
        ("rsa", "rsa2048", true),
        ("ecc256", "ecc", true),
        ("rsa", "rsa3072", false),
        ("sha256", "sha256", true),
    ];
    for (accepted, named, wanted) in rows {
        assert_eq!(
            same_algorithm(accepted, named),
            wanted,
            "{accepted} {named}"
        );
    }
}
