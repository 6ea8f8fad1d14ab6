//! Signatures of revocation notices, as openssl makes them.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use agent_core::revocation::VerifyError;
use agent_linux::notifier::{CERTIFICATE_FILE, Notifier};
use tempfile::TempDir;

const MESSAGE: &[u8] = br#"{"type":"revocation"}"#;

fn openssl(directory: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{arguments}");
}

/// A payload with a notifier's certificate, and the notifier's key beside it.
fn payload() -> TempDir {
    let payload = TempDir::new().unwrap();
    let certificate = format!(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=notifier -keyout key -out {CERTIFICATE_FILE}"
    );
    openssl(payload.path(), &certificate);
    fs::write(payload.path().join("message"), MESSAGE).unwrap();
    payload
}

fn sign(payload: &TempDir, options: &str) -> Vec<u8> {
    openssl(
        payload.path(),
        &format!("dgst -sign key {options} -out signature message"),
    );
    fs::read(payload.path().join("signature")).unwrap()
}

#[test]
fn a_signature_counts_with_any_salt_and_no_other_scheme() {
    let payload = payload();
    let notifier = Notifier::of_payload(payload.path(), None).unwrap();
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen";
    let cases = [
        (
            "Keylime's: the longest salt",
            format!("-sha256 {pss}:222"),
            Ok(()),
        ),
        (
            "a salt as long as the hash",
            format!("-sha256 {pss}:32"),
            Ok(()),
        ),
        ("no salt", format!("-sha256 {pss}:0"), Ok(())),
        (
            "another hash",
            format!("-sha384 {pss}:48"),
            Err(VerifyError::Mismatch),
        ),
        (
            "PKCS#1 v1.5",
            "-sha256".to_owned(),
            Err(VerifyError::Mismatch),
        ),
    ];
    for (name, options, want) in cases {
        let signature = sign(&payload, &options);
        assert_eq!(notifier.verify(MESSAGE, &signature), want, "{name}");
    }
}

#[test]
fn tampered_is_refused() {
    let payload = payload();
    let notifier = Notifier::of_payload(payload.path(), None).unwrap();
    let signature = sign(
        &payload,
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:222",
    );
    let refused = Err(VerifyError::Mismatch);
    assert_eq!(notifier.verify(b"{}", &signature), refused);
    assert_eq!(notifier.verify(MESSAGE, b""), refused);
    assert_eq!(notifier.verify(MESSAGE, &signature[1..]), refused);
    for at in [0, 100, 255] {
        let mut flipped = signature.clone();
        flipped[at] ^= 1;
        assert_eq!(notifier.verify(MESSAGE, &flipped), refused, "byte {at}");
    }
    let other = sign(
        &self::payload(),
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:222",
    );
    assert_eq!(notifier.verify(MESSAGE, &other), refused);
}

#[test]
fn the_operator_may_name_another() {
    let (payload, other) = (payload(), payload());
    let own = Notifier::of_payload(payload.path(), None);
    let theirs = other.path().join(CERTIFICATE_FILE);
    fs::copy(&theirs, payload.path().join("other.crt")).unwrap();
    let want = Notifier::of_payload(other.path(), None);
    assert!(own.is_some() && want.is_some() && own != want);
    for (name, path) in [
        ("in the payload", Path::new("other.crt")),
        ("elsewhere", &theirs),
    ] {
        let named = Notifier::of_payload(payload.path(), Some(path));
        assert_eq!(named, want, "{name}");
    }
    // What the payload brings doesn't stand in for it.
    let nowhere = Path::new("nowhere.crt");
    assert_eq!(Notifier::of_payload(payload.path(), Some(nowhere)), None);
}

#[test]
fn a_payload_without_a_usable_certificate_names_nobody() {
    let payload = TempDir::new().unwrap();
    assert_eq!(Notifier::of_payload(payload.path(), None), None);
    let path = payload.path().join(CERTIFICATE_FILE);
    for text in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(Notifier::of_payload(payload.path(), None), None, "{text}");
    }
    let ecdsa = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout key -out {CERTIFICATE_FILE}"
    );
    openssl(payload.path(), &ecdsa);
    assert_eq!(Notifier::of_payload(payload.path(), None), None);
}
