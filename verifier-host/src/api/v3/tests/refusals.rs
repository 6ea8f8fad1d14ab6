//! What is refused, by code.

use std::time::Duration;

use agent_core::wire::manifest::{CapPcr, Deliver, Manifest};
use agent_core::wire::quote::HashAlg;
use axum::body::Body;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::world::{Machine, SEALED, Who, World, release_key, status};

#[tokio::test]
async fn second_request_in_a_boot_is_refused() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
    node.cap();
    assert_eq!(node.try_release(&world, [1; 8]).await, "403 capped");
    let report = world.report("node").await;
    assert_eq!(report["refusals"][0]["code"], "capped", "{report}");
    assert_eq!(report["refusals"][0]["reset_count"], 5);
    assert_eq!(report["boot"]["capped"], true);
    node.clock.restart_count += 1;
    assert_eq!(node.try_release(&world, [1; 8]).await, "403 resumed");
    node.reboot();
    node.cap();
    assert_eq!(
        node.try_release(&world, [1; 8]).await,
        "403 capped",
        "capped before it asked"
    );
    node.reboot();
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
}

#[tokio::test]
async fn cleared_tpm_is_reported() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::Once).await;
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
    node.clock.reset_count = 1;
    node.clock.restart_count = 0;
    node.clock.clock_ms = 5;
    assert_eq!(node.try_release(&world, [1; 8]).await, "403 cleared-tpm");
    assert_eq!(world.status("node").await, "PASS");
    let world = world.restart().await;
    assert_eq!(world.report("node").await["cleared_tpm"], true);
    node.clock.reset_count = 2;
    assert_eq!(
        node.try_release(&world, [1; 8]).await,
        "403 cleared-tpm",
        "until confirmed"
    );
    let line = "PUT /v3.0/agents/node/payload/confirm";
    status(&world.tenant(line, &Value::Null).await, StatusCode::OK);
    assert_eq!(world.report("node").await["cleared_tpm"], false);
    // The counters can come to the boot that had it again: it is spent all the same.
    (node.clock.reset_count, node.clock.restart_count) = (5, 1);
    assert_eq!(node.try_release(&world, [1; 8]).await, "403 spent");
    node.deposit(&world, [2; 8], Deliver::Once).await;
    assert_eq!(node.try_release(&world, [2; 8]).await, "200");
}

#[tokio::test]
async fn power_cut_is_recorded_not_failed() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
    node.reboot();
    node.clock.safe = false;
    node.clock.clock_ms = 10;
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
    assert_eq!(world.report("node").await["boot"]["safe"], false);
}

#[tokio::test]
async fn release_is_bound_to_session_key_and_time() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let (key, other) = (release_key(1), release_key(2));
    let session = node.session(&world).await;
    let second = node.session(&world).await;
    let (index, _) = node.attest(&world, &session, &key).await;
    let ask = async |session, index, payload, key| {
        let reply = node.release(&world, session, index, payload, key).await;
        reply.said()
    };
    for (name, session, index, payload, key, wanted) in [
        (
            "another key",
            &session,
            index,
            [1; 8],
            &other,
            "403 not-bound",
        ),
        (
            "another session",
            &second,
            index,
            [1; 8],
            &key,
            "403 not-fresh",
        ),
        (
            "another attestation",
            &session,
            index + 1,
            [1; 8],
            &key,
            "403 not-fresh",
        ),
        (
            "another payload",
            &session,
            index,
            [2; 8],
            &key,
            "404 unknown-payload",
        ),
        ("right", &session, index, [1; 8], &key, "200"),
        ("again", &session, index, [1; 8], &key, "200"),
        (
            "used, another key",
            &session,
            index,
            [1; 8],
            &other,
            "403 not-fresh",
        ),
    ] {
        assert_eq!(ask(session, index, payload, key).await, wanted, "{name}");
    }
    let (late, _) = node.attest(&world, &session, &key).await;
    world.pass(Duration::from_secs(61));
    let reply = node.release(&world, &session, late, [1; 8], &key).await;
    assert_eq!(reply.said(), "403 not-fresh", "too old");
    let refusals = world.report("node").await["refusals"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(refusals, 5);

    // Begun but not answered, and failed.
    let (waiting, ..) = Machine::asked(&node.begin(&world, &session).await);
    let reply = node.release(&world, &session, waiting, [1; 8], &key).await;
    assert_eq!(reply.said(), "403 not-fresh");
    node.pcrs[7][0] = 9;
    let (failed, _) = node.attest(&world, &session, &key).await;
    let reply = node.release(&world, &session, failed, [1; 8], &key).await;
    assert_eq!(reply.said(), "403 not-passed");
}

