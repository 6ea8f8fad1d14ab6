#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use verifier_host::policy::runtime::RuntimePolicy;

use super::*;
use crate::policy::create::Draft;

fn policy() -> Vec<u8> {
    let mut bytes = Vec::new();
    Draft::default().write(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_signed_policy_is_believed_by_key_and_certificate() {
    let signer = PolicySigner::generate().unwrap();
    let other = PolicySigner::generate().unwrap();
    let certificate = signer.certificate().unwrap();
    let key = |pem: &str| PolicyKey::from_pem(pem.as_bytes()).unwrap();
    for name in [KeyName::Key, KeyName::Certificate(certificate.clone())] {
        let envelope = signer.sign(&policy(), &name).unwrap();
        for pem in [&signer.public_pem().unwrap(), &certificate] {
            RuntimePolicy::read(envelope.as_bytes(), Some(&key(pem))).unwrap();
        }
        let foreign = key(&other.public_pem().unwrap());
        assert!(RuntimePolicy::read(envelope.as_bytes(), Some(&foreign)).is_err());
    }
    let named = other.sign(&policy(), &KeyName::Certificate(certificate));
    assert_eq!(named, Err(SignError::OtherCertificate));
}

#[test]
fn a_key_is_its_owners_and_never_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("key.pem");
    let signer = PolicySigner::generate().unwrap();
    signer.write_new(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = PolicySigner::generate().unwrap().write_new(&path);
    assert!(matches!(again, Err(ToolError::KeyExists { .. })));
    let read = PolicySigner::read(&path).unwrap();
    assert_eq!(read.public_pem(), signer.public_pem());
    assert_eq!(format!("{read:?}"), "PolicySigner");
}

/// Keys as OpenSSL writes them: with the curve's parameters before, in both forms, and of another curve.
#[test]
fn openssls_keys_are_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("key.pem");
    let rows = [
        ("SEC 1", "ecparam -name prime256v1 -genkey", true),
        (
            "SEC 1 alone",
            "ecparam -name prime256v1 -genkey -noout",
            true,
        ),
        (
            "PKCS#8",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            true,
        ),
        (
            "P-384",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            false,
        ),
        (
            "RSA",
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            false,
        ),
    ];
    for (name, words, wanted) in rows {
        let made = Command::new("openssl")
            .args(words.split(' '))
            .output()
            .unwrap();
        assert!(made.status.success(), "{name}");
        fs::write(&path, made.stdout).unwrap();
        assert_eq!(PolicySigner::read(&path).is_ok(), wanted, "{name}");
    }
    fs::write(&path, "no key").unwrap();
    assert!(matches!(
        PolicySigner::read(&path),
        Err(ToolError::Sign {
            source: SignError::Key,
            ..
        })
    ));
}
