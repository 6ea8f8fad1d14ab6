//! Vectors: `policy.json`, signed by `keylime-policy sign runtime` of Keylime 7.14.3 with keys of OpenSSL 3: by the P-256 key,
//! by the P-384 key, and by the P-256 key as a certificate (`-b x509`).

use serde_json::json;

use super::*;

const BARE: &[u8] = include_bytes!("vectors/policy.json");
const P256: &[u8] = include_bytes!("vectors/p256.pem");
const P384: &[u8] = include_bytes!("vectors/p384.pem");
const CERTIFICATE: &[u8] = include_bytes!("vectors/certificate.pem");
const SIGNED_P256: &[u8] = include_bytes!("vectors/signed-p256.json");
const SIGNED_P384: &[u8] = include_bytes!("vectors/signed-p384.json");
const SIGNED_X509: &[u8] = include_bytes!("vectors/signed-x509.json");

fn key(pem: &[u8]) -> PolicyKey {
    PolicyKey::from_pem(pem).unwrap()
}

/// A JSON vector with one of its fields replaced.
fn with(bytes: &[u8], pointer: &str, value: Value) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    *document.pointer_mut(pointer).unwrap() = value;
    document.to_string().into_bytes()
}

#[test]
fn a_signature_counts_by_the_given_key_alone() {
    let untrusted = Err(EnvelopeError::Untrusted { tried: 1 }.into());
    let good = RuntimePolicy::read(BARE, None);
    assert_eq!(good.as_ref().map(|policy| policy.digests.len()), Ok(2));
    let changed = with(SIGNED_P256, "/payload", json!("e30="));
    let other_type = with(SIGNED_P256, "/payloadType", json!("application/json"));
    let type_error = EnvelopeError::Type {
        found: "application/json".to_owned(),
        wanted: "application/vnd.keylime+json",
    };
    let unsigned = with(SIGNED_P256, "/signatures", json!([]));
    let none = EnvelopeError::Signatures { have: 0, limit: 16 };
    let garbage = with(SIGNED_P256, "/signatures/0/sig", json!("?"));
    let no_base64 = EnvelopeError::Base64 { field: "sig" };
    let second = json!([{ "sig": "AAAA" }, { "sig": signature_of(SIGNED_P256) }]);
    let second = with(SIGNED_P256, "/signatures", second);
    type Row<'a> = (
        &'a str,
        &'a [u8],
        Option<&'a [u8]>,
        Result<RuntimePolicy, RuntimePolicyError>,
    );
    let rows: [Row<'_>; 13] = [
        ("P-256", SIGNED_P256, Some(P256), good.clone()),
        ("P-384", SIGNED_P384, Some(P384), good.clone()),
        ("certificate", SIGNED_X509, Some(CERTIFICATE), good.clone()),
        ("its key alone", SIGNED_X509, Some(P256), good.clone()),
        ("second of two", &second, Some(P256), good),
        ("other key", SIGNED_P256, Some(P384), untrusted.clone()),
        ("changed payload", &changed, Some(P256), untrusted),
        (
            "other type",
            &other_type,
            Some(P256),
            Err(type_error.into()),
        ),
        ("no signature", &unsigned, Some(P256), Err(none.into())),
        ("no base64", &garbage, Some(P256), Err(no_base64.into())),
        ("no key", SIGNED_P256, None, Err(RuntimePolicyError::NoKey)),
        (
            "its own word",
            SIGNED_X509,
            None,
            Err(RuntimePolicyError::NoKey),
        ),
        (
            "not signed",
            BARE,
            Some(P256),
            Err(RuntimePolicyError::NotSigned),
        ),
    ];
    for (name, bytes, pem, wanted) in rows {
        let key = pem.map(key);
        assert_eq!(RuntimePolicy::read(bytes, key.as_ref()), wanted, "{name}");
    }
}

fn signature_of(bytes: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(bytes).unwrap();
    document["signatures"][0]["sig"].clone()
}

