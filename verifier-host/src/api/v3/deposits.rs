//! `/v3.0/agents/{id}/payload`: what the tenant deposits, takes back and is told; what the agent reads of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroize as _;

use super::error::{Error, plain};
use super::{Answer, Api, Caller, administrator, agent_id, push_of, to_its_end};
use crate::evidence::public::EkPublic;
use crate::http::{Peer, read};
use crate::payloads::deposit::{self, Deposit, Draft, DraftError, Spent};
use crate::push::Held;
use crate::rounds::node::Node;
use crate::store::payloads::StoredReceipt;
use agent_core::wire::manifest::Deliver;

/// Takes a deposit; it counts once its sealed bytes are there.
pub(super) async fn deposit(
    State(api): State<Api>,
    Path(id): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    administrator(&peer, &headers)?;
    let node = api.node(&agent_id(&id)?)?;
    let push = push_of(&node)?;
    let ek = registered_ek(&api, &node).await?;
    let body = read(body, MAX_BODY_BYTES).await?;
    let place = deposit::Node {
        id: &node.id,
        terms: &node.terms,
        is_judged: api.rounds.policies().decide_about_the_boot(&node.terms),
        ek: ek.as_ref(),
    };
    let draft = Draft::parse(&body, place, api.max_payload_bytes);
    if let Ok(mut body) = body.try_into_mut() {
        // V was in it; gone unless the connection still shares the buffer.
        body.as_mut().zeroize();
    }
    let draft = draft?;
    let payload_id = draft.manifest.payload_id;
    let answer = || {
        plain(
            StatusCode::CREATED,
            &json!({ "payload_id": payload_id.to_string() }),
        )
    };
    if api.rounds.store().draft(&node.id, &draft).await? {
        return Ok(answer());
    }
    let current = push.held().deposit;
    match current {
        // The same again, whose answer was lost.
        Some(current) if current.bytes == draft.bytes => Ok(answer()),
        Some(_) => Err(DraftError::Manifest {
            what: "payload_id is another deposit's of this node".to_owned(),
        }
        .into()),
        None => Err(Error::unknown_agent()),
    }
}

/// The EK of the registrar's record, if its AK is the one that the node was added with.
async fn registered_ek(api: &Api, node: &Node) -> Result<Option<EkPublic>, Error> {
    let registration = api.rounds.store().registration(node.id.as_str()).await?;
    let Some(registration) = registration else {
        return Ok(None);
    };
    if registration.ak_tpm != node.terms.ak.marshalled() {
        let what =
            "the registered attestation key isn't the one that the node was added with".to_owned();
        return Err(DraftError::Manifest { what }.into());
    }
    Ok(EkPublic::parse(&registration.ek_tpm).ok())
}

