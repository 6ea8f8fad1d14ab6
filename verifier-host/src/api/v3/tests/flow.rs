//! What works: from the first session to the receipt.

use std::time::Duration;

use agent_core::wire::manifest::{Deliver, PayloadId};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::world::{Machine, SEALED, V, Who, World, release_key, status};
use crate::evidence::software::SoftwareTpm;

#[tokio::test]
async fn provision_from_session_to_receipt() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    assert_eq!(world.status("node").await, "PENDING");

    let session = node.session(&world).await;
    let line = "GET /v3.0/agents/node/payload";
    let read = world.ask(&session.who, line, &Value::Null).await.json();
    assert_eq!(read["payload_id"], PayloadId([1; 8]).to_string());
    assert!(read.get("v").is_none());
    let line = "GET /v3.0/agents/node/payload/sealed";
    let sealed = world.ask(&session.who, line, &Value::Null).await;
    assert_eq!((sealed.status, &sealed.body[..]), (200, SEALED));

    let key = release_key(1);
    let (index, challenge) = node.attest(&world, &session, &key).await;
    let verdict = node.verdict(&world, &session).await;
    assert_eq!(verdict["evaluation"], "pass", "{verdict}");
    assert_eq!(world.status("node").await, "PASS");

    let reply = node.release(&world, &session, index, [1; 8], &key).await;
    let manifest = node.manifest([1; 8], Deliver::PerBoot);
    assert_eq!(node.unwrap(&reply, &manifest, &challenge, &key), V);
    // A lost answer: the same again.
    let again = node.release(&world, &session, index, [1; 8], &key).await;
    assert_eq!(again.body, reply.body);

    node.cap();
    let receipt = node.receipt(&session.challenge, [1; 8]);
    let reply = node.give_receipt(&world, &session, &receipt).await;
    status(&reply, StatusCode::CREATED);
    status(
        &node.give_receipt(&world, &session, &receipt).await,
        StatusCode::CREATED,
    );
    let report = world.report("node").await;
    assert_eq!(report["receipts"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["releases"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["attestation"]["status"], "pass");
    assert_eq!(report["boot"]["capped"], false);
    assert_eq!(report["cleared_tpm"], false);
}

#[tokio::test]
async fn rsa_keys_attest_too() {
    let world = World::start().await;
    let mut node = Machine::with("node", SoftwareTpm::with_rsa_ak());
    node.enrol(&world).await;
    let session = node.session(&world).await;
    node.attest(&world, &session, &release_key(1)).await;
    assert_eq!(node.verdict(&world, &session).await["evaluation"], "pass");
}

#[tokio::test]
async fn sealed_bytes_go_on_where_they_stopped() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let line = format!("GET /v3.0/agents/node/payload/{}/sealed", PayloadId([1; 8]));
    for (range, wanted, bytes) in [
        ("bytes=5-", 206, &SEALED[5..]),
        ("bytes=0-", 206, SEALED),
        ("bytes=1-3", 200, SEALED),
        ("bytes=-3", 200, SEALED),
        ("bytes=24-", 416, &[]),
    ] {
        let reply = world
            .raw(&session.who, &line, "".into(), &[("range", range)])
            .await;
        assert_eq!(reply.status, wanted, "{range}");
        if wanted != 416 {
            assert_eq!(reply.body, bytes, "{range}");
        }
    }
}

#[tokio::test]
async fn delivery_once_per_boot_and_until() {
    let now = crate::rounds::node::unix_now();
    let (past, future) = (Deliver::Until(now - 1), Deliver::Until(now + 1000));
    for (name, deliver, first, same_boot, next_boot) in [
        ("once", Deliver::Once, "200", "200", "403 spent"),
        ("per boot", Deliver::PerBoot, "200", "200", "200"),
        ("until later", future, "200", "200", "200"),
        (
            "until before",
            past,
            "403 expired",
            "403 expired",
            "403 expired",
        ),
    ] {
        let world = World::start().await;
        let mut node = Machine::ready("node", &world, deliver).await;
        assert_eq!(node.try_release(&world, [1; 8]).await, first, "{name}");
        assert_eq!(node.try_release(&world, [1; 8]).await, same_boot, "{name}");
        node.reboot();
        assert_eq!(node.try_release(&world, [1; 8]).await, next_boot, "{name}");
        let world = world.restart().await;
        assert_eq!(
            node.try_release(&world, [1; 8]).await,
            next_boot,
            "{name}, restarted"
        );
    }
}

#[tokio::test]
async fn replaced_and_withdrawn() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    node.deposit(&world, [2; 8], Deliver::PerBoot).await;
    assert_eq!(world.files(), 1, "the older one is gone");
    assert_eq!(
        node.try_release(&world, [1; 8]).await,
        "404 unknown-payload"
    );
    assert_eq!(node.try_release(&world, [2; 8]).await, "200");
    let line = "DELETE /v3.0/agents/node/payload";
    status(
        &world.tenant(line, &Value::Null).await,
        StatusCode::NO_CONTENT,
    );
    assert_eq!(
        world.tenant(line, &Value::Null).await.said(),
        "404 no-payload"
    );
    assert_eq!(world.files(), 0);
    assert_eq!(node.try_release(&world, [2; 8]).await, "404 no-payload");

    node.deposit(&world, [3; 8], Deliver::PerBoot).await;
    status(
        &world.tenant("DELETE /v2.6/agents/node", &Value::Null).await,
        StatusCode::OK,
    );
    assert_eq!(world.files(), 0, "a deposit goes with its node");
    node.enrol(&world).await;
    assert_eq!(world.report("node").await["deposit"], Value::Null);
}