#[test]
fn keys_are_ecdsa_on_two_curves() {
    let pem = std::str::from_utf8(P256).unwrap();
    assert_eq!(key(P256).pem(), pem);
    assert_eq!(key(CERTIFICATE).pem(), pem, "a certificate's key");
    let algorithm = |found: &str| KeyError::Algorithm {
        found: found.to_owned(),
    };
    let private = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";
    let broken = "-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----\n";
    let rows: [(&str, &[u8], KeyError); 4] = [
        (
            "P-521",
            include_bytes!("vectors/p521.pem"),
            algorithm("1.3.132.0.35"),
        ),
        (
            "RSA",
            include_bytes!("vectors/rsa.pem"),
            algorithm("1.2.840.113549.1.1.1"),
        ),
        (
            "private",
            private.as_bytes(),
            KeyError::Kind {
                found: "PrivateKey".to_owned(),
            },
        ),
        ("broken", broken.as_bytes(), KeyError::Der),
    ];
    for (name, pem, wanted) in rows {
        assert_eq!(PolicyKey::from_pem(pem).unwrap_err(), wanted, "{name}");
    }
    assert!(matches!(
        PolicyKey::from_pem(b"{}"),
        Err(KeyError::Pem { .. })
    ));
}

#[test]
fn every_part_must_be_of_its_kind() {
    let digest = |value: &str| RuntimePolicyError::NotADigest {
        part: "digests",
        name: "/a".to_owned(),
        value: value.to_owned(),
    };
    let upper = "AB".repeat(32);
    let (lengths, base64) = (
        KeyringError::Lengths { ids: 1, keys: 0 },
        KeyringError::Base64 { index: 0 },
    );
    let no_key = KeyringError::Key {
        index: 0,
        reason: crate::evidence::ima::FileKeyError::Der,
    };
    let long = "x".repeat(4097);
    let rows = [
        (
            "version 2",
            "/meta/version",
            json!(2),
            RuntimePolicyError::Version { found: 2, known: 1 },
        ),
        (
            "generator",
            "/meta/generator",
            json!(4),
            RuntimePolicyError::Generator { found: 4, last: 3 },
        ),
        (
            "uppercase",
            "/digests",
            json!({ "/a": [upper] }),
            digest(&upper),
        ),
        (
            "odd size",
            "/digests",
            json!({ "/a": ["00"] }),
            digest("00"),
        ),
        ("no hex", "/digests", json!({ "/a": ["zz"] }), digest("zz")),
        (
            "no digest",
            "/keyrings",
            json!({ ".ima": [] }),
            RuntimePolicyError::NoDigest {
                part: "keyrings",
                name: ".ima".to_owned(),
            },
        ),
        (
            "exclude",
            "/excludes",
            json!([long]),
            RuntimePolicyError::Exclude {
                have: 4097,
                limit: 4096,
            },
        ),
        (
            "hash",
            "/ima/log_hash_alg",
            json!("md5"),
            RuntimePolicyError::LogHash {
                found: "md5".to_owned(),
            },
        ),
        (
            "device mapper",
            "/ima/dm_policy",
            json!({}),
            RuntimePolicyError::DeviceMapper,
        ),
        (
            "key without id",
            "/verification-keys",
            json!("{\"keyids\": [1], \"pubkeys\": []}"),
            lengths.into(),
        ),
        (
            "key",
            "/verification-keys",
            json!("{\"keyids\": [], \"pubkeys\": [\"?\"]}"),
            base64.into(),
        ),
        (
            "no key",
            "/verification-keys",
            json!("{\"keyids\": [], \"pubkeys\": [\"AQID\"]}"),
            no_key.into(),
        ),
    ];
    for (name, pointer, value, wanted) in rows {
        let policy = with(BARE, pointer, value);
        assert_eq!(RuntimePolicy::read(&policy, None), Err(wanted), "{name}");
    }
}

#[test]
fn what_lacks_or_doubles_a_part_is_no_policy() {
    let text = std::str::from_utf8(BARE).unwrap();
    let no_json = [
        ("empty", String::new()),
        ("empty object", "{}".to_owned()),
        ("list", "[]".to_owned()),
        ("no excludes", text.replace("excludes", "exclude")),
        (
            "excludes twice",
            text.replace("\"release\"", "\"excludes\": [], \"release\""),
        ),
        ("a number", text.replace("\"/tmp/.*\"", "1")),
        ("something behind", format!("{text}{{}}")),
    ];
    for (name, text) in no_json {
        let result = RuntimePolicy::read(text.as_bytes(), None);
        assert!(
            matches!(result, Err(RuntimePolicyError::Json { .. })),
            "{name}: {result:?}"
        );
    }
    let twice = text.replace("\"boot_aggregate\"", "\"/usr/bin/true\"");
    let wanted = RuntimePolicyError::Twice {
        part: "digests",
        name: "/usr/bin/true".to_owned(),
    };
    assert_eq!(RuntimePolicy::read(twice.as_bytes(), None), Err(wanted));
    let more = text.replace("\"release\"", "\"$comment\": \"\", \"release\"");
    assert!(RuntimePolicy::read(more.as_bytes(), None).is_ok());
    let large = vec![b' '; MAX_POLICY_BYTES + 1];
    let wanted = RuntimePolicyError::TooLarge {
        have: MAX_POLICY_BYTES + 1,
        limit: MAX_POLICY_BYTES,
    };
    assert_eq!(RuntimePolicy::read(&large, None), Err(wanted));
}

