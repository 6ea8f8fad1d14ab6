//! What becomes of nodes: who gets V, who fails, who is merely away.

use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier as _;
use serde_json::{Value, json};
use sha2::Sha256;
use verifier_host::link::Method;

use crate::agent::{Agent, KEYS, Mood};
use crate::program::{V, Verifier, addition, until};
use crate::tpm::SoftTpm;

const DONE: (u16, &str) = (200, "Success");

async fn added(verifier: &Verifier, id: &str, body: &Value) {
    let (status, reason) = verifier.add(id, body).await;
    assert_eq!((status, reason.as_str()), DONE);
}

#[tokio::test]
async fn honest_node_gets_v_once() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    added(&verifier, "node", &addition(&agent)).await;
    let view = verifier
        .until("node", |view| view["v_provided"] == true)
        .await;
    assert_eq!(view["attestation_status"], "PASS");
    let view = verifier.until_passes("node", 5).await;
    assert_eq!(view["operational_state"], 3);
    assert_eq!(view["hash_alg"], "sha256");
    assert_eq!(view["v"], Value::Null);
    let inner = agent.lock();
    assert_eq!(inner.halves, [V.to_vec()]);
    let asked: Vec<_> = inner
        .asked
        .iter()
        .map(|query| query.split('&').nth(2).unwrap())
        .collect();
    assert_eq!(asked[0], "partial=0");
    assert!(
        asked[1..].iter().all(|partial| *partial == "partial=1"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn wrong_pcr_gets_nothing_and_is_revoked() {
    let verifier = Verifier::start().await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    let key = KEYS[1].to_pkcs8_pem(LineEnding::LF).unwrap();
    let with_key = |agent: &Agent| {
        let mut body = addition(agent);
        body["revocation_key"] = key.as_str().into();
        body
    };
    added(&verifier, "peer", &with_key(&peer)).await;
    let body = with_key(&node);
    node.lock().tpm.measure(7, b"another boot");
    added(&verifier, "node", &body).await;

    let view = verifier.until_status("node", "FAIL").await;
    let held = node.lock().tpm.held(7);
    let policy: Value = serde_json::from_str(body["tpm_policy"].as_str().unwrap()).unwrap();
    let wanted = policy["7"][0].as_str().unwrap();
    assert_eq!(view["operational_state"], 9);
    assert_eq!(view["last_event_id"], "pcr_validation.invalid_pcr_7");
    assert_eq!(
        view["failure"]["reason"],
        format!("PCR 7 held {held}, wanted {wanted}")
    );
    assert_eq!(view["last_successful_attestation"], 0);

    for agent in [&node, &peer] {
        until("a revocation", || !agent.lock().revocations.is_empty()).await;
        let revocation = agent.lock().revocations[0].clone();
        let msg = revocation["msg"].as_str().unwrap();
        let signature = BASE64_STANDARD
            .decode(revocation["signature"].as_str().unwrap())
            .unwrap();
        let key = VerifyingKey::<Sha256>::new_with_salt_len(KEYS[1].to_public_key(), 222);
        key.verify(
            msg.as_bytes(),
            &Signature::try_from(&signature[..]).unwrap(),
        )
        .unwrap();
        let msg: Value = serde_json::from_str(msg).unwrap();
        assert_eq!(msg["agent_id"], "node");
        assert_eq!(msg["event_id"], "pcr_validation.invalid_pcr_7");
        assert_eq!(
            msg["meta_data"],
            "{\"cert_serial\": 2, \"subject\": \"CN=node\"}"
        );
    }
    assert!(node.lock().halves.is_empty());
    let asked = node.lock().asked.len();
    verifier.until_passes("peer", 5).await;
    assert_eq!(
        node.lock().asked.len(),
        asked,
        "a failed node is left alone"
    );
}

#[tokio::test]
async fn fails_after_it_passed() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    added(&verifier, "node", &addition(&agent)).await;
    verifier.until_status("node", "PASS").await;
    agent.lock().tpm.measure(7, b"changed at run time");
    let view = verifier.until_status("node", "FAIL").await;
    assert_ne!(view["last_successful_attestation"], 0);
}

#[tokio::test]
async fn lies_fail() {
    let verifier = Verifier::start().await;
    let seeds = [1, 2];
    let [replaying, swapped] =
        seeds.map(|number| Agent::absent(&verifier.cv_ca(), &verifier.agent_ip(number), number));
    for (mut agent, lie, event) in [
        (
            replaying,
            (|agent| agent.lock().mood = Mood::Replaying) as fn(&Agent),
            "qoute_validation.quote_validation",
        ),
        (
            swapped,
            |agent| agent.lock().tpm = SoftTpm::new(9),
            "qoute_validation.quote_validation",
        ),
    ] {
        let id = format!("node-{event}-{}", agent.address().ip());
        agent.come_up().await;
        added(&verifier, &id, &addition(&agent)).await;
        verifier.until_status(&id, "PASS").await;
        lie(&agent);
        let view = verifier.until_status(&id, "FAIL").await;
        assert_eq!(view["operational_state"], 9);
        assert_eq!(view["last_event_id"], event);
    }
}

#[tokio::test]
async fn never_pass_before_a_quote() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    agent.lock().mood = Mood::Slow(Duration::from_millis(500));
    added(&verifier, "node", &addition(&agent)).await;
    let view = verifier.view("node").await;
    assert_eq!(view["attestation_status"], "PENDING");
    assert_eq!(view["operational_state"], 1);
    verifier.until_status("node", "PASS").await;

    let answer = verifier
        .ask(Method::PUT, "/v2.6/agents/node/reactivate", None)
        .await;
    assert_eq!(answer.status, 200);
    let view = verifier.view("node").await;
    assert_eq!(
        view["attestation_status"], "PENDING",
        "reactivated is not trusted"
    );
    verifier.until_status("node", "PASS").await;
}