/// Takes all of a node's deposits back.
pub(super) async fn withdraw(
    State(api): State<Api>,
    Path(id): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answer {
    administrator(&peer, &headers)?;
    let node = api.node(&agent_id(&id)?)?;
    push_of(&node)?;
    to_its_end(async move {
        let push = push_of(&node)?;
        let _one = push.deciding.lock().await;
        api.rounds.store().withdraw(&node.id).await?;
        let mut gone = None;
        push.hold(|held| gone = held.deposit.take());
        let gone = gone.ok_or_else(Error::no_payload)?;
        api.vault.forget(&gone.file);
        tracing::info!(agent = %node.id, "payload {} withdrawn", gone.manifest.payload_id);
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The tenant accepts a cleared or replaced TPM.
pub(super) async fn confirm(
    State(api): State<Api>,
    Path(id): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answer {
    administrator(&peer, &headers)?;
    let node = api.node(&agent_id(&id)?)?;
    push_of(&node)?;
    to_its_end(async move {
        let push = push_of(&node)?;
        let _one = push.deciding.lock().await;
        let held = push.held();
        let Some(boot) = held.boot.filter(|boot| boot.cleared) else {
            return Ok(());
        };
        let boot = boot.confirmed();
        api.rounds.store().confirm(&node.id, &boot).await?;
        let deposit = held.deposit.map(|deposit| match deposit.spent {
            None => deposit,
            Some(_) => Arc::new(Deposit {
                spent: Some(Spent::Gone),
                ..Deposit::clone(&deposit)
            }),
        });
        push.hold(|held| {
            *held = Held {
                deposit,
                boot: Some(boot),
            };
        });
        tracing::info!(agent = %node.id, "its cleared TPM is accepted");
        Ok(())
    })
    .await?;
    Ok(plain(StatusCode::OK, &json!({})))
}

/// What is deposited: for the agent the manifest, for the tenant all that came of it.
pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answer {
    match api.caller(&peer, &headers, &agent_id(&id)?)? {
        Caller::Administrator(node) => {
            push_of(&node)?;
            Ok(plain(StatusCode::OK, &report(&api, &node).await?))
        }
        Caller::Agent(session) => {
            let deposit = push_of(&session.node)?.held().deposit;
            let deposit = deposit.ok_or_else(Error::no_payload)?;
            let body = json!({
                "payload_id": deposit.manifest.payload_id.to_string(),
                "manifest": b64(&deposit.bytes),
                "signature": b64(&deposit.signature),
                "signer": b64(&deposit.signer),
                "u_blob": b64(&deposit.u_blob),
            });
            Ok(plain(StatusCode::OK, &body))
        }
    }
}

async fn report(api: &Api, node: &Node) -> Result<Value, Error> {
    let held = push_of(node)?.held();
    let store = api.rounds.store();
    let boot = held.boot.map(|boot| {
        json!({
            "reset_count": boot.reset_count,
            "restart_count": boot.restart_count,
            "safe": boot.safe,
            "capped": boot.capped,
        })
    });
    let receipts = store.receipts(&node.id).await?;
    Ok(json!({
        "deposit": held.deposit.as_deref().map(deposit_view),
        "attestation": attestation_view(node),
        "boot": boot,
        "cleared_tpm": held.boot.is_some_and(|boot| boot.cleared),
        "releases": store.releases(&node.id).await?,
        "refusals": store.refusals(&node.id).await?,
        "receipts": receipts.iter().map(receipt_view).collect::<Vec<_>>(),
    }))
}

fn deposit_view(deposit: &Deposit) -> Value {
    let manifest = &deposit.manifest;
    let (deliver, until) = match manifest.deliver {
        Deliver::Once => ("once", None),
        Deliver::PerBoot => ("per-boot", None),
        Deliver::Until(time) => ("until", Some(time)),
    };
    json!({
        "payload_id": manifest.payload_id.to_string(),
        "sealed_bytes": manifest.sealed_bytes,
        "deliver": deliver,
        "until": until,
        "floor": manifest.floor,
        "received_at": deposit.received_at,
        "manifest": b64(&deposit.bytes),
        "signature": b64(&deposit.signature),
        "signer": b64(&deposit.signer),
    })
}

fn attestation_view(node: &Node) -> Value {
    let progress = node.progress();
    let (status, at, reason) = match (&progress.standing.failure, progress.standing.passed) {
        (Some(failure), _) => (
            "fail",
            Some(progress.tally.last_answer),
            Some(&failure.reason),
        ),
        (None, true) => ("pass", Some(progress.tally.last_pass), None),
        (None, false) => ("none", None, None),
    };
    json!({ "status": status, "at": at, "reason": reason })
}

fn receipt_view(receipt: &StoredReceipt) -> Value {
    json!({
        "at": receipt.at,
        "receipt": b64(&receipt.receipt),
        "challenge": b64(&receipt.challenge),
        "subject_data": b64(&receipt.subject_data),
        "message": b64(&receipt.message),
        "signature": b64(&receipt.signature),
    })
}

fn b64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Manifest, signer and blob in base64 take a third of it.
const MAX_BODY_BYTES: usize = 32 << 10;
