#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::time::Duration;

use super::*;

const POLICY: &str = r#"{"meta": {"version": 1, "generator": 0}, "release": 0, "digests": {}, "excludes": [], "keyrings": {},
    "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}, "ima-buf": {}, "verification-keys": ""}"#;

fn read_runtime(
    path: &Path,
    key: Option<&Path>,
    checksum: Option<&str>,
) -> Result<CheckedRuntime, String> {
    let file = RuntimeFile {
        source: Source::File(path.to_owned()),
        form: Form::Policy {
            key: key.map(Path::to_owned),
        },
        checksum: checksum.map(str::to_owned),
    };
    let limits = fetch::Limits {
        connect: Duration::ZERO,
        answer: Duration::ZERO,
        answer_bytes: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let read = runtime.block_on(file.read(limits));
    read.map_err(|error| error.to_string())
}

#[test]
fn what_is_given_is_checked_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (good, bad, key) = (file("good", POLICY), file("bad", "{}"), file("key", "x"));
    let sum = sha256(POLICY);
    let read = read_runtime(&good, None, Some(&sum)).unwrap();
    assert_eq!(
        (read.bytes.as_slice(), read.key_pem.as_str()),
        (POLICY.as_bytes(), "")
    );
    assert_eq!(sha256(&read.bytes), sum);
    let other = "0".repeat(64);
    let pem = include_str!("../../../verifier-host/src/policy/runtime/vectors/p256.pem");
    let signer = file("signer", pem);
    let rows = [
        (
            "no file",
            read_runtime(&root.path().join("no"), None, None),
            "can't read",
        ),
        (
            "no policy",
            read_runtime(&bad, None, None),
            "missing field `meta`",
        ),
        (
            "checksum",
            read_runtime(&good, None, Some(&other)),
            "--runtime-policy-checksum wants 0000",
        ),
        (
            "no key",
            read_runtime(&good, Some(&key), None),
            "--runtime-policy-sig-key",
        ),
        (
            "not signed",
            read_runtime(&good, Some(&signer), None),
            "it isn't signed. `keyhalf-tenant policy sign",
        ),
    ];
    for (name, result, wanted) in rows {
        let error = result.unwrap_err();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn a_signed_policy_goes_with_its_key() {
    let vectors =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier-host/src/policy/runtime/vectors");
    let (signed, certificate) = (
        vectors.join("signed-x509.json"),
        vectors.join("certificate.pem"),
    );
    let read = read_runtime(&signed, Some(&certificate), None).unwrap();
    assert_eq!(read.bytes, std::fs::read(&signed).unwrap());
    assert_eq!(
        read.key_pem,
        std::fs::read_to_string(vectors.join("p256.pem")).unwrap()
    );
    let error = read_runtime(&signed, None, None).unwrap_err();
    assert!(
        error.ends_with("--runtime-policy-sig-key names the signer's key"),
        "{error}"
    );
}

#[test]
fn a_measured_boot_policy_is_an_object() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("policy");
    let rows = [
        ("some", "{\"kernels\": []}", Some(false)),
        ("accepts all", " {} ", Some(true)),
        ("null", "null", None),
        ("list", "[]", None),
        ("two", "{}{}", None),
        ("nothing", "", None),
    ];
    for (name, text, wanted) in rows {
        std::fs::write(&path, text).unwrap();
        let read = read_measured_boot(&path);
        assert_eq!(read.ok().map(|policy| policy.is_empty), wanted, "{name}");
    }
    std::fs::write(&path, vec![b' '; MAX_MEASURED_BOOT_BYTES + 1]).unwrap();
    assert!(matches!(
        read_measured_boot(&path),
        Err(PolicyFileError::TooLarge { .. })
    ));
}
