//! `POST .../payload/receipt`: how far a payload came, by the node's own word and its TPM's signature.
//!
//! Its quote answers the challenge of the session's proof of possession, which no attestation has: neither can pass as the
//! other.

use agent_core::wire::manifest::PayloadId;
use agent_core::wire::quote::PcrMask;
use agent_core::wire::receipt::Receipt;
use agent_core::wire::statement::{self, STATEMENT_PCR};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::attestations::Evidence;
use super::error::{Error, plain};
use super::logs::Logs;
use super::{Answer, Api, agent_id, push_of, to_its_end};
use crate::evidence::pushed::{Asked, check};
use crate::http::read_json;
use crate::push::sessions::Session;
use crate::rounds::node::unix_now;
use crate::store::payloads::StoredReceipt;

#[derive(Deserialize)]
struct Delivered {
    receipt: String,
    subject_data: String,
    message: String,
    signature: String,
}

/// Keeps a receipt that holds.
pub(super) async fn receipt(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let session = api.session(&headers, &agent_id(&id)?)?;
    push_of(&session.node)?
        .attestations()
        .asking(api.clock.now())?;
    let delivered: Delivered = read_json(body, MAX_BODY_BYTES).await?;
    let decode = |text: &str| {
        let decoded = BASE64_STANDARD.decode(text);
        decoded.map_err(|_| refused("a part is no base64"))
    };
    let receipt = decode(&delivered.receipt)?;
    let evidence = Evidence {
        message: decode(&delivered.message)?,
        signature: decode(&delivered.signature)?,
        subject_data: decode(&delivered.subject_data)?,
        logs: Logs::default(),
    };
    let said = judge(&session, &receipt, &evidence)?;
    let stored = StoredReceipt {
        at: unix_now(),
        receipt,
        challenge: session.challenge.to_vec(),
        subject_data: evidence.subject_data,
        message: evidence.message,
        signature: evidence.signature,
    };
    to_its_end(async move {
        let node = &session.node;
        api.rounds.store().record_receipt(&node.id, &stored).await?;
        tracing::info!(agent = %node.id, "payload {}: {}", said.payload_id, said.reached.name());
        Ok(())
    })
    .await?;
    Ok(plain(StatusCode::CREATED, &json!({})))
}

/// Whether the receipt is this node's, made in this session.
fn judge(session: &Session, bytes: &[u8], evidence: &Evidence) -> Result<Receipt, Error> {
    let node = &session.node;
    let receipt = Receipt::parse(bytes).map_err(|error| refused(error.to_string()))?;
    if receipt.agent != node.id {
        return Err(refused("the receipt is of another node"));
    }
    let (bank, pcrs) = covered(session, receipt.payload_id, evidence)?;
    let asked = Asked {
        challenge: &session.challenge,
        bank,
        pcrs,
        previous: None,
    };
    let quoted = check(&node.terms.ak, evidence.parts(), &asked)
        .map_err(|error| refused(error.to_string()))?;
    let digest = statement::receipt(bank, &node.id, &session.challenge, bytes);
    let want = statement::pcr_value(bank, &digest);
    if quoted.pcrs.value(STATEMENT_PCR) == Some(want.as_slice()) {
        Ok(receipt)
    } else {
        Err(refused("PCR 16 doesn't hold this receipt"))
    }
}

/// What the quote must cover. Of a payload that was replaced meanwhile the cap PCR isn't known any more.
fn covered(
    session: &Session,
    payload: PayloadId,
    evidence: &Evidence,
) -> Result<(agent_core::wire::quote::HashAlg, PcrMask), Error> {
    let statement = PcrMask::EMPTY.with(STATEMENT_PCR);
    let deposit = push_of(&session.node)?.held().deposit;
    let cap = deposit
        .filter(|deposit| deposit.manifest.payload_id == payload)
        .map(|deposit| deposit.manifest.cap.clone());
    if let Some(cap) = cap {
        return Ok((cap.bank, statement.with(cap.pcr)));
    }
    let attest = agent_core::wire::quote::Attest::parse(&evidence.message);
    let attest = attest.map_err(|_| refused("message is no quote"))?;
    Ok((attest.bank, statement))
}

fn refused(detail: impl Into<String>) -> Error {
    Error::new(StatusCode::UNPROCESSABLE_ENTITY, "receipt", detail)
}

const MAX_BODY_BYTES: usize = 16 << 10;
