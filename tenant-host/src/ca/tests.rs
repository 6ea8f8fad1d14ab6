#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::os::unix::fs::PermissionsExt;

use agent_core::wire::text::Uuid;
use time::Duration;
use zeroize::Zeroizing;

use super::*;

mod lists;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn agent() -> Uuid {
    Uuid::parse("d432fbb3-d2f1-4a97-9ef7-75bd81c00000").unwrap()
}

fn passphrase(text: &str) -> Option<Passphrase> {
    Passphrase::new(Zeroizing::new(text.to_owned()))
}

fn listing(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

fn with_crl<T>(
    der: &[u8],
    read: impl FnOnce(&x509_parser::prelude::CertificateRevocationList<'_>) -> T,
) -> T {
    let (rest, list) = x509_parser::prelude::CertificateRevocationList::from_der(der).unwrap();
    assert!(rest.is_empty());
    read(&list)
}

#[test]
fn a_new_directory_is_whole_and_its_keys_are_its_owners() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("deep/myca");
    let ca = CaDirectory::open_or_create(&directory, None, now()).unwrap();
    assert!(ca.was_created());
    for name in names::ALL {
        let mode = std::fs::metadata(directory.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        let wanted = if name.ends_with("private.pem") {
            0o600
        } else {
            0o644
        };
        assert_eq!(mode, wanted, "{name}");
    }
    assert_eq!(
        std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        std::fs::read_dir(root.path().join("deep")).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    drop(ca);
    assert!(
        !CaDirectory::open_or_create(&directory, None, now())
            .unwrap()
            .was_created()
    );
}

#[test]
fn ca_init_never_deletes() {
    let root = tempfile::tempdir().unwrap();
    for name in ["mine.pem", "mine.crt", "mine.zip", "mine.der"] {
        std::fs::write(root.path().join(name), name).unwrap();
    }
    drop(CaDirectory::open_or_create(root.path(), None, now()).unwrap());
    for name in ["mine.pem", "mine.crt", "mine.zip", "mine.der"] {
        assert_eq!(
            std::fs::read_to_string(root.path().join(name)).unwrap(),
            name
        );
    }
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        4 + names::ALL.len()
    );
    let before = listing(root.path());
    let again = CaDirectory::create(root.path(), KeyType::default(), None, now());
    assert!(matches!(again, Err(CaError::Exists { .. })));
    assert_eq!(listing(root.path()), before, "made twice");
    for (made, removed) in [("ca-private.pem", "cacert.crt"), ("serial", "cacert.crt")] {
        let half = tempfile::tempdir().unwrap();
        std::fs::copy(root.path().join(made), half.path().join(made)).unwrap();
        let refused = CaDirectory::create(half.path(), KeyType::default(), None, now());
        assert!(matches!(refused, Err(CaError::Half { .. })), "{removed}");
        assert_eq!(listing(half.path()).len(), 1);
    }
}

#[test]
fn what_others_put_in_the_way_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    let wish = |name: &str| LeafWish {
        name: name.to_owned(),
        ..LeafWish::default()
    };
    for suffix in ["private.pem", "public.pem", "cert.crt"] {
        let path = root.path().join(format!("web-{suffix}"));
        std::fs::write(&path, "mine").unwrap();
        let before = listing(root.path());
        assert!(ca.make(&wish("web"), None, now()).is_err(), "{suffix}");
        assert!(
            ca.identity(&Uuid::parse("web").unwrap(), None, now())
                .is_err()
        );
        assert_eq!(listing(root.path()), before, "{suffix}");
        std::fs::remove_file(path).unwrap();
    }
    ca.make(&wish("web"), None, now()).unwrap();
    let before = listing(root.path());
    let again = ca.make(&wish("web"), None, now());
    assert!(matches!(again, Err(CaError::StillValid { .. })));
    assert_eq!(listing(root.path()), before, "valid");
    for name in [
        "",
        ".web",
        "-web",
        "we/b",
        "../web",
        "we b",
        "ca",
        "crlsigner",
    ] {
        assert!(ca.make(&wish(name), None, now()).is_err(), "{name:?}");
    }
    assert!(ca.make(&wish(&"w".repeat(65)), None, now()).is_err());
    std::fs::write(root.path().join("index.txt"), "mine\n").unwrap();
    assert!(matches!(
        ca.make(&wish("db"), None, now()),
        Err(CaError::Index { line: 1, .. })
    ));
    let kept = std::fs::read_to_string(root.path().join("index.txt")).unwrap();
    assert_eq!(kept, "mine\n");
}

#[test]
fn what_cannot_be_used_is_left_as_it_is() {
    type Damage = fn(&Path);
    type Wanted = fn(&CaError) -> bool;
    let rows: [(&str, Damage, Wanted); 7] = [
        (
            "no certificate",
            |d| std::fs::remove_file(d.join("cacert.crt")).unwrap(),
            |e| matches!(e, CaError::Half { found, .. } if found.contains(&"ca-private.pem")),
        ),
        (
            "no key",
            |d| std::fs::remove_file(d.join("ca-private.pem")).unwrap(),
            |e| {
                matches!(
                    e,
                    CaError::Incomplete {
                        missing: "ca-private.pem",
                        ..
                    }
                )
            },
        ),
        (
            "Keylime's",
            |d| {
                std::fs::remove_file(d.join("ca-private.pem")).unwrap();
                std::fs::write(d.join("private.yml"), "").unwrap();
            },
            |e| matches!(e, CaError::Keylime { .. }),
        ),
        (
            "no list",
            |d| std::fs::remove_file(d.join("cacrl.der")).unwrap(),
            |e| {
                matches!(
                    e,
                    CaError::Incomplete {
                        missing: "cacrl.der",
                        ..
                    }
                )
            },
        ),
        (
            "another key",
            |d| {
                let key = KeyPair::generate().unwrap();
                std::fs::write(d.join("ca-private.pem"), key.serialize_pem()).unwrap();
            },
            |e| matches!(e, CaError::Certificate { .. }),
        ),
        (
            "a key that is none",
            |d| std::fs::write(d.join("ca-private.pem"), "x").unwrap(),
            |e| matches!(e, CaError::Key { .. }),
        ),
        (
            "a certificate that is none",
            |d| std::fs::write(d.join("cacert.crt"), "x").unwrap(),
            |e| matches!(e, CaError::Certificate { .. }),
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    drop(CaDirectory::open_or_create(&whole, None, now()).unwrap());
    for (name, damage, wanted) in rows {
        let directory = root.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        for (file, bytes) in listing(&whole) {
            std::fs::write(directory.join(file), bytes).unwrap();
        }
        damage(&directory);
        let before = listing(&directory);
        let error = CaDirectory::open_or_create(&directory, None, now())
            .err()
            .unwrap();
        assert!(wanted(&error), "{name}: {error:?}");
        assert_eq!(listing(&directory), before, "{name}");
    }
}

#[test]
fn crl_is_valid_tomorrow() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(&root.path().join("ca"), None, now()).unwrap();
    let identity = ca.identity(&agent(), None, now()).unwrap();
    with_crl(&identity.crl_der, |list| {
        assert!(list.last_update().to_datetime() < now() - Duration::hours(12));
        assert!(list.next_update().unwrap().to_datetime() > now() + Duration::days(7));
    });
    let later = now() + Duration::days(20);
    let renewed = ca.identity(&agent(), None, later).unwrap();
    with_crl(&renewed.crl_der, |list| {
        assert!(list.next_update().unwrap().to_datetime() > later + Duration::days(7));
        assert_eq!(list.crl_number().unwrap().to_u64_digits(), [2]);
    });
}

#[test]
fn cert_valid_on_slow_clock() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(&root.path().join("ca"), None, now()).unwrap();
    let identity = ca.identity(&agent(), None, now()).unwrap();
    for pem in [
        &identity.certificate_pem,
        &identity.ca_certificate_pem,
        &identity.notifier_certificate_pem,
    ] {
        with_certificate(Path::new("-"), pem, |certificate| {
            assert!(certificate.validity().not_before.to_datetime() < now() - Duration::days(1));
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_node_keeps_its_identity_until_its_end_is_near() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(&root.path().join("ca"), None, now()).unwrap();
    let first = ca.identity(&agent(), None, now()).unwrap();
    assert_eq!(
        (first.serial, first.subject.as_str()),
        (3, "CN=d432fbb3-d2f1-4a97-9ef7-75bd81c00000")
    );
    let again = ca.identity(&agent(), None, now()).unwrap();
    assert_eq!(again.certificate_pem, first.certificate_pem);
    let other = ca
        .identity(&Uuid::parse("other").unwrap(), None, now())
        .unwrap();
    assert_eq!(other.serial, 4);
    let renewed = ca
        .identity(&agent(), None, now() + Duration::days(350))
        .unwrap();
    assert_eq!(renewed.serial, 5);
    assert_ne!(renewed.certificate_pem, first.certificate_pem);
}

#[test]
fn a_certificate_of_another_authority_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let one = CaDirectory::open_or_create(&root.path().join("one"), None, now()).unwrap();
    let two = CaDirectory::open_or_create(&root.path().join("two"), None, now()).unwrap();
    let identity = one.identity(&agent(), None, now()).unwrap();
    let path = two.path().join(format!("{}-cert.crt", agent()));
    std::fs::write(&path, &identity.certificate_pem).unwrap();
    assert!(matches!(
        two.identity(&agent(), None, now()),
        Err(CaError::Certificate { .. })
    ));
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        identity.certificate_pem
    );
}

#[test]
fn names_of_the_authority_are_reserved() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(&root.path().join("ca"), None, now()).unwrap();
    for name in ["ca", "CA", "RevocationNotifier", "CrlSigner"] {
        let uuid = Uuid::parse(name).unwrap();
        assert!(
            matches!(
                ca.identity(&uuid, None, now()),
                Err(CaError::ReservedName { .. })
            ),
            "{name}"
        );
    }
}

#[test]
fn a_passphrase_encrypts_every_key() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("ca");
    let right = passphrase("correct horse\n");
    let ca = CaDirectory::open_or_create(&directory, right.as_ref(), now()).unwrap();
    let identity = ca.identity(&agent(), right.as_ref(), now()).unwrap();
    assert!(
        identity
            .private_pem
            .starts_with("-----BEGIN PRIVATE KEY-----")
    );
    drop(ca);
    for (name, bytes) in listing(&directory) {
        let clear = String::from_utf8_lossy(&bytes).contains("BEGIN PRIVATE KEY");
        assert!(!clear, "{name}");
    }
    let error = |passphrase: Option<Passphrase>| {
        CaDirectory::open_or_create(&directory, passphrase.as_ref(), now())
            .err()
            .unwrap()
    };
    assert!(matches!(error(None), CaError::PassphraseNeeded { .. }));
    assert!(matches!(
        error(passphrase("wrong")),
        CaError::PassphraseWrong { .. }
    ));
    let clear = root.path().join("clear");
    drop(CaDirectory::open_or_create(&clear, None, now()).unwrap());
    let refused = CaDirectory::open_or_create(&clear, right.as_ref(), now());
    assert!(matches!(refused, Err(CaError::NotEncrypted { .. })));
    let again = passphrase("correct horse");
    assert!(CaDirectory::open_or_create(&directory, again.as_ref(), now()).is_ok());
}