#[tokio::test]
async fn quote_from_before_the_deposit_is_not_bound() {
    let world = World::start().await;
    let mut node = Machine::new("node");
    node.register(&world).await;
    node.enrol(&world).await;
    let (session, key) = (node.session(&world).await, release_key(1));
    let (index, _) = node.attest(&world, &session, &key).await;
    let reply = node.release(&world, &session, index, [1; 8], &key).await;
    assert_eq!(reply.said(), "404 no-payload");
    node.deposit(&world, [1; 8], Deliver::PerBoot).await;
    let reply = node.release(&world, &session, index, [1; 8], &key).await;
    assert_eq!(reply.said(), "403 not-bound");
    assert_eq!(node.try_release(&world, [1; 8]).await, "200");
}

#[tokio::test]
async fn nonce_unique_single_use_per_agent() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let other = Machine::ready("other", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let others = other.session(&world).await;
    let mut seen = vec![session.challenge.clone(), others.challenge.clone()];
    for (machine, session) in [(&node, &session), (&other, &others)] {
        for _ in 0..3 {
            let (_, challenge, _) = Machine::asked(&machine.begin(&world, session).await);
            assert!(challenge.len() == 16 && !seen.contains(&challenge));
            seen.push(challenge);
        }
    }

    let (replaced, old, pcrs) = Machine::asked(&node.begin(&world, &session).await);
    let (index, challenge, _) = Machine::asked(&node.begin(&world, &session).await);
    let reply = node.send(&world, &session, replaced, &Value::Null).await;
    assert_eq!(reply.said(), "422 document");
    let of_old = node.quote(&old, &pcrs);
    let reply = node.send(&world, &session, replaced, &of_old).await;
    assert_eq!(
        reply.said(),
        "404 unknown-attestation",
        "replaced by the next"
    );
    let second = node.session(&world).await;
    let good = node.quote(&challenge, &pcrs);
    let reply = node.send(&world, &second, index, &good).await;
    assert_eq!(reply.said(), "404 unknown-attestation", "another session's");
    status(
        &node.send(&world, &session, index, &good).await,
        StatusCode::ACCEPTED,
    );
    let reply = node.send(&world, &session, index, &good).await;
    assert_eq!(reply.said(), "403 repeated");

    let (index, challenge, _) = Machine::asked(&node.begin(&world, &session).await);
    world.pass(Duration::from_secs(60));
    let late = node.quote(&challenge, &pcrs);
    assert_eq!(
        node.send(&world, &session, index, &late).await.said(),
        "403 late"
    );

    // A recorded boot played back.
    let (index, ..) = Machine::asked(&node.begin(&world, &session).await);
    status(
        &node.send(&world, &session, index, &good).await,
        StatusCode::ACCEPTED,
    );
    let verdict = node.verdict(&world, &session).await;
    assert!(
        verdict["failure_reason"]
            .as_str()
            .unwrap()
            .contains("another nonce"),
        "{verdict}"
    );
    assert_eq!(world.status("node").await, "FAIL");
}