#[tokio::test]
async fn upload_that_breaks_leaves_the_older_deposit() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let body = node.deposit_body(&node.manifest([2; 8], Deliver::PerBoot));
    status(
        &world.tenant("PUT /v3.0/agents/node/payload", &body).await,
        StatusCode::CREATED,
    );
    for (name, bytes) in [
        ("short", &SEALED[1..]),
        ("long", &b"what would be ciphertext."[..]),
        ("another", b"what would be plaintexts"),
    ] {
        assert_eq!(
            node.upload(&world, [2; 8], bytes).await.said(),
            "422 digest",
            "{name}"
        );
    }
    assert_eq!(world.files(), 1);
    // Killed in the middle: the part stays on disk until the next start.
    std::fs::write(world.dir.path().join("payloads/0123.part"), "half").unwrap();
    let world = world.restart().await;
    assert_eq!(world.files(), 1);
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
    status(
        &node.upload(&world, [2; 8], SEALED).await,
        StatusCode::CREATED,
    );
    status(
        &node.upload(&world, [2; 8], SEALED).await,
        StatusCode::CREATED,
    );
    assert_eq!(node.try_release(&world, [2; 8]).await, "200");
}

#[tokio::test]
async fn restart_ends_sessions_and_keeps_deposits() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let key = release_key(1);
    let (index, _) = node.attest(&world, &session, &key).await;
    let world = world.restart().await;
    let reply = node.release(&world, &session, index, [1; 8], &key).await;
    assert_eq!(reply.said(), "401 no-token");
    assert_eq!(world.status("node").await, "PASS", "with its age");
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
}

#[tokio::test]
async fn failed_caller_stays_failed_until_reactivated() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let good = node.pcrs[7].clone();
    node.pcrs[7] = super::world::zeros();
    node.pcrs[7][0] = 1;
    node.attest(&world, &session, &release_key(1)).await;
    let verdict = node.verdict(&world, &session).await;
    assert_eq!(verdict["evaluation"], "fail");
    let reason = verdict["failure_reason"].as_str().unwrap();
    assert!(reason.starts_with("PCR 7 held 01"), "{reason}");
    assert_eq!(world.status("node").await, "FAIL");
    let report = world.report("node").await;
    assert_eq!(report["attestation"]["status"], "fail", "{report}");

    node.pcrs[7] = good;
    assert_eq!(node.begin(&world, &session).await.said(), "403 not-passed");
    let world = world.restart().await;
    let session = node.session(&world).await;
    assert_eq!(node.begin(&world, &session).await.said(), "403 not-passed");
    let line = "PUT /v2.6/agents/node/reactivate";
    status(&world.tenant(line, &Value::Null).await, StatusCode::OK);
    assert_eq!(
        world.status("node").await,
        "PENDING",
        "never PASS before a quote"
    );
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
    assert_eq!(world.status("node").await, "PASS");
}

#[tokio::test]
async fn silent_caller_is_offline_not_failed() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    node.attest(&world, &session, &release_key(1)).await;
    let known = world.rounds.get(&node.uuid()).unwrap();
    known.update(|progress| progress.tally.last_pass -= 60);
    assert_eq!(world.status("node").await, "TIMEOUT");
    node.attest(&world, &session, &release_key(1)).await;
    assert_eq!(world.status("node").await, "PASS");
}

#[tokio::test]
async fn callers_and_polled_nodes_side_by_side() {
    let world = World::start().await;
    let caller = Machine::new("caller");
    caller.enrol(&world).await;
    let polled = Machine::new("polled");
    let mut body = polled.addition(&json!({}));
    let certificate = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
    body["mtls_cert"] = certificate.cert.pem().into();
    body["cloudagent_port"] = 1.into();
    let reply = world.tenant("POST /v2.6/agents/polled", &body).await;
    status(&reply, StatusCode::OK);
    let list = world.tenant("GET /v2.6/agents/", &Value::Null).await.json();
    assert_eq!(list["results"]["uuids"], json!([["caller"], ["polled"]]));
    let version = world
        .ask(&Who::Nobody, "GET /version", &Value::Null)
        .await
        .json();
    assert_eq!(version["results"]["current_version"], "2.6");
    assert_eq!(version["results"]["supported_versions"][6], "3.0");

    let nowhere = world
        .ask(&Who::Nobody, "GET /v3.0/nowhere", &Value::Null)
        .await;
    status(&nowhere, StatusCode::NOT_FOUND);

    let mut with_v = Machine::new("other").addition(&json!({}));
    with_v["v"] = "AAAAAAAAAAAAAAAAAAAAAA==".into();
    let reply = world.tenant("POST /v2.6/agents/other", &with_v).await;
    status(&reply, StatusCode::BAD_REQUEST);
    let reason = reply.json()["status"].as_str().unwrap().to_owned();
    assert!(reason.contains("deposit its payload"), "{reason}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.status("caller").await, "PENDING", "nobody polls it");
}
