//! Logs beside the quote: what is asked for, what is taken, what is refused.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::{InSession, Machine, Reply, World};

const FILES: [&str; 3] = ["boot_aggregate", "/bin/sh", "/bin/tool"];

/// A node that is judged by its IMA list, has measured the first two files, and is in a session.
async fn judged(world: &World) -> (Machine, InSession) {
    let mut node = Machine::new("node");
    node.register(world).await;
    node.enrol_judged(world, &FILES).await;
    FILES[..2].iter().for_each(|path| node.measure(path));
    let session = node.session(world).await;
    (node, session)
}

/// What the node says it has: IMA's list too.
fn supported(node: &Machine) -> Value {
    let mut body = node.supported();
    let log = json!({ "evidence_class": "log", "evidence_type": "ima_log", "capabilities": {
        "entry_count": node.list.lines().count(), "supports_partial_access": true, "appendable": true, "formats": ["text/plain"],
    }});
    let supported = &mut body["data"]["attributes"]["evidence_supported"];
    supported.as_array_mut().unwrap().push(log);
    body
}

async fn begin(world: &World, node: &Machine, session: &InSession) -> Reply {
    let line = format!("POST /v3.0/agents/{}/attestations", node.id);
    world.ask(&session.who, &line, &supported(node)).await
}

/// A quote as asked for, and these documents behind it.
async fn answer(
    world: &World,
    node: &mut Machine,
    session: &InSession,
    asked: &Reply,
    more: &[Value],
) -> Reply {
    let (index, challenge, pcrs) = Machine::asked(asked);
    let mut body = Machine::collected(&node.quote(&challenge, &pcrs));
    let collected = &mut body["data"]["attributes"]["evidence_collected"];
    collected.as_array_mut().unwrap().extend_from_slice(more);
    let line = format!("PATCH /v3.0/agents/{}/attestations/{index}", node.id);
    world.ask(&session.who, &line, &body).await
}

fn list(entries: impl Into<Value>) -> Value {
    json!({ "evidence_class": "log", "evidence_type": "ima_log", "data": { "entry_count": 1, "entries": entries.into() } })
}

/// Attests with the lines that are asked for; which line was the first, and the verdict.
async fn attest(world: &World, node: &mut Machine, session: &InSession) -> (u64, String) {
    let asked = begin(world, node, session).await;
    let requested = &asked.json()["data"]["attributes"]["evidence_requested"];
    let chosen = &requested[1]["chosen_parameters"];
    let first = chosen["starting_offset"].as_u64().unwrap_or(0);
    let skip = usize::try_from(first).unwrap();
    let lines: String = node.list.split_inclusive('\n').skip(skip).collect();
    let reply = answer(world, node, session, &asked, &[list(lines)]).await;
    assert_eq!(reply.status, 202, "{}", reply.json());
    let verdict = node.verdict(world, session).await;
    let reason = verdict["failure_reason"].as_str().unwrap_or_default();
    (
        first,
        format!("{} {reason}", verdict["evaluation"].as_str().unwrap()),
    )
}

#[tokio::test]
async fn only_new_lines_are_asked_for_until_the_node_boots_anew() {
    let world = World::start().await;
    let (mut node, session) = judged(&world).await;
    assert_eq!(
        attest(&world, &mut node, &session).await,
        (0, "pass ".to_owned())
    );
    node.measure(FILES[2]);
    assert_eq!(
        attest(&world, &mut node, &session).await,
        (2, "pass ".to_owned())
    );
    assert_eq!(
        attest(&world, &mut node, &session).await,
        (3, "pass ".to_owned())
    );
    node.reboot();
    node.boot_time = "2026-01-02T00:00:00Z";
    FILES.iter().for_each(|path| node.measure(path));
    assert_eq!(
        attest(&world, &mut node, &session).await,
        (0, "pass ".to_owned())
    );

    // A node that hides that it booted anew is asked again, and isn't failed for it.
    node.reboot();
    FILES.iter().for_each(|path| node.measure(path));
    node.measure(FILES[1]);
    let (first, verdict) = attest(&world, &mut node, &session).await;
    assert!(first == 3 && verdict.contains("booted anew"), "{verdict}");
    assert_eq!(
        attest(&world, &mut node, &session).await,
        (0, "pass ".to_owned())
    );

    node.measure("/bin/implant");
    let (first, verdict) = attest(&world, &mut node, &session).await;
    assert!(first == 4 && verdict.contains("/bin/implant"), "{verdict}");
    assert_eq!(world.status("node").await, "FAIL");
}

