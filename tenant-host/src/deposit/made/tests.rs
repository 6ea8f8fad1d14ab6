#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::{Cursor, Read as _};
use std::path::Path;

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::segment::{Binding, SEGMENT_BYTES, Segments, open};
use agent_core::wire::manifest::{CapPcr, Deliver};
use agent_core::wire::quote::HashAlg;
use agent_core::wire::text::Uuid;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::Value;
use time::OffsetDateTime;

use super::*;
use crate::ca::{CaDirectory, is_signed_by};
use crate::deposit::software::SoftwareNode;
use crate::seal::{SealError, list_file, list_tree};

const NOW: u64 = 1_800_000_000;

fn uuid() -> Uuid {
    Uuid::parse("node-1").unwrap()
}

fn terms() -> Terms {
    Terms {
        deliver: Deliver::Once,
        floor: Some(3),
        script: Some("autorun.sh".to_owned()),
        last_good_seconds: Some(60),
        cap: CapPcr::at_zero(15, HashAlg::Sha256),
    }
}

fn ca(root: &Path) -> CaDirectory {
    CaDirectory::open_or_create(&root.join("ca"), None, OffsetDateTime::now_utc()).unwrap()
}

fn signer(root: &Path) -> PayloadSigner {
    ca(root)
        .payload_signer(None, OffsetDateTime::now_utc())
        .unwrap()
}

fn made(root: &Path, tree: &Path, node: &SoftwareNode, terms: Terms) -> Result<Made, MakeError> {
    let identity = ca(root)
        .identity(&uuid(), None, OffsetDateTime::now_utc())
        .unwrap();
    let sealed = SealedFile::make(&uuid(), Some(&identity), &list_tree(tree).unwrap()).unwrap();
    let (ek, ak) = (node.ek(), node.ak());
    let to = Recipient { ek: &ek, ak: &ak };
    Made::new(sealed, to, terms, [9; 32], &signer(root), NOW)
}

fn member(body: &Value, name: &str) -> Vec<u8> {
    BASE64.decode(body[name].as_str().unwrap()).unwrap()
}

/// Opens a deposit as the node does: the blob by its TPM, V as it was deposited, then each segment.
fn opened(body: &Value, sealed: &[u8], node: &SoftwareNode, agent: &Uuid) -> Option<Vec<u8>> {
    let manifest = Manifest::parse(&member(body, "manifest")).unwrap();
    let u = Half::from_slice(&node.activate(&member(body, "u_blob"))?).ok()?;
    let key: Key = u
        .combine(&Half::from_slice(&member(body, "v")).ok()?)
        .ok()?;
    if !key.matches(agent.as_str().as_bytes(), &manifest.auth_tag) {
        return None;
    }
    let segments = Segments::of_sealed(sealed.len() as u64)?;
    let (payload_id, count) = (manifest.payload_id, segments.count());
    let binding = Binding {
        agent,
        payload_id,
        count,
    };
    let mut plain = Vec::new();
    for number in 0..count {
        let (start, size) = segments.place(number)?;
        let start = usize::try_from(start).unwrap();
        let mut segment = sealed[start..start + size].to_vec();
        plain.extend_from_slice(open(&key, &binding, number, &mut segment).ok()?);
    }
    Some(plain)
}

#[test]
fn what_is_sealed_opens_on_its_node_alone() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("payload");
    std::fs::create_dir_all(tree.join("deep")).unwrap();
    let mut noise = vec![0; 3 * SEGMENT_BYTES];
    SysRng.try_fill_bytes(&mut noise).unwrap();
    std::fs::write(tree.join("deep/noise"), &noise).unwrap();
    std::fs::write(tree.join("autorun.sh"), "#!/bin/sh\n").unwrap();
    let node = SoftwareNode::new();
    let made = made(root.path(), &tree, &node, terms()).unwrap();
    let body: Value = serde_json::from_slice(&made.to_body(false).unwrap()).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 5, "no allow_weak_policy");
    let insisting: Value = serde_json::from_slice(&made.to_body(true).unwrap()).unwrap();
    assert_eq!(insisting["allow_weak_policy"], Value::Bool(true));
    let mut sealed = Vec::new();
    made.sealed
        .reader()
        .unwrap()
        .read_to_end(&mut sealed)
        .unwrap();
    let mut again = Vec::new();
    made.sealed
        .reader()
        .unwrap()
        .read_to_end(&mut again)
        .unwrap();
    assert_eq!(sealed, again, "each upload begins at the start");

    let plain = opened(&body, &sealed, &node, &uuid()).unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(plain)).unwrap();
    assert!(archive.by_name("node-1-private.pem").is_ok());
    let mut content = Vec::new();
    archive
        .by_name("deep/noise")
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    assert!(content == noise);

    let other = Uuid::parse("node-2").unwrap();
    assert!(opened(&body, &sealed, &SoftwareNode::new(), &uuid()).is_none());
    assert!(opened(&body, &sealed, &node, &other).is_none());
    let mut swapped = sealed.clone();
    let (first, rest) = swapped.split_at_mut(SEGMENT_BYTES + 16);
    first.swap_with_slice(&mut rest[..SEGMENT_BYTES + 16]);
    assert!(opened(&body, &swapped, &node, &uuid()).is_none());
}