#[tokio::test]
async fn offline_is_not_failed() {
    let mut verifier = Verifier::start().await;
    let peer = verifier.agent(2).await;
    let mut agent = Agent::absent(&verifier.cv_ca(), &verifier.agent_ip(1), 1);
    added(&verifier, "peer", &addition(&peer)).await;
    added(&verifier, "node", &addition(&agent)).await;
    let view = verifier
        .until("node", |view| {
            view["unreachable"]["attempts"].as_u64() > Some(3)
        })
        .await;
    assert_eq!(view["attestation_status"], "TIMEOUT");
    assert_eq!(view["operational_state"], 4);
    let reason = view["unreachable"]["reason"].as_str().unwrap();
    assert!(reason.contains("can't connect"), "{reason}");

    agent.come_up().await;
    verifier
        .until("node", |view| view["v_provided"] == true)
        .await;
    agent.go_down().await;
    let away = verifier.until_status("node", "TIMEOUT").await;
    assert_ne!(away["last_successful_attestation"], 0, "a pass has an age");

    verifier.kill();
    verifier.start_again().await;
    verifier
        .until("node", |view| {
            view["unreachable"]["attempts"].as_u64() > Some(2)
        })
        .await;
    agent.come_up().await;
    verifier.until_status("node", "PASS").await;
    assert_eq!(
        agent.lock().halves.len(),
        1,
        "the same key isn't given V again"
    );
    assert!(
        peer.lock().revocations.is_empty(),
        "an offline node revokes nobody"
    );
}

#[tokio::test]
async fn pass_has_an_age() {
    let verifier = Verifier::start().await;
    let mut agent = verifier.agent(1).await;
    added(&verifier, "node", &addition(&agent)).await;
    verifier.until_status("node", "PASS").await;
    agent.go_down().await;
    let first = verifier.until_status("node", "TIMEOUT").await;
    let later = verifier
        .until("node", |view| {
            view["unreachable"]["attempts"].as_u64() > Some(5)
        })
        .await;
    assert_eq!(
        first["last_successful_attestation"],
        later["last_successful_attestation"]
    );
    assert_eq!(first["attestation_count"], later["attestation_count"]);
}

#[tokio::test]
async fn restart_and_key_change_recover() {
    let verifier = Verifier::start().await;
    let mut agent = verifier.agent(1).await;
    added(&verifier, "node", &addition(&agent)).await;
    verifier
        .until("node", |view| view["v_provided"] == true)
        .await;

    // The key changes while the connection stays.
    agent.lock().key = KEYS[1].clone();
    until("V for the new key", || agent.lock().halves.len() == 2).await;
    verifier.until_passes("node", 3).await;

    // The agent restarts with the key it had first.
    agent.go_down().await;
    agent.lock().key = KEYS[0].clone();
    agent.come_up().await;
    until("V for the old key", || agent.lock().halves.len() == 3).await;
    let view = verifier.until_passes("node", 3).await;
    assert_eq!(view["attestation_status"], "PASS");
    assert!(agent.lock().halves.iter().all(|half| *half == V));
}

#[tokio::test]
async fn v_arrives_in_the_end() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    agent.lock().mood = Mood::RefusingV(StatusCode::INTERNAL_SERVER_ERROR);
    added(&verifier, "node", &addition(&agent)).await;
    let view = verifier
        .until("node", |view| view["operational_state"] == 6)
        .await;
    assert_eq!(view["v_provided"], false);
    agent.lock().mood = Mood::Honest;
    verifier
        .until("node", |view| view["v_provided"] == true)
        .await;
    assert_eq!(agent.lock().halves, [V.to_vec()]);
}

