#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::{PermissionsExt, symlink};

use time::OffsetDateTime;
use zip::ZipArchive;

use super::*;
use crate::ca::{CaDirectory, NodeIdentity};
use agent_core::wire::text::Uuid;

const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

fn identity(root: &Path) -> NodeIdentity {
    let now = OffsetDateTime::now_utc();
    let ca = CaDirectory::open_or_create(&root.join("ca"), None, now).unwrap();
    ca.identity(&Uuid::parse(UUID).unwrap(), None, now).unwrap()
}

fn put(root: &Path, name: &str, content: &[u8], mode: u32) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn open(sealed: &Sealed) -> Vec<u8> {
    let mut bytes = sealed.bytes().to_vec();
    let key = sealed.u().combine(sealed.v()).unwrap();
    open_single(&key, &mut bytes).unwrap().to_vec()
}

#[test]
fn include_tree_with_modes() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("payload");
    put(&tree, "autorun.sh", b"#!/bin/sh\n", 0o4755);
    put(&tree, "deep/er/key", &[7; 5000], 0o600);
    fs::create_dir_all(tree.join("empty")).unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o710)).unwrap();
    let mut identity = identity(root.path());
    identity.log_start = Some("{}".to_owned());
    let (zip, unpacked) = package(UUID, &identity, &read_tree(&tree).unwrap()).unwrap();

    let mut archive = ZipArchive::new(Cursor::new(zip.as_slice())).unwrap();
    let mut names = Vec::new();
    let mut found = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        names.push(file.name().to_owned());
        found.insert(
            file.name().to_owned(),
            (file.unix_mode().unwrap() & 0o7777, content),
        );
    }
    let first = ["public.pem", "cert.crt", "private.pem"].map(|name| format!("{UUID}-{name}"));
    assert_eq!(&names[..3], &first);
    assert_eq!(
        &names[3..8],
        &[
            "cacert.crt",
            "cacrl.der",
            "cacrl.pem",
            "RevocationNotifier-cert.crt",
            "revocation_log.json"
        ]
    );
    assert!(names[..8].iter().all(|name| found[name].0 == 0o600));
    assert_eq!(
        &names[8..],
        &["autorun.sh", "deep/", "deep/er/", "deep/er/key", "empty/"]
    );
    assert_eq!(found["autorun.sh"], (0o755, b"#!/bin/sh\n".to_vec()));
    assert_eq!(found["deep/er/key"], (0o600, vec![7; 5000]));
    assert_eq!(found["empty/"].0, 0o710);
    assert_eq!(
        unpacked,
        found
            .values()
            .map(|(_, content)| content.len() as u64)
            .sum::<u64>()
    );
}

#[test]
fn a_package_is_written_without_growing() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("payload");
    for number in 0..200 {
        let noise = random::<2000>().unwrap();
        put(
            &tree,
            &format!("a-rather-long-name-of-a-file-number-{number}"),
            noise.as_slice(),
            0o644,
        );
    }
    let (own, entries) = (identity(root.path()), read_tree(&tree).unwrap());
    let (zip, _) = package(UUID, &own, &entries).unwrap();
    assert!(zip.capacity() > zip.len() && zip.capacity() < 2 * zip.len() + (1 << 18));
}

#[test]
fn agents_take_what_is_packed() {
    let root = tempfile::tempdir().unwrap();
    let own = identity(root.path());
    let tree = root.path().join("payload");
    put(&tree, "zeros", &vec![0; 7 << 20], 0o644);
    let (zip, unpacked) = package(UUID, &own, &read_tree(&tree).unwrap()).unwrap();
    assert!(
        zip.len() as u64 > unpacked,
        "what looks like a bomb is stored"
    );
    for number in 0..1014 {
        put(&tree, &format!("{number}"), b"", 0o644);
    }
    assert_eq!(read_tree(&tree).unwrap().len(), 1015);
    put(&tree, "one too many", b"", 0o644);
    let error = read_tree(&tree).err().unwrap();
    assert!(
        matches!(error, SealError::TooMany { limit: 1015 }),
        "{error}"
    );
}

#[test]
fn include_missing_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(
        read_tree(&root.path().join("none")),
        Err(SealError::Read { .. })
    ));
    put(root.path(), "file", b"", 0o600);
    assert!(matches!(
        read_tree(&root.path().join("file")),
        Err(SealError::NotADirectory { .. })
    ));
}