#[test]
fn the_manifest_says_what_was_sealed() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("payload");
    std::fs::create_dir_all(&tree).unwrap();
    let node = SoftwareNode::new();
    let made = made(root.path(), &tree, &node, terms()).unwrap();
    let body: Value = serde_json::from_slice(&made.to_body(false).unwrap()).unwrap();
    let bytes = member(&body, "manifest");
    assert_eq!(bytes, made.manifest_bytes);
    let manifest = Manifest::parse(&bytes).unwrap();
    assert_eq!(manifest, made.manifest);
    let mut sealed = Vec::new();
    made.sealed
        .reader()
        .unwrap()
        .read_to_end(&mut sealed)
        .unwrap();
    let digest = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
    let wanted = Manifest {
        agent: uuid(),
        ek_name: node.ek().name().as_bytes().try_into().unwrap(),
        ak_name: node.ak().name().as_bytes().try_into().unwrap(),
        payload_id: made.sealed.payload_id(),
        floor: Some(3),
        sealed_sha256: digest(&sealed),
        sealed_bytes: sealed.len() as u64,
        auth_tag: made.sealed.auth_tag(),
        u_blob_sha256: digest(&member(&body, "u_blob")),
        policy_sha256: [9; 32],
        cap: CapPcr::at_zero(15, HashAlg::Sha256),
        deliver: Deliver::Once,
        script: Some("autorun.sh".try_into().unwrap()),
        sealed_at: NOW,
        last_good_seconds: Some(60),
    };
    assert_eq!(manifest, wanted);
    let (signer_der, signature) = (member(&body, "signer"), member(&body, "signature"));
    assert_eq!(signer_der, signer(root.path()).certificate());
    assert!(is_signed_by(&signer_der, &bytes, &signature));
    let mut other = bytes;
    other[10] ^= 1;
    assert!(!is_signed_by(&signer_der, &other, &signature));
}

#[test]
fn no_two_deposits_are_alike() {
    let root = tempfile::tempdir().unwrap();
    let node = SoftwareNode::new();
    let deposits = [0, 1].map(|_| {
        let tree = root.path().join("payload");
        std::fs::create_dir_all(&tree).unwrap();
        let made = made(root.path(), &tree, &node, terms()).unwrap();
        let body = made.to_body(false).unwrap();
        (
            made.manifest,
            serde_json::from_slice::<Value>(&body).unwrap(),
        )
    });
    let [(one, first), (other, second)] = &deposits;
    assert_ne!(one.payload_id, other.payload_id);
    assert_ne!(one.auth_tag, other.auth_tag);
    for name in ["v", "u_blob", "manifest"] {
        assert_ne!(first[name], second[name], "{name}");
    }
}

#[test]
fn what_no_node_would_take_is_not_signed() {
    let root = tempfile::tempdir().unwrap();
    let node = SoftwareNode::new();
    for (name, terms, member) in [
        (
            "PCR 16",
            Terms {
                cap: CapPcr::at_zero(16, HashAlg::Sha256),
                ..terms()
            },
            "cap_pcr",
        ),
        (
            "PCR 24",
            Terms {
                cap: CapPcr::at_zero(24, HashAlg::Sha256),
                ..terms()
            },
            "cap_pcr",
        ),
        (
            "a path",
            Terms {
                script: Some("a/b".to_owned()),
                ..terms()
            },
            "script",
        ),
    ] {
        let tree = root.path().join("payload");
        std::fs::create_dir_all(&tree).unwrap();
        let result = made(root.path(), &tree, &node, terms);
        let wanted = MakeError::Manifest(ManifestError::Member { name: member }).to_string();
        assert_eq!(result.err().unwrap().to_string(), wanted, "{name}");
    }
}

#[test]
fn a_file_alone_is_a_zip_with_its_name() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("secret.txt");
    std::fs::write(&path, "a secret").unwrap();
    let node = SoftwareNode::new();
    let sealed = SealedFile::make(&uuid(), None, &[list_file(&path).unwrap()]).unwrap();
    assert_eq!(
        (sealed.names(), sealed.unpacked_bytes()),
        (&["secret.txt".to_owned()][..], 8)
    );
    let (ek, ak) = (node.ek(), node.ak());
    let to = Recipient { ek: &ek, ak: &ak };
    let terms = Terms {
        script: None,
        ..terms()
    };
    let made = Made::new(sealed, to, terms, [0; 32], &signer(root.path()), NOW).unwrap();
    let body: Value = serde_json::from_slice(&made.to_body(false).unwrap()).unwrap();
    let mut bytes = Vec::new();
    made.sealed
        .reader()
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let plain = opened(&body, &bytes, &node, &uuid()).unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(plain)).unwrap();
    assert_eq!(archive.len(), 1);
    let mut text = String::new();
    archive
        .by_index(0)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "a secret");
    assert!(matches!(
        list_file(root.path()),
        Err(SealError::NotAFile { .. })
    ));
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    for (name, later) in [("longer", "123456"), ("shorter", "12"), ("other", "")] {
        std::fs::write(&path, "1234").unwrap();
        let entry = list_file(&path).unwrap();
        if later.is_empty() {
            std::fs::write(root.path().join("new"), "4321").unwrap();
            std::fs::rename(root.path().join("new"), &path).unwrap();
        } else {
            std::fs::write(&path, later).unwrap();
        }
        let result = SealedFile::make(&uuid(), None, &[entry]);
        assert!(matches!(result, Err(SealError::Changed { .. })), "{name}");
    }
}

#[test]
fn policies_have_one_digest() {
    let by_hand: [u8; 32] = Sha256::digest(b"{}\0runtime\0boot").into();
    assert_eq!(policy_sha256("{}", b"runtime", "boot"), by_hand);
    assert_ne!(
        policy_sha256("{}", b"runtime\0boot", ""),
        policy_sha256("{}", b"", "boot")
    );
}
