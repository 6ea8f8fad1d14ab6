//! `delete`, `regdelete` and `reactivate`.

use std::time::{Duration, Instant};

use agent_core::wire::text::Uuid;
use serde_json::json;

use super::{Context, push};
use crate::client::{Deleted, Peer, Verifier};
use crate::error::Failure;
use crate::report::Report;

/// The first pause while a node is going; later ones double up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Takes a node from the verifier; there being none is fine, as with Keylime.
pub(super) async fn delete(context: &mut Context<'_>) -> Result<Report, Failure> {
    let uuid = context.uuid().await?;
    let was_there = delete_and_wait(&mut context.verifier, &uuid, context.settings.timeout).await?;
    let mut text = if was_there {
        format!("{uuid} is no longer at the verifier")
    } else {
        format!("the verifier has no node {uuid}: nothing to delete")
    };
    // What is remembered stays: the node's floor counter goes on.
    let had_deposit = context.settings.deposits.path(&uuid).exists();
    let was_queued = push::unqueue(context, &uuid)?;
    if had_deposit && was_there {
        text.push_str("; its deposit went with it");
    }
    if was_queued {
        text.push_str("; the request for it is forgotten");
    }
    Ok(Report::done(
        text,
        json!({ "command": "delete", "uuid": uuid.as_str(), "deleted": was_there, "unqueued": was_queued }),
    ))
}

/// Deletes a node and waits until it is gone. False if there was none.
pub(super) async fn delete_and_wait(
    verifier: &mut Verifier,
    uuid: &Uuid,
    limit: Duration,
) -> Result<bool, Failure> {
    match verifier.delete(uuid).await? {
        Deleted::Absent => return Ok(false),
        Deleted::Gone | Deleted::Going => {}
    }
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    while verifier.view(uuid).await?.is_some() {
        if start.elapsed() >= limit {
            return Err(Failure::NotGone {
                uuid: uuid.to_string(),
                seconds: limit.as_secs(),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    Ok(true)
}

/// Takes a node from the registrar.
pub(super) async fn registrar_delete(context: &mut Context<'_>) -> Result<Report, Failure> {
    let uuid = context.uuid().await?;
    if !context.registrar.delete(&uuid).await? {
        return Err(unknown(Peer::Registrar, &uuid));
    }
    let text = format!(
        "{uuid} is no longer registered; its agent registers again when it starts. Its line in {} stays",
        context.settings.known_eks.display()
    );
    Ok(Report::done(
        text,
        json!({ "command": "regdelete", "uuid": uuid.as_str(), "deleted": true }),
    ))
}

/// Lets the verifier attest a node again.
pub(super) async fn reactivate(context: &mut Context<'_>) -> Result<Report, Failure> {
    let uuid = context.uuid().await?;
    let check = !context.arguments.no_verifier_check;
    if check && context.verifier.view(&uuid).await?.is_none() {
        return Err(unknown(Peer::Verifier, &uuid));
    }
    context.verifier.reactivate(&uuid).await?;
    let text =
        format!("{uuid} is attested again; it counts as passed only after its next good quote");
    Ok(Report::done(
        text,
        json!({ "command": "reactivate", "uuid": uuid.as_str(), "reactivated": true }),
    ))
}

/// The error for a node that a server doesn't have.
pub(super) fn unknown(peer: Peer, uuid: &Uuid) -> Failure {
    Failure::Unknown {
        who: peer.name(),
        uuid: uuid.to_string(),
        hint: match peer {
            Peer::Verifier => "`-c cvlist` shows which it has; `-c add` adds one",
            Peer::Registrar | Peer::Agent => "`-c reglist` shows which it has",
        },
    }
}
