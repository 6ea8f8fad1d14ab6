use agent_core::wire::route::ApiVersion;
use rand::rngs::SysRng;
use rsa::PrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

use super::*;
use crate::rounds::terms::TermsText;
use crate::store::nodes::{Notifier, Secrets};

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    pem: Zeroizing<String>,
    anchor: AnchorName,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let key = PrivateKey::new(&mut SysRng, 2048).unwrap();
    let pem = Zeroizing::new(
        key.to_pkcs8_pem(LineEnding::LF)
            .unwrap()
            .as_str()
            .to_owned(),
    );
    let anchor = NotifierKey::from_pem(&pem).unwrap().anchor().unwrap();
    World {
        _dir: dir,
        store,
        pem,
        anchor,
    }
}

fn terms(metadata: &str) -> TermsText {
    TermsText {
        ip: "127.0.0.1".into(),
        port: 9002,
        verifier_ip: "127.0.0.1".into(),
        verifier_port: 8881,
        tpm_policy: "{}".into(),
        runtime_policy: None,
        mb_policy: None,
        metadata: metadata.into(),
        accept_tpm_hash_algs: vec![],
        accept_tpm_encryption_algs: vec![],
        accept_tpm_signing_algs: vec![],
        ak_tpm: String::new(),
        mtls_cert: String::new(),
        supported_version: ApiVersion::NEWEST,
    }
}

impl World {
    /// Adds a node with the key, in this group.
    async fn add(&self, name: &str, group: &str) -> StoredLog {
        let secrets = Secrets {
            v: None,
            notifier: Some(Notifier {
                pem: self.pem.clone(),
                anchor: self.anchor.clone(),
                group: Group::parse(Some(group)).unwrap(),
            }),
        };
        let progress = Progress::new(ApiVersion::NEWEST);
        let (id, terms) = (Uuid::parse(name).unwrap(), terms("{}"));
        let inserted = self
            .store
            .insert_node(&id, &terms, &progress, &secrets, &[])
            .await;
        inserted.unwrap().unwrap().log.unwrap()
    }

    async fn append(&self, log: &StoredLog, number: u64) -> bool {
        let append = Append {
            entries: vec![(&log.log_id, entry(number))],
            ..Append::default()
        };
        self.store.append(append).await.unwrap()
    }

    async fn delete(&self, name: &str) {
        let id = Uuid::parse(name).unwrap();
        assert!(self.store.delete_node(&id).await.unwrap());
    }
}

fn entry(number: u64) -> StoredEntry {
    StoredEntry {
        number,
        uuid: Some("node".into()),
        kind: Kind::Revocation,
        at: 1,
        operator: false,
        reason: "words".into(),
        cert_serial: Some("2".into()),
        msg: format!("message {number}"),
        signature: "c2ln".into(),
    }
}

#[tokio::test]
async fn entries_are_appended_one_after_the_other() {
    let world = world().await;
    let log = world.add("node", "").await;
    assert_eq!((log.number, log.previous.as_str()), (0, NO_PREVIOUS));
    for (number, taken) in [(2, false), (1, true), (1, false), (3, false), (2, true)] {
        assert_eq!(world.append(&log, number).await, taken, "{number}");
    }
    let found = world.store.entries(&log.log_id, 1, 9).await.unwrap();
    assert_eq!(found, [entry(2)]);
    let log = world.store.revocation_logs().await.unwrap().remove(0);
    assert_eq!((log.number, log.previous), (2, digest("message 2")));
}

#[tokio::test]
async fn failure_and_entry_are_written_together_or_not_at_all() {
    let world = world().await;
    let log = world.add("node", "").await;
    let id = Uuid::parse("node").unwrap();
    let mut progress = Progress::new(ApiVersion::NEWEST);
    progress.standing.passed = true;
    for (number, written) in [(2, false), (1, true)] {
        let append = Append {
            entries: vec![(&log.log_id, entry(number))],
            node: Some((&id, &progress)),
            ..Append::default()
        };
        assert_eq!(world.store.append(append).await.unwrap(), written);
        let text: String = sqlx::query_scalar("SELECT progress FROM nodes")
            .fetch_one(world.store.reader())
            .await
            .unwrap();
        let found: Progress = serde_json::from_str(&text).unwrap();
        assert_eq!(found.standing.passed, written, "{number}");
    }
}