#[test]
fn what_cannot_be_delivered_is_named() {
    type Wanted = fn(&SealError) -> bool;
    type Make = fn(&Path);
    let rows: [(&str, Make, Wanted); 4] = [
        (
            "symlink",
            |d| symlink("/etc/shadow", d.join("x")).unwrap(),
            |e| matches!(e, SealError::Special { path, kind: "a symbolic link" } if path.ends_with("x")),
        ),
        (
            "socket",
            |d| drop(std::os::unix::net::UnixListener::bind(d.join("s")).unwrap()),
            |e| {
                matches!(
                    e,
                    SealError::Special {
                        kind: "a socket",
                        ..
                    }
                )
            },
        ),
        (
            "backslash",
            |d| fs::write(d.join("a\\b"), "").unwrap(),
            |e| matches!(e, SealError::Name { .. }),
        ),
        (
            "too deep",
            |d| fs::create_dir_all(d.join("d/".repeat(17))).unwrap(),
            |e| matches!(e, SealError::Name { .. }),
        ),
    ];
    for (name, make, wanted) in rows {
        let root = tempfile::tempdir().unwrap();
        make(root.path());
        let error = read_tree(root.path()).err().unwrap();
        assert!(wanted(&error), "{name}: {error}");
    }
}

#[test]
fn a_file_of_the_package_cannot_be_replaced() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("payload");
    put(&tree, "cacert.crt", b"", 0o600);
    let own = identity(root.path());
    let result = package(UUID, &own, &read_tree(&tree).unwrap());
    assert!(matches!(result, Err(SealError::Taken { name }) if name == "cacert.crt"));
}

#[test]
fn plain_file_payload() {
    let sealed = seal(b"not a zip", None).unwrap();
    assert_eq!(sealed.bytes().len(), 9 + OVERHEAD_BYTES);
    assert_eq!(open(&sealed), b"not a zip");
    let key = sealed.u().combine(sealed.v()).unwrap();
    assert_eq!(sealed.tag(UUID), hex(&key.auth_tag(UUID.as_bytes())));
    let other = seal(b"not a zip", None).unwrap();
    assert_ne!(
        other.bytes(),
        sealed.bytes(),
        "each payload has its own key and nonce"
    );
}

#[test]
fn a_payload_sealed_elsewhere_is_checked() {
    let root = tempfile::tempdir().unwrap();
    let sealed = seal(b"secret", None).unwrap();
    let key = sealed.u().combine(sealed.v()).unwrap();
    let [k, u, v] = [key.as_bytes(), sealed.u().as_bytes(), sealed.v().as_bytes()]
        .map(|part| BASE64.encode(part));
    let payload = BASE64.encode(sealed.bytes());
    let other = BASE64.encode(seal(b"other", None).unwrap().bytes());
    type Wanted = fn(&Result<Sealed, SealError>) -> bool;
    let is_key: Wanted = |result| matches!(result, Err(SealError::KeyFile { .. }));
    let rows: [(&str, String, &str, Wanted); 7] = [
        ("good", format!("{k}\n{u}\n{v}\n"), &payload, Result::is_ok),
        (
            "halves swapped",
            format!("{k}\n{v}\n{u}"),
            &payload,
            Result::is_ok,
        ),
        ("wrong half", format!("{k}\n{k}\n{v}\n"), &payload, is_key),
        ("line missing", format!("{k}\n{u}\n"), &payload, is_key),
        ("short key", format!("AAAA\n{u}\n{v}\n"), &payload, is_key),
        ("no base64", format!("?\n{u}\n{v}\n"), &payload, is_key),
        (
            "another payload",
            format!("{k}\n{u}\n{v}\n"),
            &other,
            |result| matches!(result, Err(SealError::WrongKey { .. })),
        ),
    ];
    for (name, key_text, payload_text, wanted) in rows {
        let (key_file, payload_file) = (root.path().join("key"), root.path().join("payload"));
        fs::write(&key_file, key_text).unwrap();
        fs::write(&payload_file, payload_text).unwrap();
        assert!(
            wanted(&sealed_elsewhere(&key_file, &payload_file)),
            "{name}"
        );
    }
}