#[test]
fn keys_of_file_signatures_are_read() {
    let der = |pem: &[u8]| {
        let (_, der): (rustls::pki_types::pem::SectionKind, Vec<u8>) =
            rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap();
        der
    };
    let (p256, p384) = (der(P256), der(P384));
    let text = |der: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
    let keys = json!({ "keyids": [7, 0], "pubkeys": [text(&p256), text(&p384), text(&p256)] });
    let keyring = json!(keys.to_string());
    let policy = RuntimePolicy::read(&with(BARE, "/verification-keys", keyring), None).unwrap();
    let key = |der: &[u8]| FileKey::from_der(der).unwrap();
    let wanted = [key(&p256).with_id(7), key(&p384), key(&p256)];
    assert_eq!(policy.verification_keys, wanted);
}

#[test]
fn excludes_mean_the_same_as_in_python() {
    let taken = [
        "",
        "/tmp/.*",
        "^/tmp",
        "/a|/b",
        "(/a|/b)+",
        "/a{2}",
        "/a{2,}?",
        "/a*?",
        "[]a]",
        "[^]a]",
        "[a\\[]",
        "[a-z&]",
        "\\d+",
        "(?i)/a",
        "(?P<n>/a)",
        "(?:/a)",
        "(?s:.)",
        "/[^/]+$",
        "\\.",
        "/a\\*+",
        "[+*?]",
    ];
    let refused = [
        ("(?=/a)", "look-around"),
        ("(?<!/a)", "look-around"),
        ("(/a)\\1", "backreferences"),
        ("/a(", "unclosed group"),
        ("/a)|(/b", "unopened group"),
        ("*", "repetition operator missing expression"),
        ("/a*+", "quantifier after a quantifier"),
        ("/a++", "quantifier after a quantifier"),
        ("/a{2}{3}", "quantifier after a quantifier"),
        ("/a*?+", "quantifier after a quantifier"),
        ("[[a]]", "inside [...]"),
        ("[[:alpha:]]", "inside [...]"),
        ("[a&&b]", "inside [...]"),
        ("[a--b]", "inside [...]"),
        ("[^]~~]", "inside [...]"),
        ("\\<a", "ends of a word"),
        ("(?x)/a # b", "of flags"),
        ("(?U)/a*", "of flags"),
        ("(?i-x:/a)", "of flags"),
        ("/a{99999}{99999}", "quantifier after a quantifier"),
    ];
    let read = |expression: &str| {
        let policy = with(BARE, "/excludes", json!(["/tmp/", expression]));
        RuntimePolicy::read(&policy, None)
    };
    for expression in taken {
        let excludes = read(expression).map(|policy| policy.excludes);
        let texts = excludes.as_ref().map(Excludes::texts);
        let wanted: &[String] = &["/tmp/".to_owned(), expression.to_owned()];
        assert_eq!(texts, Ok(wanted), "{expression}");
    }
    for (wanted, part) in refused {
        let error = read(wanted).unwrap_err();
        let RuntimePolicyError::Expression { expression, reason } = error else {
            panic!("{wanted}: {error}");
        };
        assert_eq!(expression, wanted);
        assert!(reason.contains(part), "{wanted}: {reason}");
    }
}

#[test]
fn excludes_are_bounded_together() {
    let rows = [
        ("bytes", 256 << 10, vec!["x".repeat(4096); 65]),
        ("classes such as \\w", 1024, vec!["\\w".repeat(205); 5]),
        (
            "bytes, compiled",
            8 << 20,
            vec!["(?:/a{999}){999}".to_owned()],
        ),
    ];
    for (what, limit, excludes) in rows {
        let result = RuntimePolicy::read(&with(BARE, "/excludes", json!(excludes)), None);
        let wanted = RuntimePolicyError::Excludes { what, limit };
        assert_eq!(result, Err(wanted));
    }
}