#[tokio::test]
async fn receipt_cannot_be_a_quote() {
    let decode = |body: &Value| {
        BASE64_STANDARD
            .decode(body["message"].as_str().unwrap())
            .unwrap()
    };
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let (index, challenge, pcrs) = Machine::asked(&node.begin(&world, &session).await);

    // What answers an attestation is no receipt, whatever PCR 16 holds.
    let bound = node.receipt(&challenge, [1; 8]);
    assert_eq!(
        node.give_receipt(&world, &session, &bound).await.said(),
        "422 receipt"
    );
    let mut right = node.receipt(&session.challenge, [1; 8]);
    let mut swapped = right.clone();
    swapped["receipt"] = BASE64_STANDARD.encode(r#"{"format":1}"#).into();
    assert_eq!(
        node.give_receipt(&world, &session, &swapped).await.said(),
        "422 receipt"
    );
    right["message"] = BASE64_STANDARD
        .encode(node.tpm.certify(&session.challenge))
        .into();
    assert_eq!(
        node.give_receipt(&world, &session, &right).await.said(),
        "422 receipt"
    );
    let other = node.session(&world).await;
    let right = node.receipt(&session.challenge, [1; 8]);
    assert_eq!(
        node.give_receipt(&world, &other, &right).await.said(),
        "422 receipt"
    );
    status(
        &node.give_receipt(&world, &session, &right).await,
        StatusCode::CREATED,
    );

    // A receipt's quote is no proof of possession, and none of an attestation.
    let (opened, proof) = node.open(&world).await;
    let quote = decode(&node.quote(&proof, &pcrs));
    assert_eq!(node.prove(&world, opened, &quote).await.said(), "401 proof");
    status(
        &node.send(&world, &session, index, &right).await,
        StatusCode::ACCEPTED,
    );
    assert_eq!(node.verdict(&world, &session).await["evaluation"], "fail");
}

#[tokio::test]
async fn proofs_that_do_not_hold() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let stranger = Machine::new("node");
    let challenge = async || node.open(&world).await;

    let (id, nonce) = challenge().await;
    let foreign = stranger
        .prove(&world, id, &stranger.tpm.certify(&nonce))
        .await;
    assert_eq!(foreign.said(), "401 proof", "another TPM");
    let again = node.prove(&world, id, &node.tpm.certify(&nonce)).await;
    assert_eq!(
        again.said(),
        "404 unknown-session",
        "a challenge serves once"
    );
    let (id, nonce) = challenge().await;
    let named = node.prove(&world, id, &stranger.tpm.certify(&nonce)).await;
    assert_eq!(named.said(), "401 proof", "another key's name");
    let (id, _) = challenge().await;
    let old = node.prove(&world, id, &node.tpm.certify(&nonce)).await;
    assert_eq!(old.said(), "401 proof", "another challenge");
    let (id, nonce) = challenge().await;
    world.pass(Duration::from_secs(60));
    let late = node.prove(&world, id, &node.tpm.certify(&nonce)).await;
    assert_eq!(late.said(), "404 unknown-session", "too late");

    let code = async |machine: &Machine, opened: (u64, Vec<u8>)| {
        let reply = machine
            .prove(&world, opened.0, &machine.tpm.certify(&opened.1))
            .await;
        status(&reply, StatusCode::OK);
        let attributes = reply.json()["data"]["attributes"].clone();
        assert_eq!(attributes["evaluation"], "fail");
        assert!(attributes.get("token").is_none());
        attributes["failure_code"].as_str().unwrap().to_owned()
    };
    let new = Machine::new("new");
    assert_eq!(code(&new, new.open(&world).await).await, "not-registered");
    new.register(&world).await;
    let opened = new.open(&world).await;
    new.enrol(&world).await;
    assert_eq!(
        code(&new, opened).await,
        "not-enrolled",
        "opened before it was added"
    );
    new.session(&world).await;
}

#[tokio::test]
async fn deposits_that_are_refused() {
    let world = World::start().await;
    let node = Machine::new("node");
    node.enrol(&world).await;
    let line = "PUT /v3.0/agents/node/payload";
    let usual = node.manifest([1; 8], Deliver::PerBoot);
    let reply = world.tenant(line, &node.deposit_body(&usual)).await;
    assert_eq!(reply.said(), "422 manifest", "not registered");
    node.register(&world).await;

    let with = |change: fn(&mut Manifest)| {
        let mut manifest = usual.clone();
        change(&mut manifest);
        node.deposit_body(&manifest)
    };
    let other = |member: &str, value: &str| {
        let mut body = node.deposit_body(&usual);
        body[member] = value.into();
        body
    };
    for (name, body, wanted) in [
        (
            "another node",
            with(|m| m.agent = "x".parse_uuid()),
            "422 manifest",
        ),
        ("another EK", with(|m| m.ek_name[9] ^= 1), "422 manifest"),
        ("another AK", with(|m| m.ak_name[9] ^= 1), "422 manifest"),
        (
            "another blob",
            with(|m| m.u_blob_sha256[0] ^= 1),
            "422 manifest",
        ),
        ("empty", with(|m| m.sealed_bytes = 0), "422 manifest"),
        (
            "too large",
            with(|m| m.sealed_bytes = 2 << 20),
            "413 too-large",
        ),
        (
            "another bank",
            with(|m| m.cap = CapPcr::at_zero(15, HashAlg::Sha384)),
            "422 manifest",
        ),
        ("no manifest", other("manifest", "e30="), "422 manifest"),
        ("no base64", other("signer", "?"), "422 manifest"),
        ("no signature", other("signature", ""), "422 manifest"),
        ("short V", other("v", "AAAA"), "422 manifest"),
        ("no object", json!([]), "422 manifest"),
    ] {
        assert_eq!(world.tenant(line, &body).await.said(), wanted, "{name}");
    }
    let nobody = "PUT /v3.0/agents/nobody/payload";
    assert_eq!(
        world.tenant(nobody, &with(|_| ())).await.said(),
        "404 unknown-agent"
    );
    assert_eq!(
        node.upload(&world, [1; 8], SEALED).await.said(),
        "404 unknown-payload"
    );
    assert_eq!(world.report("node").await["deposit"], Value::Null);

    let weak = Machine::new("weak");
    weak.register(&world).await;
    let body = weak.addition(&json!({ "15": ["00".repeat(32)] }));
    status(
        &world.tenant("POST /v2.6/agents/weak", &body).await,
        StatusCode::OK,
    );
    let line = "PUT /v3.0/agents/weak/payload";
    let mut body = weak.deposit_body(&weak.manifest([1; 8], Deliver::PerBoot));
    assert_eq!(world.tenant(line, &body).await.said(), "422 weak-policy");
    body["allow_weak_policy"] = true.into();
    assert_eq!(world.tenant(line, &body).await.said(), "201");
}