#[tokio::test]
async fn state_survives_kill_9() {
    let mut verifier = Verifier::start().await;
    let (good, bad) = (verifier.agent(1).await, verifier.agent(2).await);
    added(&verifier, "good", &addition(&good)).await;
    added(&verifier, "bad", &addition(&bad)).await;
    verifier
        .until("good", |view| view["v_provided"] == true)
        .await;
    verifier
        .until("bad", |view| view["v_provided"] == true)
        .await;
    bad.lock().tpm.measure(7, b"changed");
    let failed = verifier.until_status("bad", "FAIL").await;
    let asked = bad.lock().asked.len();

    for _ in 0..3 {
        verifier.kill();
        verifier.start_again().await;
        verifier.until_passes("good", 2).await;
    }
    assert_eq!(good.lock().halves.len(), 1);
    let still = verifier.view("bad").await;
    assert_eq!(still["failure"], failed["failure"]);
    assert_eq!(still["attestation_status"], "FAIL");
    assert_eq!(bad.lock().asked.len(), asked);
    assert_eq!(bad.lock().halves.len(), 1);
}

#[tokio::test]
async fn counts_survive_an_orderly_stop() {
    let mut verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    added(&verifier, "node", &addition(&agent)).await;
    let before = verifier.until_passes("node", 5).await;
    agent.lock().mood = Mood::Slow(Duration::from_secs(20));
    let took = verifier.terminate();
    assert!(took < Duration::from_secs(1), "{took:?}");
    agent.lock().mood = Mood::Refusing(StatusCode::SERVICE_UNAVAILABLE);
    verifier.start_again().await;
    let after = verifier.view("node").await;
    assert!(after["attestation_count"].as_u64() >= before["attestation_count"].as_u64());
}

#[tokio::test]
async fn another_certificate_is_not_talked_to() {
    let verifier = Verifier::start().await;
    let mut agent = verifier.agent(1).await;
    let body = addition(&agent);
    agent.go_down().await;
    agent.lose_certificate();
    agent.come_up().await;
    added(&verifier, "node", &body).await;
    let view = verifier.until_status("node", "TIMEOUT").await;
    let reason = view["unreachable"]["reason"].as_str().unwrap();
    assert!(reason.contains("certificate"), "{reason}");
    assert!(agent.lock().asked.is_empty());
}

#[tokio::test]
async fn refusal_is_failed_but_revokes_nobody() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    agent.lock().mood = Mood::Refusing(StatusCode::FORBIDDEN);
    added(&verifier, "node", &addition(&agent)).await;
    let view = verifier.until_status("node", "FAIL").await;
    assert_eq!(view["operational_state"], 7);
    assert_eq!(
        view["failure"]["reason"],
        "the agent refuses to quote: HTTP 403, \"not now\""
    );
    assert!(agent.lock().revocations.is_empty());
}

#[tokio::test]
async fn older_agents_are_spoken_to_in_their_version() {
    let verifier = Verifier::start().await;
    let (old, ancient) = (verifier.agent(1).await, verifier.agent(2).await);
    old.lock().mood = Mood::Speaking("2.2");
    ancient.lock().mood = Mood::Speaking("1.0");
    added(&verifier, "old", &addition(&old)).await;
    added(&verifier, "ancient", &addition(&ancient)).await;
    verifier
        .until("old", |view| view["v_provided"] == true)
        .await;
    let view = verifier.until_status("ancient", "FAIL").await;
    assert_eq!(view["last_event_id"], "agent_validation.api_version");

    // Once it has passed, it can't be talked down.
    old.lock().mood = Mood::Speaking("2.1");
    let view = verifier.until_status("old", "FAIL").await;
    let reason = view["failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("downgrade"), "{reason}");
}

#[tokio::test]
async fn readd_with_payload() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let mut body = addition(&agent);
    for round in 1..=3_u8 {
        body["v"] = BASE64_STANDARD.encode([round; 32]).into();
        added(&verifier, "node", &body).await;
        let expected = vec![round; 32];
        until("this payload's V", || {
            agent.lock().halves.last() == Some(&expected)
        })
        .await;
        let answer = verifier
            .ask(Method::DELETE, "/v2.6/agents/node", None)
            .await;
        assert_eq!(answer.status, 200);
        let gone = verifier.ask(Method::GET, "/v2.6/agents/node", None).await;
        assert_eq!(gone.status, 404);
    }
    assert_eq!(agent.lock().halves.len(), 3);
}