#[tokio::test]
async fn key_is_sealed_and_goes_with_the_last_node_of_its_anchor() {
    let world = world().await;
    let (north, south) = (world.add("a", "north").await, world.add("b", "south").await);
    assert_ne!(north.log_id, south.log_id);
    assert_eq!(world.add("c", "north").await.log_id, north.log_id);
    let key = || async { world.store.notifier_key(&world.anchor).await.unwrap() };
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT key FROM revocation_anchors")
        .fetch_one(world.store.reader())
        .await
        .unwrap();
    let line = world.pem.lines().nth(3).unwrap().as_bytes();
    assert!(!sealed.windows(line.len()).any(|part| part == line));
    for (name, there) in [("a", true), ("c", true), ("b", false)] {
        assert_eq!(*key().await.unwrap(), world.pem.as_bytes());
        world.delete(name).await;
        assert_eq!(key().await.is_some(), there, "{name}");
    }
    assert!(world.append(&north, 1).await, "entries outlive nodes");
    assert_eq!(world.add("d", "north").await.number, 1);
    assert!(key().await.is_some());
}

#[tokio::test]
async fn nodes_of_older_databases_get_their_logs() {
    let world = world().await;
    let north = world.add("new", "north").await;
    for (name, metadata) in [
        ("old", r#"{"group": "north"}"#),
        ("alone", "{}"),
        ("odd", r#"{"group": "a b"}"#),
    ] {
        let sealed = world
            .store
            .at_rest()
            .seal(name, "revocation_key", world.pem.as_bytes());
        sqlx::query(
            "INSERT INTO nodes (uuid, terms, progress, revocation_key) VALUES (?, ?, '{}', ?)",
        )
        .bind(name)
        .bind(serde_json::to_string(&terms(metadata)).unwrap())
        .bind(sealed.unwrap())
        .execute(world.store.writer())
        .await
        .unwrap();
    }
    for adopted in [3, 0] {
        assert_eq!(world.store.adopt_revocation_keys().await.unwrap(), adopted);
    }
    let peers = world.store.revocation_peers().await.unwrap();
    let log = |name: &str| peers[name].log_id.clone();
    assert_eq!(log("old"), north.log_id);
    assert_eq!(
        log("alone"),
        log("odd"),
        "those without a group, or without one that can be"
    );
    assert_ne!(log("alone"), north.log_id);
}

#[tokio::test]
async fn nothing_is_written_where_nothing_is_new() {
    let world = world().await;
    let log = world.add("node", "").await;
    let id = Uuid::parse("node").unwrap();
    let changes = || async {
        sqlx::query_scalar::<_, i64>("SELECT total_changes()")
            .fetch_one(world.store.writer())
            .await
            .unwrap()
    };
    let outcomes = [(1, "{}".to_owned())];
    let mut before = changes().await;
    for (name, position, at, written) in [
        ("the first time", 1, 5, true),
        ("the same later", 1, 6, false),
        ("another position", 0, 7, true),
    ] {
        let report = Report {
            log_id: &log.log_id,
            position,
            speaks: Speaks::Log,
            at,
            outcomes: &outcomes,
        };
        world.store.reported(&id, report).await.unwrap();
        let now = changes().await;
        assert_eq!(now > before, written, "{name}");
        before = now;
    }
    let peer = world.store.revocation_peers().await.unwrap().remove("node");
    assert_eq!(peer.unwrap().since, Some(7));
    let found = world.store.outcomes(&log.log_id, 1).await.unwrap();
    assert_eq!(found["node"], "{}");
    world.delete("node").await;
    assert!(
        world
            .store
            .outcomes(&log.log_id, 1)
            .await
            .unwrap()
            .is_empty()
    );
}
