//! What a webhook is told, and how often.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use verifier_host::http::{Listening, Peer, StopSwitch, stop_switch};
use verifier_host::pki::Authority;

use super::{added, checked, with_key};
use crate::program::{Verifier, addition, until};

/// What a webhook took, and what it answers next.
#[derive(Default)]
struct Inner {
    took: Vec<Value>,
    answers: Vec<StatusCode>,
    tries: usize,
}

type Shared = Arc<Mutex<Inner>>;

async fn take(State(inner): State<Shared>, peer: Peer, body: String) -> StatusCode {
    assert!(
        peer.certificate.is_some(),
        "the verifier shows its certificate"
    );
    let mut inner = inner.lock().unwrap();
    inner.tries += 1;
    let answer = inner.answers.pop().unwrap_or(StatusCode::ACCEPTED);
    if answer.is_success() {
        inner.took.push(serde_json::from_str(&body).unwrap());
    }
    answer
}

/// A webhook at this address, under the verifier's CA.
async fn serve(verifier: &Verifier, address: &str, inner: &Shared) -> StopSwitch {
    let tls = Authority::open(&verifier.cv_ca())
        .unwrap()
        .server_config()
        .unwrap();
    let router = Router::new().fallback(take).with_state(Arc::clone(inner));
    let listening = Listening::bind(address.parse().unwrap(), Some(tls), router)
        .await
        .unwrap();
    let (switch, stop) = stop_switch();
    tokio::spawn(listening.serve(stop));
    switch
}

/// An address that nobody else has now.
fn address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn webhook_is_told_until_it_takes_it() {
    let address = address();
    let url = format!("https://{address}/hook?a=1");
    let options = [
        "--enabled-revocation-notifications",
        "agent,webhook",
        "--webhook-url",
        &url,
    ];
    let mut verifier = Verifier::start_with(&options).await;
    let agent = verifier.agent(1).await;
    for id in ["one", "two", "three"] {
        added(&verifier, id, &with_key(&agent, &json!({}))).await;
    }
    verifier.revoke("one").await;
    until("the agent's entry", || !agent.lock().revocations.is_empty()).await;
    verifier.kill();
    verifier.start_again().await;

    let inner = Shared::default();
    inner.lock().unwrap().answers = vec![StatusCode::INTERNAL_SERVER_ERROR, StatusCode::NOT_FOUND];
    let _switch = serve(&verifier, &address, &inner).await;
    verifier.revoke("two").await;
    let took = |number: usize| {
        let inner = Arc::clone(&inner);
        move || inner.lock().unwrap().took.len() >= number
    };
    until("both entries", took(2)).await;
    let messages = checked(&inner.lock().unwrap().took.clone());
    let about: Vec<_> = messages.iter().map(|msg| msg["agent_id"].clone()).collect();
    assert_eq!(about, ["one", "two"]);
    assert!(inner.lock().unwrap().tries >= 4, "refused twice");

    // What it took it isn't told again.
    verifier.terminate();
    verifier.start_again().await;
    verifier.revoke("three").await;
    until("the third entry", took(3)).await;
    checked(&inner.lock().unwrap().took.clone());
}

#[tokio::test]
async fn webhook_alone_hears_of_nodes_without_a_key() {
    let address = address();
    let url = format!("https://{address}/");
    let options = [
        "--enabled-revocation-notifications",
        "['agent', 'webhook']",
        "--webhook-url",
        &url,
    ];
    let verifier = Verifier::start_with(&options).await;
    let inner = Shared::default();
    let _switch = serve(&verifier, &address, &inner).await;
    let (node, peer) = (verifier.agent(1).await, verifier.agent(2).await);
    added(&verifier, "node", &addition(&node)).await;
    added(&verifier, "peer", &addition(&peer)).await;
    verifier.until_status("node", "PASS").await;
    node.lock().tpm.measure(7, b"another boot");
    verifier.until_status("node", "FAIL").await;
    until("the notice", || !inner.lock().unwrap().took.is_empty()).await;
    let notice = inner.lock().unwrap().took[0].clone();
    assert_eq!(notice["signature"], "");
    let msg: Value = serde_json::from_str(notice["msg"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&msg["agent_id"], msg.get("number")),
        (&json!("node"), None)
    );
    verifier.until_passes("peer", 3).await;
    assert!(peer.lock().revocations.is_empty());
    assert_eq!(verifier.view("node").await.get("revocations"), None);
}
