//! Nodes that read their logs by themselves, and say how far they are.

use std::sync::LazyLock;

use agent_core::wire::manifest::Deliver;
use axum::body::Body;
use rand::rngs::SysRng;
use rsa::PrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::{Value, json};

use super::world::{InSession, Machine, World, release_key};

static PEM: LazyLock<String> = LazyLock::new(|| {
    let key = PrivateKey::new(&mut SysRng, 2048).unwrap();
    key.to_pkcs8_pem(LineEnding::LF)
        .unwrap()
        .as_str()
        .to_owned()
});

/// A node with the key, in a session.
async fn with_key(world: &World, id: &str) -> (Machine, InSession) {
    let node = Machine::new(id);
    node.register(world).await;
    let mut body = node.addition(&json!({}));
    body["revocation_key"] = PEM.as_str().into();
    let line = format!("POST /v2.6/agents/{id}");
    assert_eq!(world.tenant(&line, &body).await.said(), "200");
    let session = node.session(world).await;
    (node, session)
}

async fn revoke(world: &World, id: &str) -> String {
    let body = json!({ "agent_id": id, "reason": "it was stolen" });
    world.tenant("POST /v2.6/revocations", &body).await.said()
}

/// What a node reads, or how that is refused.
async fn read(world: &World, session: &InSession, id: &str, query: &str) -> Result<Value, String> {
    let line = format!("GET /v3.0/agents/{id}/revocations{query}");
    let reply = world.ask(&session.who, &line, &Value::Null).await;
    let data = reply.json()["data"].clone();
    if reply.status == 200 {
        assert_eq!(data["type"], "revocations");
        Ok(data["attributes"].clone())
    } else {
        Err(reply.said())
    }
}

fn numbers(attributes: &Value) -> Vec<u64> {
    let entries = attributes["entries"].as_array().unwrap().iter();
    let number = |entry: &Value| {
        let msg: Value = serde_json::from_str(entry["msg"].as_str().unwrap()).unwrap();
        msg["number"].as_u64().unwrap()
    };
    entries.map(number).collect()
}

async fn say(world: &World, session: &InSession, attributes: &Value) -> String {
    let body = json!({ "data": { "type": "revocation_outcomes", "attributes": attributes } });
    let line = "POST /v3.0/agents/reader/revocations/outcomes";
    world.ask(&session.who, line, &body).await.said()
}

