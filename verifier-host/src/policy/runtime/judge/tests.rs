//! Vectors: see `tests/vectors/ima/SOURCES.md`.

use agent_core::wire::quote::{HashAlg, PcrValues};
use agent_core::wire::text::Hex;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::evidence::ima::{FileSignatureError, ImaError, Lines, Replayed, SignatureHash, check};

const KEYLIME: &str = include_str!("../../../../tests/vectors/ima/keylime.txt");
const KEYLIME_KEY: &str = include_str!("../../../../tests/vectors/ima/keylime-rsa2048.pem");
const EVMCTL: &str = include_str!("../../../../tests/vectors/ima/evmctl.txt");
const A: [u8; 32] = [0xAA; 32];
const B: [u8; 32] = [0xBB; 32];

/// A policy whose parts are replaced.
fn policy(parts: &[(&str, Value)]) -> RuntimePolicy {
    let mut policy = json!({
        "meta": { "version": 1, "generator": 0 },
        "release": 0,
        "digests": {},
        "excludes": [],
        "keyrings": {},
        "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    });
    for (pointer, value) in parts {
        *policy.pointer_mut(pointer).unwrap() = value.clone();
    }
    RuntimePolicy::read(policy.to_string().as_bytes(), None).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Hex(bytes).to_string()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn entry<'a>(path: &'a str, digest: &'a [u8], content: Content<'a>) -> Entry<'a> {
    Entry {
        line: 1,
        pcr: 10,
        template: "ima-sig",
        list_hash: ListHash::Sha1,
        template_hash: &[1; 20],
        data: &[],
        violation: false,
        digest: FileDigest {
            kind: None,
            alg: "sha256",
            bytes: digest,
        },
        path: path.as_bytes(),
        content,
    }
}

fn judge(policy: &RuntimePolicy) -> Judge<'_> {
    Judge::new(policy, Learnt::default(), &PcrDump::empty(HashAlg::Sha256))
}

fn unknown(part: Part, path: &str, got: &[u8]) -> Refusal {
    Refusal::Unknown {
        part,
        path: path.to_owned(),
        got: sha256(got),
    }
}

fn sha256(bytes: &[u8]) -> Named {
    Named::digest(&entry("", bytes, Content::File).digest)
}

/// Keys that evmctl signed a file with: name, certificate, public key.
fn keys() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let lines = EVMCTL.lines().filter_map(|line| line.strip_prefix("key "));
    let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    words
        .map(|words| (words[0], unhex(words[1]), unhex(words[2])))
        .collect()
}

/// What evmctl signed: key, hash, digest, signature.
fn signatures() -> Vec<(&'static str, &'static str, Vec<u8>, Vec<u8>)> {
    let lines = EVMCTL
        .lines()
        .filter_map(|line| line.strip_prefix("signature "));
    let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    words
        .map(|words| (words[0], words[1], unhex(words[2]), unhex(words[3])))
        .collect()
}

fn keyring(keys: &[&[u8]]) -> Value {
    let pubkeys: Vec<String> = keys.iter().map(|key| BASE64_STANDARD.encode(key)).collect();
    json!(json!({ "meta": { "version": 1 }, "keyids": [], "pubkeys": pubkeys }).to_string())
}

#[test]
fn files_pass_by_their_digest() {
    let policy = policy(&[(
        "/digests",
        json!({ "/a": [hex(&B), hex(&A)], "boot_aggregate": [hex(&A)] }),
    )]);
    let digest = |path: &str, got, allowed| Refusal::Digest {
        part: Part::Files,
        path: path.to_owned(),
        got: sha256(got),
        allowed: Named::all([allowed].into_iter()),
    };
    let rows = [
        ("listed", "/a", A, Ok(())),
        ("listed first", "/a", B, Ok(())),
        ("unknown file", "/x", A, Err(unknown(Part::Files, "/x", &A))),
        (
            "as the start of a path",
            "/a/b",
            A,
            Err(unknown(Part::Files, "/a/b", &A)),
        ),
        ("aggregate", "boot_aggregate", A, Ok(())),
        (
            "other aggregate",
            "boot_aggregate",
            B,
            Err(digest("boot_aggregate", &B, &A)),
        ),
    ];
    for (name, path, digest, wanted) in rows {
        let result = judge(&policy).judge(&entry(path, &digest, Content::File));
        assert_eq!(result, wanted, "{name}");
    }
    let changed = judge(&policy).judge(&entry("/a", &[1; 32], Content::File));
    let text = changed.unwrap_err().to_string();
    let wanted = format!(
        "/a has the digest sha256:{}; the policy's digests allow {}, {}",
        hex(&[1; 32]),
        hex(&B),
        hex(&A)
    );
    assert_eq!(text, wanted);
}

