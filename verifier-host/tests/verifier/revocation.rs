//! Who hears of revocations, when, and what liars can do about it.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use verifier_host::link::Method;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::agent::{Agent, KEYS, Log, error, success};
use crate::program::{Verifier, addition, until};

mod liars;
mod lists;
mod webhook;

/// The anchor's name of the key that these tests revoke with.
pub(crate) fn anchor() -> String {
    let public = KEYS[1].to_public_key().to_public_key_der().unwrap();
    hex(&Sha256::digest(public.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a tenant says of this agent, with the key and this metadata.
pub(crate) fn with_key(agent: &Agent, metadata: &Value) -> Value {
    let mut body = addition(agent);
    let pem = KEYS[1].to_pkcs8_pem(LineEnding::LF).unwrap();
    body["revocation_key"] = pem.as_str().into();
    body["metadata"] = metadata.to_string().into();
    body
}

pub(crate) async fn added(verifier: &Verifier, id: &str, body: &Value) {
    let (status, reason) = verifier.add(id, body).await;
    assert_eq!((status, reason.as_str()), (200, "Success"), "{id}");
}

/// Adds these agents, all of which have the key, under their names.
async fn fleet(verifier: &Verifier, agents: &[(&str, &Agent)]) {
    for (id, agent) in agents {
        added(verifier, id, &with_key(agent, &json!({ "cert_serial": 2 }))).await;
    }
}

impl Verifier {
    pub(crate) async fn results(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.reason());
        answer.json::<Value>().unwrap()["results"].clone()
    }

    /// Name and last number of the only log.
    pub(crate) async fn log_id(&self) -> (String, u64) {
        let logs = self.results("/v2.6/revocations").await;
        let [log] = logs["logs"].as_array().unwrap().as_slice() else {
            panic!("one log: {logs}");
        };
        let id = log["log_id"].as_str().unwrap().to_owned();
        (id, log["number"].as_u64().unwrap())
    }

    /// Waits until a node stands there with its log.
    async fn until_peer(&self, id: &str, state: &str) -> Value {
        let wanted = |view: &Value| view["revocations"]["state"] == state;
        self.until(id, wanted).await["revocations"].clone()
    }

    async fn revoke(&self, id: &str) -> Value {
        let body = json!({ "agent_id": id, "reason": "it was stolen" });
        let answer = self
            .ask(Method::POST, "/v2.6/revocations", Some(&body))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.reason());
        answer.json::<Value>().unwrap()["results"].clone()
    }
}

/// The number of an entry as it was brought.
fn number_of(entry: &Value) -> u64 {
    let read: Value = serde_json::from_str(entry["msg"].as_str().unwrap()).unwrap();
    read["number"].as_u64().unwrap()
}

/// The messages of entries as they were brought, each checked: signature, number, chain.
pub(crate) fn checked(entries: &[Value]) -> Vec<Value> {
    let key = VerifyingKey::<Sha256>::new_with_salt_len(KEYS[1].to_public_key(), 222);
    let mut previous = "0".repeat(64);
    let mut number = 0;
    let check = |entry: &Value| {
        let msg = entry["msg"].as_str().unwrap();
        let signature = BASE64_STANDARD.decode(entry["signature"].as_str().unwrap());
        let signature = Signature::try_from(&signature.unwrap()[..]).unwrap();
        key.verify(msg.as_bytes(), &signature).unwrap();
        let read: Value = serde_json::from_str(msg).unwrap();
        number += 1;
        assert_eq!(read["number"], number, "{read}");
        assert_eq!(read["previous"], previous, "{read}");
        assert!(read["time"].as_str().unwrap().ends_with('Z'), "{read}");
        previous = hex(&Sha256::digest(msg.as_bytes()));
        read
    };
    entries.iter().map(check).collect()
}

#[tokio::test]
async fn offline_peer_catches_up() {
    let mut verifier = Verifier::start().await;
    let node = verifier.agent(1).await;
    node.lock().log = Some(Log::default());
    let [mut ours, mut keylimes] =
        [2, 3].map(|number| Agent::absent(&verifier.cv_ca(), &verifier.agent_ip(number), number));
    ours.lock().log = Some(Log {
        busy: true,
        ..Log::default()
    });
    fleet(&verifier, &[("ours", &ours), ("keylimes", &keylimes)]).await;
    fleet(&verifier, &[("node", &node), ("other", &node)]).await;
    node.lock().tpm.measure(7, b"another boot");
    for id in ["node", "other"] {
        verifier.until_status(id, "FAIL").await;
    }
    let (log_id, number) = verifier.log_id().await;
    assert_eq!(number, 2);
    verifier.until_peer("ours", "unreachable").await;
    verifier.kill();
    verifier.start_again().await;
    let away = verifier.until_peer("ours", "unreachable").await;
    assert_eq!((&away["position"], &away["last"]), (&json!(0), &json!(2)));

    ours.come_up().await;
    keylimes.come_up().await;
    for agent in [&ours, &keylimes] {
        until("both entries", || agent.lock().revocations.len() >= 2).await;
        let messages = checked(&agent.lock().revocations.clone());
        let mut about: Vec<_> = messages.iter().map(|msg| msg["agent_id"].clone()).collect();
        about.sort_by_key(ToString::to_string);
        assert_eq!(about, ["node", "other"]);
        assert!(
            messages
                .iter()
                .all(|msg| msg["log_id"] == log_id && msg["cert_serial"] == "2")
        );
    }
    verifier.until_peer("keylimes", "acknowledged").await;
    let waiting = verifier.until_peer("ours", "waiting").await;
    assert_eq!(waiting["position"], 0, "its actions haven't ended");

    ours.lock().log.as_mut().unwrap().acted = 2;
    let acted = verifier.until_peer("ours", "acted").await;
    assert_eq!(acted["position"], 2);
    let path = format!("/v2.6/revocations/{log_id}/2");
    let entry = verifier.results(&path).await;
    let msg: Value = serde_json::from_str(entry["msg"].as_str().unwrap()).unwrap();
    assert_eq!(msg["time"], entry["time"]);
    let of = |id: &str| {
        let mut peers = entry["peers"].as_array().unwrap().iter();
        peers.find(|peer| peer["agent_id"] == id).unwrap().clone()
    };
    let action = json!({ "name": "local_action_2", "exit_code": 0, "duration_ms": 2 });
    let expected = json!({ "agent_id": "ours", "state": "acted", "actions": [action] });
    assert_eq!(of("ours"), expected);
    assert_eq!(of("keylimes")["state"], "acknowledged");
    assert_eq!(entry["type"], "revocation");
    until("quiet", || ours.lock().revocations.len() == 2).await;

    // A node that boots anew has acted on nothing.
    ours.go_down().await;
    verifier.until_status("ours", "TIMEOUT").await;
    ours.lock().log = Some(Log::default());
    ours.come_up().await;
    until("both entries again", || ours.lock().revocations.len() >= 4).await;
    checked(&ours.lock().revocations[2..]);
    verifier.until_peer("ours", "acted").await;
}

#[tokio::test]
async fn offline_node_revokes_nobody() {
    let verifier = Verifier::start().await;
    let (mut node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    fleet(&verifier, &[("node", &node), ("peer", &peer)]).await;
    verifier.until_status("node", "PASS").await;
    node.go_down().await;
    let away = |view: &Value| view["unreachable"]["attempts"].as_u64() > Some(3);
    let view = verifier.until("node", away).await;
    assert_eq!(view["attestation_status"], "TIMEOUT");
    assert_eq!(verifier.log_id().await.1, 0);
    assert!(peer.lock().revocations.is_empty());
}

#[tokio::test]
async fn failures_at_once_are_numbered_without_gaps() {
    let verifier = Verifier::start().await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    peer.lock().log = Some(Log::default());
    fleet(&verifier, &[("peer", &peer)]).await;
    let ids: Vec<_> = (1..=8).map(|number| format!("node-{number}")).collect();
    for id in &ids {
        fleet(&verifier, &[(id, &node)]).await;
        verifier.until_status(id, "PASS").await;
    }
    node.lock().tpm.measure(7, b"all of them");
    until("all entries", || peer.lock().revocations.len() >= 8).await;
    let messages = checked(&peer.lock().revocations.clone());
    let mut about: Vec<_> = messages
        .iter()
        .map(|msg| msg["agent_id"].as_str().unwrap())
        .collect();
    about.sort_unstable();
    assert_eq!(about, ids);
    verifier.until_peer("peer", "acted").await;

    // The same for administrators, in pages.
    let (log_id, number) = verifier.log_id().await;
    assert_eq!(number, 8);
    let path = format!("/v2.6/revocations/{log_id}?after=5");
    let entries = verifier.results(&path).await;
    let entries = entries["entries"].as_array().unwrap();
    let numbers: Vec<_> = entries
        .iter()
        .map(|entry| entry["number"].as_u64())
        .collect();
    assert_eq!(numbers, [Some(6), Some(7), Some(8)]);
    let peers = verifier
        .results(&format!("/v2.6/revocations/{log_id}/peers"))
        .await;
    assert_eq!(peers["number"], 8);
    assert_eq!(peers["peers"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn killed_at_any_moment_it_loses_no_entry() {
    let mut verifier = Verifier::start().await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    peer.lock().log = Some(Log::default());
    fleet(&verifier, &[("peer", &peer)]).await;
    for round in 1..=6 {
        let id = format!("node-{round}");
        fleet(&verifier, &[(&id, &node)]).await;
        verifier.until_status(&id, "PASS").await;
        node.lock().tpm.measure(7, id.as_bytes());
        // Each time a little later in what a failure sets off.
        tokio::time::sleep(Duration::from_millis(15 * round)).await;
        verifier.kill();
        verifier.start_again().await;
        let view = verifier.until_status(&id, "FAIL").await;
        assert_eq!(view["operational_state"], 9);
        until("its entry", || {
            peer.lock().log.as_ref().unwrap().acted >= round
        })
        .await;
    }
    let (log_id, number) = verifier.log_id().await;
    assert_eq!(number, 6, "one entry for each failure");
    let entries = verifier
        .results(&format!("/v2.6/revocations/{log_id}"))
        .await;
    let messages = checked(entries["entries"].as_array().unwrap());
    for (round, msg) in messages.iter().enumerate() {
        assert_eq!(msg["agent_id"], format!("node-{}", round + 1));
    }
}

type Lie = fn(u64) -> axum::response::Response;

static LOG_ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();

#[tokio::test]
async fn entry_before_the_payload_is_brought_and_asked_about() {
    let verifier = Verifier::start().await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    peer.lock().log = Some(Log::default());
    peer.lock().lie = Some(|_| success(json!({ "log_id": null, "position": 0, "wanted": 1 })));
    fleet(&verifier, &[("peer", &peer), ("node", &node)]).await;
    verifier.revoke("node").await;
    until("the entry", || !peer.lock().revocations.is_empty()).await;
    assert_eq!(verifier.until_peer("peer", "waiting").await["position"], 0);
    // Now its payload came, and it acted on what it kept.
    let (log_id, _) = verifier.log_id().await;
    {
        let mut peer = peer.lock();
        peer.lie = None;
        peer.log = Some(Log {
            id: Some(log_id),
            taken: 1,
            acted: 1,
            busy: false,
        });
    }
    verifier.until_peer("peer", "acted").await;
    assert_eq!(peer.lock().revocations.len(), 1, "it isn't brought again");
}

#[tokio::test]
async fn agent_that_knows_no_log_is_sent_all_of_it() {
    let verifier = Verifier::start().await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    fleet(&verifier, &[("node", &node)]).await;
    for _ in 0..3 {
        verifier.revoke("node").await;
    }
    peer.lock().log = Some(Log::default());
    peer.lock().lie = Some(|_| success(json!({ "log_id": null, "position": 0, "wanted": 1 })));
    fleet(&verifier, &[("peer", &peer)]).await;
    // The first pass begins the delivery anew, wherever it was.
    verifier.until_passes("peer", 2).await;
    let brought = || -> Vec<u64> { peer.lock().revocations.iter().map(number_of).collect() };
    until("the log", || brought().ends_with(&[1, 2, 3])).await;
    // And so is one that isn't asked before the next entry comes.
    let before = brought().len();
    verifier.revoke("node").await;
    until("the next entry", || brought().len() > before).await;
    checked(&peer.lock().revocations[before - 3..]);
    verifier.until_passes("peer", 7).await;
    assert_eq!(brought().len(), before + 1, "once");
}

#[tokio::test]
async fn nodes_hear_of_their_group_alone() {
    let verifier = Verifier::start().await;
    let names = [("north", "a"), ("south", "b"), ("nobody's", "c")];
    let mut agents = Vec::new();
    for (number, (group, id)) in names.iter().enumerate() {
        let agent = verifier.agent(u8::try_from(number).unwrap() + 1).await;
        let metadata = match *group {
            "nobody's" => json!({}),
            group => json!({ "group": group }),
        };
        added(&verifier, id, &with_key(&agent, &metadata)).await;
        agents.push(agent);
    }
    let made = verifier.revoke("a").await;
    assert_eq!(made["number"], 1);
    let made = verifier.revoke("c").await;
    assert_eq!(made["number"], 1, "each group has numbers of its own");
    for (agent, about) in agents.iter().zip([Some("a"), None, Some("c")]) {
        if about.is_some() {
            until("its entry", || !agent.lock().revocations.is_empty()).await;
        }
        let messages = checked(&agent.lock().revocations.clone());
        let found: Vec<_> = messages
            .iter()
            .map(|msg| msg["agent_id"].as_str())
            .collect();
        assert_eq!(found, about.map(Some).into_iter().collect::<Vec<_>>());
    }
    let logs = verifier.results("/v2.6/revocations").await;
    let groups: Vec<_> = logs["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| log["group"].clone())
        .collect();
    assert_eq!(groups, [json!("north"), json!("south"), Value::Null]);

    // The log that a tenant begins is the one that the nodes have.
    let body = json!({ "anchor": anchor(), "group": "north" });
    let answer = verifier
        .ask(Method::PUT, "/v2.6/revocations", Some(&body))
        .await;
    let head: Value = answer.json::<Value>().unwrap()["results"].clone();
    let msg = agents[0].lock().revocations[0]["msg"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = json!({
        "log_id": logs["logs"][0]["log_id"], "number": 1,
        "previous": hex(&Sha256::digest(msg.as_bytes())), "crl_number": null,
    });
    assert_eq!(head, expected);
}

#[tokio::test]
async fn operator_revokes_a_node() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    fleet(&verifier, &[("node", &agent)]).await;
    added(&verifier, "keyless", &addition(&agent)).await;
    verifier.until_status("node", "PASS").await;
    let made = verifier.revoke("node").await;
    assert_eq!(
        (&made["number"], made["log_id"].as_str()),
        (&json!(1), Some(verifier.log_id().await.0.as_str()))
    );
    let view = verifier.view("node").await;
    assert_eq!(view["operational_state"], 9);
    assert_eq!(view["last_event_id"], "operator.revoked");
    assert_eq!(view["failure"]["reason"], "it was stolen");
    until("its entry", || !agent.lock().revocations.is_empty()).await;
    let messages = checked(&agent.lock().revocations.clone());
    assert_eq!(
        (&messages[0]["reason"], &messages[0]["event_id"]),
        (&json!("it was stolen"), &json!("operator.revoked"))
    );
    // Once more: another entry.
    assert_eq!(verifier.revoke("node").await["number"], 2);

    let long = "x".repeat(513);
    for (name, id, reason, status) in [
        ("without a key", "keyless", "a reason", 409),
        ("unknown", "nobody", "a reason", 404),
        ("no id", "a b", "a reason", 400),
        ("no reason", "node", "", 400),
        ("a long reason", "node", &long, 400),
        ("two lines", "node", "a\nb", 400),
    ] {
        let body = json!({ "agent_id": id, "reason": reason });
        let answer = verifier
            .ask(Method::POST, "/v2.6/revocations", Some(&body))
            .await;
        assert_eq!(answer.status, status, "{name}");
    }
    assert_eq!(verifier.view("keyless").await["operational_state"], 3);
    assert_eq!(verifier.log_id().await.1, 2);
}

#[tokio::test]
async fn agents_are_left_alone_where_they_are_not_enabled() {
    let verifier = Verifier::start_with(&["--enabled-revocation-notifications", "[]"]).await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    fleet(&verifier, &[("node", &node), ("peer", &peer)]).await;
    verifier.revoke("node").await;
    verifier.until_passes("peer", 5).await;
    assert!(peer.lock().revocations.is_empty());
    assert_eq!(
        verifier.log_id().await.1,
        1,
        "the entry is made all the same"
    );
}

#[tokio::test]
async fn entry_reaches_a_peer_at_once() {
    let verifier = Verifier::start().await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    peer.lock().log = Some(Log::default());
    fleet(&verifier, &[("node", &node), ("peer", &peer)]).await;
    verifier.until_status("peer", "PASS").await;
    for number in 1..=5 {
        let asked = Instant::now();
        verifier.revoke("node").await;
        until("its entry", || peer.lock().revocations.len() >= number).await;
        // Far above what it takes (some milliseconds), far below any pause.
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
    }
}