#[test]
fn two_tenants_at_once_make_one_authority() {
    const TENANTS: usize = 5;
    const EACH: usize = 10;
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("ca");
    let mut serials: Vec<u64> = std::thread::scope(|scope| {
        let tenants: Vec<_> = (0..TENANTS)
            .map(|tenant| {
                let directory = &directory;
                scope.spawn(move || {
                    let make = |number: usize| {
                        let ca = CaDirectory::open_or_create(directory, None, now()).unwrap();
                        let wish = LeafWish {
                            name: format!("node-{tenant}-{number}"),
                            ..LeafWish::default()
                        };
                        ca.make(&wish, None, now()).unwrap().issued.serial
                    };
                    (0..EACH).map(make).collect::<Vec<_>>()
                })
            })
            .collect();
        tenants
            .into_iter()
            .flat_map(|tenant| tenant.join().unwrap())
            .collect()
    });
    serials.sort_unstable();
    let wanted: Vec<u64> = (3..53).collect();
    assert_eq!(serials, wanted);
    let files = CaFiles::open(&directory).unwrap();
    let index: Vec<u64> = Index::read(&directory)
        .unwrap()
        .iter()
        .map(|issued| issued.serial)
        .collect();
    // The notifier's certificate is number 2.
    assert_eq!(index, (2..53).collect::<Vec<u64>>());
    assert_eq!(files.issued().unwrap().len(), index.len());
}
