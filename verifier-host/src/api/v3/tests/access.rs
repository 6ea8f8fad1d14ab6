//! Who may ask what.

use std::time::Duration;

use agent_core::wire::manifest::{Deliver, PayloadId};
use axum::body::Body;
use serde_json::json;

use super::world::{Machine, Who, World};

/// What each route says to each credential, in the order of [`every_route_by_every_credential`]'s columns. `in` is any answer
/// of a handler that was reached.
const ROUTES: &[(&str, [&str; 6])] = &[
    ("POST /v3.0/agents/node/attestations", AGENT),
    ("PATCH /v3.0/agents/node/attestations/1", AGENT),
    ("GET /v3.0/agents/node/attestations", EITHER),
    ("GET /v3.0/agents/node/attestations/latest", EITHER),
    ("GET /v3.0/agents/node/payload", EITHER),
    ("GET /v3.0/agents/node/payload/sealed", AGENT),
    ("GET /v3.0/agents/node/payload/ID/sealed", AGENT),
    ("POST /v3.0/agents/node/payload/release", AGENT),
    ("POST /v3.0/agents/node/payload/receipt", AGENT),
    ("GET /v3.0/agents/node/revocations", AGENT),
    ("POST /v3.0/agents/node/revocations/outcomes", AGENT),
    ("GET /v2.6/revocations", TENANT_2),
    ("PUT /v2.6/revocations/crl-signer", TENANT_2),
    ("PUT /v3.0/agents/node/payload", TENANT),
    ("PUT /v3.0/agents/node/payload/ID/sealed", TENANT),
    ("PUT /v3.0/agents/node/payload/confirm", TENANT),
    ("DELETE /v3.0/agents/node/payload", TENANT),
    ("GET /v2.6/agents/node", TENANT_2),
    ("PUT /v2.6/agents/node/stop", TENANT_2),
];

// nobody, its own token, another agent's, an expired one, an administrator, an administrator who shows the agent's token
const AGENT: [&str; 6] = ["401", "in", "403", "401", "401", "in"];
const EITHER: [&str; 6] = ["401", "in", "403", "401", "in", "in"];
const TENANT: [&str; 6] = ["401", "403", "403", "403", "in", "403"];
const TENANT_2: [&str; 6] = TENANT;

#[tokio::test]
async fn every_route_by_every_credential() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let other = Machine::ready("other", &world, Deliver::PerBoot).await;
    let expired = node.session(&world).await.who;
    world.pass(Duration::from_secs(181));
    let own = node.session(&world).await.who;
    let Who::Agent(token) = &own else {
        panic!("an agent's session");
    };
    let both = Who::Both(token.clone());
    let others = other.session(&world).await.who;
    let everybody = [
        Who::Nobody,
        own.clone(),
        others,
        expired,
        Who::Administrator,
        both,
    ];
    for (line, wanted) in ROUTES {
        let line = line.replace("ID", &PayloadId([1; 8]).to_string());
        for (who, wanted) in everybody.iter().zip(wanted) {
            let reply = world.raw(who, &line, Body::empty(), &[]).await;
            let got = match reply.status {
                401 | 403 => reply.status.to_string(),
                _ => "in".to_owned(),
            };
            assert_eq!(got, *wanted, "{line} by {who:?}: {}", reply.said());
        }
    }
}

#[tokio::test]
async fn token_of_a_node_that_is_gone_or_added_anew_is_none() {
    let world = World::start().await;
    let node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let (opened, challenge) = node.open(&world).await;
    let line = "GET /v3.0/agents/node/payload";
    assert_eq!(
        world.ask(&session.who, line, &json!(null)).await.said(),
        "200"
    );
    world.tenant("DELETE /v2.6/agents/node", &json!(null)).await;
    assert_eq!(
        world.ask(&session.who, line, &json!(null)).await.said(),
        "401 no-token"
    );
    node.enrol(&world).await;
    assert_eq!(
        world.ask(&session.who, line, &json!(null)).await.said(),
        "401 no-token"
    );
    let reply = node
        .prove(&world, opened, &node.tpm.certify(&challenge))
        .await;
    let attributes = &reply.json()["data"]["attributes"];
    assert_eq!(attributes["failure_code"], "not-enrolled", "{attributes}");
}

#[tokio::test]
async fn token_lives_180_seconds_after_each_pass() {
    let world = World::start().await;
    let mut node = Machine::ready("node", &world, Deliver::PerBoot).await;
    let session = node.session(&world).await;
    let line = "GET /v3.0/agents/node/payload";
    let key = super::world::release_key(1);
    for (name, seconds, attests, wanted) in [
        ("before the end", 170, true, "200"),
        ("extended", 170, false, "200"),
        ("not extended", 11, false, "401 no-token"),
    ] {
        world.pass(Duration::from_secs(seconds));
        if attests {
            node.attest(&world, &session, &key).await;
        }
        let said = world.ask(&session.who, line, &json!(null)).await.said();
        assert_eq!(said, wanted, "{name}");
    }
    // A token that doesn't exist, by its digest or otherwise.
    for token in ["", "x", &"0".repeat(64)] {
        let who = Who::Agent(token.to_owned());
        assert_eq!(
            world.ask(&who, line, &json!(null)).await.said(),
            "401 no-token"
        );
    }
}