#[tokio::test]
async fn failed_node_passes_again_after_reactivation() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let body = addition(&agent);
    agent.lock().tpm.measure(7, b"wrong boot");
    added(&verifier, "node", &body).await;
    verifier.until_status("node", "FAIL").await;
    agent.lock().tpm.measure(7, b"boot");
    // Even a cleared TPM: the operator says that it is the same node.
    agent.lock().tpm.reset_count = 0;
    let answer = verifier
        .ask(Method::PUT, "/v2.6/agents/node/reactivate", None)
        .await;
    assert_eq!(answer.status, 200);
    let view = verifier
        .until("node", |view| view["v_provided"] == true)
        .await;
    assert_eq!(view["failure"], Value::Null);
    assert_eq!(view["last_event_id"], Value::Null);
}

#[tokio::test]
async fn stopped_node_is_left_alone() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    added(&verifier, "node", &addition(&agent)).await;
    verifier.until_status("node", "PASS").await;
    let answer = verifier
        .ask(Method::PUT, "/v2.6/agents/node/stop", None)
        .await;
    assert_eq!(answer.status, 200);
    let view = verifier.view("node").await;
    assert_eq!(
        (&view["operational_state"], &view["attestation_status"]),
        (&json!(10), &json!("PENDING"))
    );
    let asked = agent.lock().asked.len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(agent.lock().asked.len(), asked);
    verifier
        .ask(Method::PUT, "/v2.6/agents/node/reactivate", None)
        .await;
    verifier.until_status("node", "PASS").await;
}

#[tokio::test]
async fn slow_agent_blocks_nobody() {
    let verifier = Verifier::start().await;
    let (slow, good) = (verifier.agent(1).await, verifier.agent(2).await);
    slow.lock().mood = Mood::Slow(Duration::from_secs(10));
    for number in 0..40 {
        added(&verifier, &format!("slow-{number}"), &addition(&slow)).await;
    }
    added(&verifier, "good", &addition(&good)).await;
    verifier.until_passes("good", 5).await;
    assert_eq!(
        verifier.view("slow-0").await["attestation_status"],
        "PENDING"
    );
}

#[tokio::test]
async fn many_nodes_at_once() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let body = addition(&agent);
    let ids: Vec<String> = (0..40).map(|number| format!("node-{number}")).collect();
    for id in &ids {
        added(&verifier, id, &body).await;
    }
    for id in &ids {
        verifier
            .until(id, |view| view["attestation_count"].as_u64() >= Some(3))
            .await;
    }
    assert_eq!(agent.lock().halves.len(), ids.len());
    let mut nonces: Vec<_> = agent
        .lock()
        .asked
        .iter()
        .map(|query| query.split('&').next().unwrap().to_owned())
        .collect();
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), count, "no nonce comes twice");
}

/// Runs a statement on the database of a verifier that isn't running.
pub(crate) async fn meddle(verifier: &Verifier, statement: &'static str) {
    let store = verifier_host::store::Store::open(verifier.dir.path())
        .await
        .unwrap();
    let done = sqlx::query(statement)
        .execute(store.writer())
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
    store.close().await;
}

#[tokio::test]
async fn damaged_record_hides_no_other() {
    let mut verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    for id in ["bad", "good"] {
        added(&verifier, id, &addition(&agent)).await;
    }
    verifier.kill();
    meddle(
        &verifier,
        "UPDATE nodes SET terms = '{}' WHERE uuid = 'bad'",
    )
    .await;
    verifier.start_again().await;
    verifier.until_passes("good", 2).await;
    assert!(
        verifier
            .log()
            .contains("the database's record of bad is damaged"),
        "{}",
        verifier.log()
    );
    let answer = verifier.ask(Method::DELETE, "/v2.6/agents/bad", None).await;
    assert_eq!(answer.status, 200);
    added(&verifier, "bad", &addition(&agent)).await;
    verifier.until_status("bad", "PASS").await;
}

#[tokio::test]
async fn v_of_another_node_is_not_given() {
    let mut verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    agent.lock().mood = Mood::RefusingV(StatusCode::INTERNAL_SERVER_ERROR);
    for id in ["a", "b"] {
        added(&verifier, id, &addition(&agent)).await;
    }
    verifier.kill();
    meddle(
        &verifier,
        "UPDATE nodes SET v = (SELECT v FROM nodes WHERE uuid = 'a') WHERE uuid = 'b'",
    )
    .await;
    agent.lock().mood = Mood::Honest;
    verifier.start_again().await;
    verifier.until("a", |view| view["v_provided"] == true).await;
    let tried = |view: &Value| {
        view["operational_state"] == 6 && view["attestation_count"].as_u64() > Some(2)
    };
    let view = verifier.until("b", tried).await;
    assert_eq!(view["v_provided"], false);
    assert_eq!(agent.lock().halves.len(), 1);
}