#[tokio::test]
async fn evidence_that_was_not_asked_for_is_refused() {
    let world = World::start().await;
    let (mut node, session) = judged(&world).await;
    let text = node.list.clone();
    let quote =
        json!({ "evidence_class": "certification", "evidence_type": "tpm_quote", "data": {} });
    let uefi =
        json!({ "evidence_class": "log", "evidence_type": "uefi_log", "data": { "entries": "" } });
    let no_data = json!({ "evidence_class": "log", "evidence_type": "ima_log", "data": {} });
    for (name, more) in [
        ("no list", vec![]),
        ("two lists", vec![list(text.as_str()), list(text.as_str())]),
        ("another log", vec![uefi]),
        ("another quote", vec![quote]),
        ("nothing in it", vec![no_data]),
        ("numbers", vec![list(12)]),
        ("lists", vec![list(json!(["10 line"]))]),
    ] {
        let asked = begin(&world, &node, &session).await;
        let reply = answer(&world, &mut node, &session, &asked, &more).await;
        assert_eq!(reply.status, 422, "{name}: {}", reply.json());
    }
    assert_ne!(world.status("node").await, "FAIL", "nothing was judged");
    let asked = begin(&world, &node, &session).await;
    let reply = answer(&world, &mut node, &session, &asked, &[list(text)]).await;
    assert_eq!(reply.status, 202, "{}", reply.json());
}

/// A node whose kernel has no IMA, or that leaves it out, can't pass by saying so.
#[tokio::test]
async fn unevaluated_policy_fails() {
    let world = World::start().await;
    let (mut node, session) = judged(&world).await;
    let asked = node.begin(&world, &session).await;
    let requested = &asked.json()["data"]["attributes"]["evidence_requested"];
    assert_eq!(requested.as_array().unwrap().len(), 1);
    let reply = answer(&world, &mut node, &session, &asked, &[]).await;
    assert_eq!(reply.status, 202);
    let verdict = node.verdict(&world, &session).await;
    assert_eq!(verdict["evaluation"], "fail", "{verdict}");
    let line = "GET /v2.6/agents/node";
    let view = world.tenant(line, &Value::Null).await.json();
    assert_eq!(view["results"]["last_event_id"], "ima.missing_list");
}

/// Long bodies are for whom logs were asked of, one at a time.
#[tokio::test]
async fn long_evidence_is_bounded() {
    let world = World::start().await;
    let long = || Body::from("x".repeat(100 << 10));
    let kind = [("content-type", "application/vnd.api+json")];
    let plain = Machine::new("plain");
    plain.register(&world).await;
    plain.enrol(&world).await;
    let session = plain.session(&world).await;
    let (index, _, _) = Machine::asked(&plain.begin(&world, &session).await);
    let line = format!("PATCH /v3.0/agents/plain/attestations/{index}");
    let reply = world.raw(&session.who, &line, long(), &kind).await;
    assert_eq!(reply.status, 413, "{}", reply.json());

    let (node, session) = judged(&world).await;
    let (index, _, _) = Machine::asked(&begin(&world, &node, &session).await);
    let line = format!("PATCH /v3.0/agents/node/attestations/{index}");
    let uuid = node.uuid();
    let held = world.rounds.get(&uuid).unwrap();
    let showing = held.push.as_ref().unwrap().showing.clone();
    let one = showing.lock_owned().await;
    let reply = world.raw(&session.who, &line, long(), &kind).await;
    assert_eq!(reply.said(), "409 two-at-once");
    drop(one);
    let reply = world.raw(&session.who, &line, long(), &kind).await;
    assert_eq!(reply.status, 422, "read, and no document");
}