#[tokio::test]
async fn node_reads_its_log_and_reports() {
    let world = World::start().await;
    let (_failing, own) = with_key(&world, "failing").await;
    let (_reader, session) = with_key(&world, "reader").await;
    let before = read(&world, &session, "reader", "").await.unwrap();
    assert_eq!((&before["last"], numbers(&before)), (&json!(0), vec![]));
    let log_id = before["log_id"].as_str().unwrap();
    for _ in 0..3 {
        assert_eq!(revoke(&world, "failing").await, "200");
    }
    let other = "?log_id=another&after=2";
    let (known, end) = (
        format!("?log_id={log_id}&after=2"),
        format!("?after=9&log_id={log_id}"),
    );
    for (query, expected) in [
        ("", vec![1, 2, 3]),
        (&known, vec![3]),
        (&end, vec![]),
        (other, vec![1, 2, 3]),
    ] {
        let found = read(&world, &session, "reader", query).await.unwrap();
        assert_eq!(
            (numbers(&found), &found["last"]),
            (expected, &json!(3)),
            "{query}"
        );
    }
    let refused = read(&world, &session, "reader", "?after=x")
        .await
        .unwrap_err();
    assert_eq!(refused, "400 request");
    let others = read(&world, &session, "failing", "").await.unwrap_err();
    assert_eq!(others, "403 other-agent");
    let failed = read(&world, &own, "failing", "").await.unwrap();
    assert_eq!(
        numbers(&failed),
        [1, 2, 3],
        "the node that failed is told too"
    );

    let position = || async {
        let view = world
            .tenant("GET /v2.6/agents/reader", &Value::Null)
            .await
            .json();
        let log = view["results"]["revocations"].clone();
        (
            log["state"].as_str().unwrap().to_owned(),
            log["position"].as_u64().unwrap(),
        )
    };
    assert_eq!(position().await, ("waiting".to_owned(), 0));
    let action = json!({ "name": "a\u{7}", "signal": 9, "duration_ms": 1 });
    let outcomes = json!([{ "number": 1, "actions": [action] }, { "number": 99, "actions": [] }]);
    for (name, attributes, said, expected) in [
        (
            "another log",
            json!({ "log_id": "x", "position": 3 }),
            "422 document",
            ("waiting", 0),
        ),
        (
            "no log",
            json!({ "log_id": null, "position": 3 }),
            "422 document",
            ("waiting", 0),
        ),
        (
            "no number",
            json!({ "log_id": log_id, "position": -1 }),
            "422 document",
            ("waiting", 0),
        ),
        (
            "one",
            json!({ "log_id": log_id, "position": 1, "outcomes": outcomes }),
            "204",
            ("waiting", 1),
        ),
        (
            "too many",
            json!({ "log_id": log_id, "position": u64::MAX }),
            "204",
            ("acted", 3),
        ),
        (
            "a new boot",
            json!({ "log_id": log_id, "position": 0 }),
            "204",
            ("waiting", 0),
        ),
    ] {
        assert_eq!(say(&world, &session, &attributes).await, said, "{name}");
        let (state, number) = position().await;
        assert_eq!((state.as_str(), number), expected, "{name}");
    }
    let line = format!("GET /v2.6/revocations/{log_id}/1");
    let entry = world.tenant(&line, &Value::Null).await.json()["results"].clone();
    let action = json!({ "name": "a\\u{7}", "signal": 9, "duration_ms": 1 });
    assert_eq!(entry["peers"][1]["actions"], json!([action]));

    // Huge, or no document.
    for (body, said) in [
        ("x".repeat(70 << 10), "413 body"),
        ("{}".to_owned(), "422 document"),
    ] {
        let line = "POST /v3.0/agents/reader/revocations/outcomes";
        let reply = world.raw(&session.who, line, Body::from(body), &[]).await;
        assert_eq!(reply.status.to_string(), said[..3], "{}", reply.said());
    }
    let world = world.restart().await;
    let logs = world
        .tenant("GET /v2.6/revocations", &Value::Null)
        .await
        .json();
    assert_eq!(logs["results"]["logs"][0]["number"], 3);
}

#[tokio::test]
async fn answers_have_as_many_entries_as_fit() {
    let world = World::start().await;
    let (_failing, _) = with_key(&world, "failing").await;
    let (_reader, session) = with_key(&world, "reader").await;
    for _ in 0..60 {
        assert_eq!(revoke(&world, "failing").await, "200");
    }
    let mut found = Vec::new();
    let mut answers = 0;
    let log_id = read(&world, &session, "reader", "").await.unwrap()["log_id"].clone();
    while found.len() < 60 {
        let query = format!("?log_id={}&after={}", log_id.as_str().unwrap(), found.len());
        let answer = read(&world, &session, "reader", &query).await.unwrap();
        assert!(answer.to_string().len() < 52 << 10);
        found.extend(numbers(&answer));
        answers += 1;
    }
    assert!(found.iter().copied().eq(1..=60), "{found:?}");
    assert!(answers > 1, "they don't fit into one");
}

#[tokio::test]
async fn revoked_node_gets_no_key() {
    let world = World::start().await;
    let mut node = Machine::new("node");
    node.register(&world).await;
    let mut body = node.addition(&json!({ "7": ["00".repeat(32)] }));
    body["revocation_key"] = PEM.as_str().into();
    assert_eq!(
        world.tenant("POST /v2.6/agents/node", &body).await.said(),
        "200"
    );
    node.deposit(&world, [1; 8], Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let key = release_key(1);
    let (attestation, _) = node.attest(&world, &session, &key).await;
    assert_eq!(node.verdict(&world, &session).await["evaluation"], "pass");
    assert_eq!(revoke(&world, "node").await, "200");
    assert_eq!(world.status("node").await, "FAIL");
    let reply = node
        .release(&world, &session, attestation, [1; 8], &key)
        .await;
    assert_eq!(reply.said(), "403 not-passed");
}

#[tokio::test]
async fn node_without_a_key_has_no_log() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let found = read(&world, &session, "node", "").await.unwrap();
    assert_eq!(found, json!({ "log_id": null, "last": 0, "entries": [] }));
    assert_eq!(revoke(&world, "node").await, "409");
}