#[test]
fn what_is_excluded_is_not_looked_at() {
    let policy = policy(&[(
        "/excludes",
        json!(["/tmp/", "/var/log/.*\\.log", "(?i)/home"]),
    )]);
    let rows = [
        ("start", "/tmp/x", true),
        ("start alone", "/tmp/", true),
        ("not from the start", "/usr/tmp/x", false),
        ("expression", "/var/log/a.log", true),
        ("end needn't match", "/var/log/a.log.1", true),
        ("flag of one expression", "/HOME/x", true),
        ("flag doesn't leak", "/TMP/x", false),
    ];
    for (name, path, excluded) in rows {
        let file = entry(path, &A, Content::File);
        let violation = Entry {
            violation: true,
            ..file
        };
        let refused = Err(Refusal::Violation {
            path: path.to_owned(),
        });
        let unlisted = Err(unknown(Part::Files, path, &A));
        let wanted = |refused| if excluded { Ok(()) } else { refused };
        assert_eq!(judge(&policy).judge(&file), wanted(unlisted), "{name}");
        assert_eq!(judge(&policy).judge(&violation), wanted(refused), "{name}");
    }
    // No UTF-8: no policy can list it, and excludes match bytes.
    for (path, excluded) in [(&b"/tmp/\xFF"[..], true), (b"/\xFF", false)] {
        let file = Entry {
            path,
            ..entry("", &A, Content::File)
        };
        assert_eq!(judge(&policy).judge(&file).is_ok(), excluded);
    }
}

#[test]
fn a_listed_violation_fails() {
    let policy = policy(&[("/digests", json!({ "/a": [hex(&[0; 32])] }))]);
    let file = Entry {
        violation: true,
        ..entry("/a", &[0; 32], Content::File)
    };
    let refusal = judge(&policy).judge(&file).unwrap_err();
    assert_eq!(refusal.event(), "ima.validation.tomtou");
}

#[test]
fn boot_aggregate_must_be_the_quotes() {
    let values = |count| -> PcrValues {
        (0..count)
            .map(|pcr| (pcr, A.into_iter().collect()))
            .collect()
    };
    let bank = HashAlg::Sha256;
    let whole = PcrDump::new(bank, values(10)).unwrap();
    let part = PcrDump::new(bank, values(9)).unwrap();
    let right = bank.digest((0..10).map(|_| &A[..]));
    let listing = policy(&[("/digests", json!({ "boot_aggregate": [hex(&A)] }))]);
    let empty = policy(&[]);
    let contradicts = Err(Refusal::BootAggregate {
        got: sha256(&A),
        quoted: Named::bytes(&right),
    });
    let unlisted = Err(unknown(Part::Files, "boot_aggregate", &right));
    let rows = [
        ("of the quote", &empty, &whole, &*right, Ok(())),
        (
            "of the quote, another listed",
            &listing,
            &whole,
            &right,
            Ok(()),
        ),
        (
            "listed, not of the quote",
            &listing,
            &whole,
            &A,
            contradicts,
        ),
        ("listed, too few PCRs", &listing, &part, &A, Ok(())),
        ("not listed, too few PCRs", &empty, &part, &right, unlisted),
    ];
    for (name, policy, quoted, digest, wanted) in rows {
        let mut judge = Judge::new(policy, Learnt::default(), quoted);
        let file = entry("boot_aggregate", digest, Content::File);
        assert_eq!(judge.judge(&file), wanted, "{name}");
    }
}