trait ParseUuid {
    fn parse_uuid(&self) -> agent_core::wire::text::Uuid;
}

impl ParseUuid for str {
    fn parse_uuid(&self) -> agent_core::wire::text::Uuid {
        agent_core::wire::text::Uuid::parse(self).unwrap()
    }
}

#[tokio::test]
async fn documents_that_are_refused() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let line = "POST /v3.0/agents/node/attestations";
    let good = node.supported();
    let text = [("content-type", "text/plain")];
    let reply = world
        .raw(&session.who, line, Body::from(good.to_string()), &text)
        .await;
    assert_eq!(reply.said(), "415 media-type");
    let capabilities = "/data/attributes/evidence_supported/0/capabilities";
    for (name, at, value, pointer) in [
        (
            "nothing",
            "/data/attributes/evidence_supported",
            json!([]),
            "/data/attributes/evidence_supported",
        ),
        (
            "no key",
            &format!("{capabilities}/certification_keys"),
            json!([]),
            "/certification_keys",
        ),
        (
            "no bank",
            &format!("{capabilities}/available_subjects"),
            json!({}),
            "/available_subjects",
        ),
        ("no object", "/data", json!(3), "/data"),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(at).unwrap() = value;
        let reply = world.ask(&session.who, line, &body).await;
        assert_eq!(reply.said(), "422 document", "{name}");
        let at = reply.json()["errors"][0]["source"]["pointer"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(at.ends_with(pointer), "{name}: {at}");
    }
    let large = "x".repeat(40_000);
    assert_eq!(
        world.ask(&session.who, line, &large.into()).await.said(),
        "413 too-large"
    );
    // All of them counted: the burst is over, and only what is too early carries Retry-After.
    let mut last = node.begin(&world, &session).await;
    for _ in 0..10 {
        last = node.begin(&world, &session).await;
    }
    assert_eq!(last.said(), "429 too-often");
    assert_eq!(last.headers["retry-after"], "1");
    let nobody = world.ask(&Who::Nobody, line, &good).await;
    assert!(!nobody.headers.contains_key("retry-after"));
    world.pass(Duration::from_millis(60));
    status(&node.begin(&world, &session).await, StatusCode::CREATED);
}

#[tokio::test]
async fn too_many_sessions_wait() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    for _ in 0..30 {
        node.open(&world).await;
    }
    let methods = json!([{ "authentication_class": "pop", "authentication_type": "tpm_pop" }]);
    let attributes = json!({ "agent_id": "node", "authentication_supported": methods });
    let body = json!({ "data": { "type": "session", "attributes": attributes } });
    let reply = world.ask(&Who::Nobody, "POST /v3.0/sessions", &body).await;
    assert_eq!(reply.said(), "429 too-often");
    assert!(reply.headers.contains_key("retry-after"));
    let other = Machine::new("other");
    other.open(&world).await;
    world.pass(Duration::from_secs(2));
    node.session(&world).await;
}
