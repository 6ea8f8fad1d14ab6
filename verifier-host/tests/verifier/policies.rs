//! Policies under names, and nodes that are judged by them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use verifier_host::link::Method;

use crate::agent::{Agent, digest_of};
use crate::attestation::meddle;
use crate::program::{Verifier, addition};

/// A runtime policy with these files.
fn policy(files: &[(&str, &[u8])]) -> Value {
    let digests = files.iter().map(|(path, content)| {
        let digests = json!([digest_of(content)]);
        ((*path).to_owned(), digests)
    });
    json!({
        "meta": { "version": 1, "generator": 0 },
        "release": 0,
        "digests": digests.collect::<serde_json::Map<_, _>>(),
        "excludes": ["/tmp/.*"],
        "keyrings": {},
        "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    })
}

fn base64(policy: &Value) -> Value {
    BASE64_STANDARD.encode(policy.to_string()).into()
}

const SHELL: (&str, &[u8]) = ("/bin/sh", b"a shell");
const TOOL: (&str, &[u8]) = ("/bin/tool", b"a tool");

fn measure(agent: &Agent, (path, content): (&str, &[u8])) {
    agent.lock().measure_file(path, content);
}

/// The status of an answer, and what it says.
async fn asked(
    verifier: &Verifier,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (u16, String) {
    let answer = verifier.ask(method, path, body).await;
    (answer.status, answer.reason())
}

#[tokio::test]
async fn policies_are_kept_under_names() {
    let verifier = Verifier::start().await;
    let runtime = json!({ "tpm_policy": "", "runtime_policy": base64(&policy(&[SHELL])), "runtime_policy_key": "" });
    let other = json!({ "runtime_policy": base64(&policy(&[TOOL])) });
    let bad = json!({ "runtime_policy": base64(&json!({ "digests": {} })) });
    let signed = json!({ "runtime_policy": base64(&json!({ "payload": "e30=", "payloadType": "x", "signatures": [] })) });
    let (refstate, rubbish) = (json!({ "mb_policy": "{}" }), json!({ "mb_policy": "[]" }));
    let (post, put, get, delete) = (Method::POST, Method::PUT, Method::GET, Method::DELETE);
    #[rustfmt::skip]
    let rows: &[(Method, &str, Option<&Value>, u16)] = &[
        (get.clone(), "/v2.6/allowlists/web", None, 404),
        (put.clone(), "/v2.6/allowlists/web", Some(&runtime), 404),
        (delete.clone(), "/v2.6/allowlists/web", None, 404),
        (post.clone(), "/v2.6/allowlists/web", Some(&bad), 400),
        (post.clone(), "/v2.6/allowlists/web", Some(&signed), 401),
        (post.clone(), "/v2.6/allowlists/a%2Fb", Some(&runtime), 400),
        (post.clone(), "/v2.6/allowlists/web", Some(&runtime), 201),
        (post.clone(), "/v2.6/allowlists/web", Some(&other), 409),
        (put.clone(), "/v2.6/allowlists/web", Some(&bad), 400),
        (get.clone(), "/v2.6/allowlists/web", None, 200),
        (put.clone(), "/v2.6/allowlists/web", Some(&other), 201),
        (get.clone(), "/v2.6/mbpolicies/web", None, 404),
        (put.clone(), "/v2.6/mbpolicies/web", Some(&refstate), 409),
        (post.clone(), "/v2.6/mbpolicies/web", Some(&rubbish), 400),
        (post.clone(), "/v2.6/mbpolicies/web", Some(&refstate), 201),
        (put, "/v2.6/mbpolicies/web", Some(&refstate), 201),
        (get.clone(), "/v2.6/mbpolicies/web", None, 200),
        (delete.clone(), "/v2.6/mbpolicies/web", None, 204),
    ];
    for (method, path, body, status) in rows {
        let (have, reason) = asked(&verifier, method.clone(), path, *body).await;
        assert_eq!(have, *status, "{method} {path}: {reason}");
    }
    let results = async |path: &str| {
        let answer = verifier.ask(get.clone(), path, None).await;
        answer.json::<Value>().unwrap()["results"].clone()
    };
    assert_eq!(
        results("/v2.6/allowlists/").await,
        json!({ "runtimepolicy names": ["web"] })
    );
    assert_eq!(
        results("/v2.6/mbpolicies/").await,
        json!({ "mbpolicy names": [] })
    );
    let shown = results("/v2.6/allowlists/web").await;
    let text = policy(&[TOOL]).to_string();
    assert_eq!(
        shown,
        json!({ "name": "web", "tmp_policy": null, "runtime_policy": text })
    );
}

#[tokio::test]
async fn policy_in_use_stays_and_a_nameless_one_goes_with_its_node() {
    let verifier = Verifier::start().await;
    let agent = Agent::absent(&verifier.cv_ca(), &verifier.agent_ip(1), 1);
    let mut body = addition(&agent);
    let add = async |id: &str, body: &Value| verifier.add(id, body).await;

    body["runtime_policy_name"] = "web".into();
    let (status, reason) = add("named", &body).await;
    assert!(
        status == 404 && reason.contains("runtime policy web"),
        "{reason}"
    );
    body["runtime_policy"] = base64(&policy(&[SHELL]));
    assert_eq!(add("named", &body).await.0, 200);
    assert_eq!(add("other", &body).await.0, 409, "it is there already");
    body["runtime_policy"] = "".into();
    assert_eq!(add("other", &body).await.0, 200);
    let delete = async |path: &str| asked(&verifier, Method::DELETE, path, None).await;
    let (status, reason) = delete("/v2.6/allowlists/web").await;
    assert!(status == 409 && reason.contains("agent named"), "{reason}");
    for id in ["named", "other"] {
        assert_eq!(delete(&format!("/v2.6/agents/{id}")).await.0, 200);
    }
    assert_eq!(delete("/v2.6/allowlists/web").await.0, 204);

    body["runtime_policy_name"] = "".into();
    body["runtime_policy"] = base64(&policy(&[SHELL]));
    body["mb_policy"] = Value::Null;
    assert_eq!(add("node", &body).await.0, 200);
    let view = verifier.view("node").await;
    assert_eq!(
        (&view["has_runtime_policy"], &view["has_mb_refstate"]),
        (&json!(1), &json!(0))
    );
    let names = async || {
        let answer = verifier.ask(Method::GET, "/v2.6/allowlists/", None).await;
        answer.json::<Value>().unwrap()["results"]["runtimepolicy names"].clone()
    };
    assert_eq!(names().await, json!(["node"]));
    assert_eq!(delete("/v2.6/agents/node").await.0, 200);
    assert_eq!(names().await, json!([]));
    assert_eq!(
        add("node", &body).await.0,
        200,
        "nothing is left in the way"
    );
}

#[tokio::test]
async fn an_unknown_file_fails_the_node_and_is_named() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    measure(&agent, SHELL);
    let mut body = addition(&agent);
    body["runtime_policy"] = base64(&policy(&[SHELL]));
    assert_eq!(verifier.add("node", &body).await.0, 200);
    verifier.until_passes("node", 2).await;
    measure(&agent, ("/tmp/excluded", b"anything"));
    verifier.until_passes("node", 2).await;
    {
        let inner = agent.lock();
        let lines = inner
            .asked
            .iter()
            .map(|query| query.split('&').nth(3).unwrap());
        let mut lines: Vec<_> = lines.collect();
        lines.dedup();
        assert_eq!(
            lines,
            ["ima_ml_entry=0", "ima_ml_entry=1", "ima_ml_entry=2"]
        );
        assert!(inner.asked[0].contains("mask=0x480"), "{}", inner.asked[0]);
    }
    measure(&agent, ("/bin/implant", b"not listed"));
    let view = verifier.until_status("node", "FAIL").await;
    let (event, reason) = (&view["last_event_id"], &view["failure"]["reason"]);
    assert!(event.as_str().unwrap().starts_with("ima."), "{event}");
    let reason = reason.as_str().unwrap();
    assert!(
        reason.contains("line 3") && reason.contains("/bin/implant"),
        "{reason}"
    );
}

/// Agents send the list whether a policy is about it or not.
#[tokio::test]
async fn a_list_that_nobody_judges_travels_once() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    for file in [SHELL, TOOL] {
        measure(&agent, file);
    }
    assert_eq!(verifier.add("node", &addition(&agent)).await.0, 200);
    verifier.until_passes("node", 3).await;
    measure(&agent, SHELL);
    verifier.until_passes("node", 3).await;
    let inner = agent.lock();
    let lines = inner
        .asked
        .iter()
        .map(|query| query.split('&').nth(3).unwrap());
    let mut lines: Vec<_> = lines.collect();
    lines.dedup();
    assert_eq!(
        lines,
        ["ima_ml_entry=0", "ima_ml_entry=2", "ima_ml_entry=3"]
    );
}

#[tokio::test]
async fn a_list_that_the_quote_does_not_explain_fails() {
    let verifier = Verifier::start().await;
    type Lie = fn(&Agent);
    let rows: &[(&str, Lie)] = &[
        ("stripped line", |agent| drop(agent.lock().list.remove(1))),
        ("swapped lines", |agent| agent.lock().list.swap(0, 1)),
        ("PCR 10 extended by hand", |agent| {
            agent.lock().tpm.extend(10, &[7; 32])
        }),
        ("no list", |agent| agent.lock().list.clear()),
        ("another boot's list", |agent| {
            let mut inner = agent.lock();
            inner.tpm.reboot();
            inner.measure_file(TOOL.0, TOOL.1);
            inner.list.pop();
        }),
    ];
    for (number, (name, lie)) in rows.iter().enumerate() {
        let mut agent = verifier.agent(1).await;
        for file in [SHELL, TOOL] {
            measure(&agent, file);
        }
        lie(&agent);
        let mut body = addition(&agent);
        body["runtime_policy"] = base64(&policy(&[SHELL, TOOL]));
        let id = format!("node-{number}");
        assert_eq!(verifier.add(&id, &body).await.0, 200);
        let view = verifier.until_status(&id, "FAIL").await;
        let event = view["last_event_id"].as_str().unwrap();
        assert!(event.starts_with("ima."), "{name}: {event}");
        assert!(agent.lock().halves.is_empty(), "{name}");
        agent.go_down().await;
    }
}

#[tokio::test]
async fn restarts_and_reboots_read_the_list_anew() {
    let mut verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    for file in [SHELL, TOOL] {
        measure(&agent, file);
    }
    let mut body = addition(&agent);
    body["runtime_policy"] = base64(&policy(&[SHELL, TOOL]));
    assert_eq!(verifier.add("node", &body).await.0, 200);
    verifier.until_passes("node", 2).await;

    // The new list is longer than what is known of the old one.
    {
        let mut inner = agent.lock();
        inner.tpm.reboot();
        inner.list.clear();
        for (path, content) in [TOOL, SHELL, SHELL] {
            inner.measure_file(path, content);
        }
    }
    verifier.until_passes("node", 2).await;
    verifier.kill();
    verifier.start_again().await;
    verifier.until_passes("node", 2).await;
    // And shorter.
    {
        let mut inner = agent.lock();
        inner.tpm.reboot();
        inner.list.clear();
        inner.measure_file(TOOL.0, TOOL.1);
    }
    verifier.until_passes("node", 2).await;
}

#[tokio::test]
async fn a_changed_policy_counts_from_the_next_round_on() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    for file in [SHELL, TOOL] {
        measure(&agent, file);
    }
    let mut body = addition(&agent);
    body["runtime_policy"] = base64(&policy(&[SHELL, TOOL]));
    body["runtime_policy_name"] = "web".into();
    assert_eq!(verifier.add("node", &body).await.0, 200);
    verifier.until_passes("node", 1).await;
    let narrower = json!({ "runtime_policy": base64(&policy(&[SHELL])) });
    let path = "/v2.6/allowlists/web";
    assert_eq!(
        asked(&verifier, Method::PUT, path, Some(&narrower)).await.0,
        201
    );
    let view = verifier.until_status("node", "FAIL").await;
    let reason = view["failure"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("line 2") && reason.contains("/bin/tool"),
        "{reason}"
    );
}

/// A policy can't be lost from under a node by its tenant; should it be all the same, nothing passes.
#[tokio::test]
async fn unevaluated_policy_fails() {
    let mut verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    measure(&agent, SHELL);
    let mut body = addition(&agent);
    body["runtime_policy"] = base64(&policy(&[SHELL]));
    assert_eq!(verifier.add("node", &body).await.0, 200);
    verifier.until_passes("node", 1).await;
    verifier.kill();
    meddle(&verifier, "UPDATE policy_texts SET text = x'5b5d'").await;
    verifier.start_again().await;
    let view = verifier.until_status("node", "FAIL").await;
    let reason = view["failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("runtime policy node"), "{reason}");
}