#[test]
fn what_evmctl_signed_passes() {
    for (name, certificate, public) in keys() {
        let from = [
            ("certificate", keyring(&[&certificate])),
            ("public key", keyring(&[&public])),
        ];
        for (kind, keyring) in from {
            let policy = policy(&[("/verification-keys", keyring)]);
            let mut tried = 0;
            for (signer, hash, digest, signature) in signatures() {
                let file = Entry {
                    digest: FileDigest {
                        kind: None,
                        alg: hash,
                        bytes: &digest,
                    },
                    ..entry("/f", &digest, Content::Signed(&signature))
                };
                let result = judge(&policy).judge(&file);
                let what = format!("{kind} of {name}, by {signer} over {hash}: {result:?}");
                if signer == name {
                    tried += 1;
                    assert_eq!(result, Ok(()), "{what}");
                } else {
                    assert!(matches!(result, Err(Refusal::NoKey { .. })), "{what}");
                }
            }
            assert_eq!(tried, 3);
        }
    }
}

#[test]
fn a_signature_that_isnt_the_files_fails() {
    let (_, certificate, _) = keys().remove(1);
    let (signer, hash, digest, signature) = signatures().remove(4);
    assert_eq!((signer, hash), ("p256", "sha256"));
    let keys = keyring(&[&certificate]);
    let policy = policy(&[
        ("/verification-keys", keys),
        ("/digests", json!({ "/listed": [hex(&A)] })),
    ]);
    let id = u32::from_be_bytes(signature[3..7].try_into().unwrap());
    let with = |at: usize, byte: u8| {
        let mut changed = signature.clone();
        changed[at] = byte;
        changed
    };
    let bad = |got: &[u8]| Refusal::BadSignature {
        path: "/f".to_owned(),
        id,
        hash: SignatureHash::Sha256,
        digest: sha256(got),
    };
    let unread = |reason| Refusal::Signature {
        path: "/f".to_owned(),
        reason,
    };
    let (last, no_key) = (signature.len() - 1, with(3, signature[3] ^ 1));
    let bad_last = with(last, signature[last] ^ 1);
    let portable = with(0, 5);
    let other_hash = with(2, 6);
    let whirlpool = with(2, 13);
    let size = FileSignatureError::Size {
        need: signature.len(),
        have: last,
    };
    type Row<'a> = (&'a str, &'a str, &'a [u8], &'a [u8], Result<(), Refusal>);
    let rows: [Row<'_>; 9] = [
        ("good", "/f", &digest, &signature, Ok(())),
        ("changed file", "/f", &A, &signature, Err(bad(&A))),
        ("bad signature", "/f", &digest, &bad_last, Err(bad(&digest))),
        (
            "unknown key",
            "/f",
            &digest,
            &no_key,
            Err(Refusal::NoKey {
                path: "/f".to_owned(),
                id: id ^ 0x0100_0000,
            }),
        ),
        (
            "of EVM",
            "/f",
            &digest,
            &portable,
            Err(unread(FileSignatureError::Kind {
                kind: 5,
                version: 2,
            })),
        ),
        (
            "of a hash that isn't known",
            "/f",
            &digest,
            &whirlpool,
            Err(unread(FileSignatureError::Hash { id: 13 })),
        ),
        ("cut", "/f", &digest, &signature[..last], Err(unread(size))),
        ("bad, but listed", "/listed", &A, &bad_last, Ok(())),
        (
            "bad, and changed",
            "/listed",
            &B,
            &bad_last,
            Err(Refusal::Digest {
                part: Part::Files,
                path: "/listed".to_owned(),
                got: sha256(&B),
                allowed: Named::all([&A[..]].into_iter()),
            }),
        ),
    ];
    for (name, path, digest, signature, wanted) in rows {
        let file = entry(path, digest, Content::Signed(signature));
        assert_eq!(judge(&policy).judge(&file), wanted, "{name}");
    }
    let file = entry("/f", &digest, Content::Signed(&other_hash));
    let refused = judge(&policy).judge(&file);
    assert!(
        matches!(refused, Err(Refusal::BadSignature { .. })),
        "{refused:?}"
    );
    // fs-verity signs another digest.
    let verity = Entry {
        digest: FileDigest {
            kind: Some("verity"),
            alg: "sha256",
            bytes: &digest,
        },
        ..entry("/f", &digest, Content::Signed(&signature))
    };
    assert!(judge(&policy).judge(&verity).is_err());
}

#[test]
fn published_signatures_are_judged_as_keylime_does() {
    let (_, key) = pem(KEYLIME_KEY);
    let policy = policy(&[("/verification-keys", keyring(&[&key]))]);
    let mut lines = Lines::new(KEYLIME.as_bytes());
    let mut results = Vec::new();
    while let Some(entry) = lines.next() {
        let entry = entry.unwrap();
        if let Content::Signed(_) = entry.content {
            results.push(judge(&policy).judge(&entry));
        }
    }
    let no_key = Err(Refusal::NoKey {
        path: "/usr/bin/zmore".to_owned(),
        id: 0x531f_4025,
    });
    assert_eq!(results, [Ok(()), no_key]);
}

fn pem(text: &str) -> (rustls::pki_types::pem::SectionKind, Vec<u8>) {
    rustls::pki_types::pem::PemObject::from_pem_slice(text.as_bytes()).unwrap()
}

#[test]
fn keys_are_learnt_from_allowed_keyrings() {
    let (_, certificate, _) = keys().remove(2);
    let (_, _, digest, signature) = signatures().remove(7);
    let allowed = HashAlg::Sha256.digest([&*certificate]);
    let forged = HashAlg::Sha256.digest([&certificate[..10]]);
    let listing = json!({ ".ima": [hex(&allowed), hex(&forged)] });
    let listed = [("/keyrings", listing.clone())];
    let elsewhere = [("/keyrings", json!({ ".evm": [hex(&allowed)] }))];
    let other = [("/keyrings", json!({ ".ima": [hex(&A)] }))];
    let ignored = [("/ima/ignored_keyrings", json!([".ima"]))];
    let all_ignored = [
        ("/ima/ignored_keyrings", json!(["*"])),
        ("/keyrings", listing),
    ];
    let excluded = [("/excludes", json!(["\\.ima"]))];
    let unlisted = unknown(Part::Keyrings, ".ima", &allowed);
    let wrong = Refusal::Digest {
        part: Part::Keyrings,
        path: ".ima".to_owned(),
        got: sha256(&allowed),
        allowed: Named::all([&A[..]].into_iter()),
    };
    let not_its = Refusal::Buffer {
        path: ".ima".to_owned(),
        said: sha256(&forged),
    };
    type Row<'a> = (
        &'a str,
        &'a [(&'a str, Value)],
        &'a [u8],
        Result<(), Refusal>,
        bool,
    );
    let rows: [Row<'_>; 7] = [
        ("listed", &listed, &allowed, Ok(()), true),
        (
            "listed elsewhere",
            &elsewhere,
            &allowed,
            Err(unlisted),
            false,
        ),
        ("another listed", &other, &allowed, Err(wrong), false),
        ("ignored", &ignored, &allowed, Ok(()), false),
        ("all ignored", &all_ignored, &allowed, Ok(()), false),
        ("excluded", &excluded, &allowed, Ok(()), false),
        (
            "with an allowed digest that isn't its own",
            &listed,
            &forged,
            Err(not_its),
            false,
        ),
    ];
    let signed = entry("/f", &digest, Content::Signed(&signature));
    for (name, parts, said, wanted, learns) in rows {
        let policy = policy(parts);
        let mut judge = judge(&policy);
        let key = entry(".ima", said, Content::Buffer(&certificate));
        assert!(
            judge.judge(&signed).is_err(),
            "{name}: before the key was there"
        );
        assert_eq!(judge.judge(&key), wanted, "{name}");
        assert_eq!(judge.judge(&signed).is_ok(), learns, "{name}");
        // What was learnt counts for the lines to come.
        let mut next = Judge::new(
            &policy,
            judge.into_learnt(),
            &PcrDump::empty(HashAlg::Sha256),
        );
        assert_eq!(next.judge(&signed).is_ok(), learns, "{name}: next round");
    }
}

#[test]
fn buffers_pass_by_name_and_digest() {
    let buffer = b"name=device;state=1;";
    let digest = HashAlg::Sha256.digest([&buffer[..]]);
    let policy = policy(&[(
        "/ima-buf",
        json!({ "device_resume": [hex(&digest), hex(&A)] }),
    )]);
    let not_its = Refusal::Buffer {
        path: "device_resume".to_owned(),
        said: sha256(&A),
    };
    let elsewhere = unknown(Part::Buffers, "kexec-cmdline", &digest);
    let rows = [
        ("listed", "device_resume", &*digest, Ok(())),
        (
            "listed elsewhere",
            "kexec-cmdline",
            &*digest,
            Err(elsewhere),
        ),
        (
            "with a digest that isn't its own",
            "device_resume",
            &A,
            Err(not_its),
        ),
    ];
    for (name, path, digest, wanted) in rows {
        let entry = entry(path, digest, Content::Buffer(buffer));
        assert_eq!(judge(&policy).judge(&entry), wanted, "{name}");
    }
}

#[test]
fn keys_that_nothing_verifies_with_are_named() {
    // A key on secp256k1: Keylime's, that the published EC signature is by.
    let key = unhex(
        "3056301006072a8648ce3d020106052b8104000a034200049cd1f763fc4e4f045177c0fa869a1d44b9d5c7bd6a0d32ef247a2e9e8ee753b252cdc5d63753f12\
         be1d0121d55eec31dc01111e0a14a13adf9253bfa0be05106",
    );
    let policy = policy(&[("/verification-keys", keyring(&[&key]))]);
    let mut lines = Lines::new(KEYLIME.as_bytes());
    let mut refused = Vec::new();
    while let Some(entry) = lines.next() {
        let entry = entry.unwrap();
        if entry.path == b"/usr/bin/zmore" {
            refused.extend(judge(&policy).judge(&entry).err());
        }
    }
    let wanted = Refusal::KeyAlgorithm {
        path: "/usr/bin/zmore".to_owned(),
        id: 0x531f_4025,
        algorithm: "1.3.132.0.10".to_owned(),
    };
    assert_eq!(refused, [wanted]);
}

#[test]
fn lists_have_the_hash_that_the_policy_says() {
    let policy = policy(&[
        ("/ima/log_hash_alg", json!("sha256")),
        ("/digests", json!({ "/a": [hex(&A)] })),
    ]);
    let sha256 = ListHash::Sha2(HashAlg::Sha256);
    let refused = Err(Refusal::ListHash {
        got: ListHash::Sha1,
        want: sha256,
    });
    for (list_hash, wanted) in [(ListHash::Sha1, refused), (sha256, Ok(()))] {
        let file = Entry {
            list_hash,
            ..entry("/a", &A, Content::File)
        };
        assert_eq!(judge(&policy).judge(&file), wanted);
    }
}

#[test]
fn failures_have_keylimes_names() {
    let policy = policy(&[("/digests", json!({ "boot_aggregate": [hex(&A)] }))]);
    let mut judge = judge(&policy);
    let no_pcr = [];
    let result = check(
        KEYLIME.as_bytes(),
        HashAlg::Sha256,
        &Replayed::default(),
        &no_pcr,
        0,
        &mut judge,
    );
    let error = result.unwrap_err();
    assert_eq!(error.event(), "ima.validation.ima-ng.runtime_policy_hash");
    let empty: ImaError<Refusal> = check(
        b"",
        HashAlg::Sha256,
        &Replayed::default(),
        &no_pcr,
        0,
        &mut |_: &Entry<'_>| Ok(()),
    )
    .unwrap_err();
    assert_eq!(empty.event(), "ima.pcr_mismatch");
}
