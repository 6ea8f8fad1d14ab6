//! `POST .../payload/release`: V, to a key of the boot that passed.

use std::sync::Arc;

use agent_core::payload::release::{ReleaseKey, Terms, WRAPPED_V_BYTES, wrap};
use agent_core::secret::Secret;
use agent_core::wire::manifest::{Deliver, PayloadId};
use agent_core::wire::statement::RELEASE_KEY_BYTES;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::error::{Error, plain};
use super::{Answer, Api, agent_id, push_of, to_its_end};
use crate::http::read_json;
use crate::payloads::decide::{Asking, Grant, Refusal, decide};
use crate::payloads::{Deposit, Spent};
use crate::push::attestations::{Proof, Released, Stage};
use crate::push::sessions::Session;
use crate::rounds::node::unix_now;
use crate::store::payloads::NewRelease;

#[derive(Deserialize)]
struct Wish {
    attestation: u64,
    payload_id: String,
    release_key: String,
}

/// A wish that was read.
struct Request {
    api: Api,
    session: Arc<Session>,
    attestation: u64,
    payload_id: PayloadId,
    key: [u8; RELEASE_KEY_BYTES],
}

/// Releases V, or says why not.
pub(super) async fn release(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let session = api.session(&headers, &agent_id(&id)?)?;
    push_of(&session.node)?
        .attestations()
        .asking(api.clock.now())?;
    let wish: Wish = read_json(body, MAX_BODY_BYTES).await?;
    let key = BASE64_STANDARD.decode(&wish.release_key).ok();
    let key = key.and_then(|key| key.try_into().ok());
    let key = key.ok_or_else(|| {
        let detail = "release_key is not the base64 of 32 bytes";
        Error::new(StatusCode::BAD_REQUEST, "request", detail)
    })?;
    let request = Request {
        api,
        session,
        attestation: wish.attestation,
        payload_id: super::payload_id(&wish.payload_id)?,
        key,
    };
    let payload_id = request.payload_id.to_string();
    let v = to_its_end(request.decided()).await?;
    let body = json!({ "payload_id": payload_id, "v": BASE64_STANDARD.encode(v) });
    Ok(plain(StatusCode::OK, &body))
}

impl Request {
    /// One decision about a node at a time, and its record before its answer.
    async fn decided(self) -> Result<[u8; WRAPPED_V_BYTES], Error> {
        let node = &self.session.node;
        let push = push_of(node)?;
        let _one = push.deciding.lock().await;
        let held = push.held();
        let deposit = held.deposit.ok_or_else(Error::no_payload)?;
        if deposit.manifest.payload_id != self.payload_id {
            return Err(Error::unknown_payload());
        }
        let proof = match self.proof()? {
            Ok(proof) => proof,
            Err(refusal) => return Err(self.refused(&refusal, None).await?),
        };
        if let Some(released) = proof.released.filter(|released| released.key == self.key) {
            return Ok(released.answer);
        }
        let asking = Asking {
            agent: &node.id,
            terms: &node.terms,
            proof: &proof,
            release_key: &self.key,
            boot: held.boot.as_ref(),
            now: self.api.clock.now(),
            unix_now: unix_now(),
        };
        match decide(&deposit, &asking) {
            Ok(grant) => self.granted(grant, &deposit, &proof).await,
            Err(refusal) => Err(self.refused(&refusal, Some(proof.boot())).await?),
        }
    }

    /// The attestation that is named, if it passed and its node may still be told something.
    fn proof(&self) -> Result<Result<Proof, Refusal>, Error> {
        let node = &self.session.node;
        let attesting = node.update(|progress| progress.standing.state.is_attesting());
        let mut attestations = push_of(node)?.attestations();
        let one = attestations.find(self.attestation, self.session.id);
        Ok(match one.map(|one| &one.stage) {
            Some(Stage::Evaluating) => return Err(Error::busy()),
            Some(Stage::Failed { reason }) => Err(Refusal::NotPassed {
                reason: reason.clone(),
            }),
            Some(Stage::Passed(_)) if !attesting => Err(Refusal::NotPassed {
                reason: "the node failed or was stopped since".to_owned(),
            }),
            Some(Stage::Passed(proof)) => Ok(Proof::clone(proof)),
            Some(Stage::Awaiting { .. }) | None => Err(Refusal::NotFresh {
                what: "this session has no such attestation with evidence",
            }),
        })
    }

    async fn refused(&self, refusal: &Refusal, boot: Option<(u32, u32)>) -> Result<Error, Error> {
        let node = &self.session.node;
        tracing::warn!(agent = %node.id, code = refusal.code(), "payload {} not released: {refusal}", self.payload_id);
        let store = self.api.rounds.store();
        let (payload, code) = (self.payload_id, refusal.code());
        store
            .record_refusal(&node.id, payload, code, boot, unix_now())
            .await?;
        Ok(refusal.into())
    }

    async fn granted(
        &self,
        _grant: Grant,
        deposit: &Arc<Deposit>,
        proof: &Proof,
    ) -> Result<[u8; WRAPPED_V_BYTES], Error> {
        let node = &self.session.node;
        let store = self.api.rounds.store();
        let v = store.deposited_v(&node.id, self.payload_id).await?;
        let terms = Terms {
            agent: &node.id,
            challenge: &proof.challenge,
            manifest: &deposit.bytes,
        };
        let answer = wrap(&ephemeral()?, &self.key, &terms, &v)
            .map_err(|error| Error::new(StatusCode::BAD_REQUEST, "request", error.to_string()))?;
        let once = deposit.manifest.deliver == Deliver::Once;
        let spends = once && deposit.spent.is_none();
        let release = NewRelease {
            payload_id: self.payload_id,
            at: unix_now(),
            boot: proof.boot(),
            release_key: &self.key,
            challenge_hash: Sha256::digest(proof.challenge).into(),
            answer: &answer,
            spends,
        };
        store.record_release(&node.id, &release).await?;
        let push = push_of(node)?;
        if spends {
            let spent = Arc::new(Deposit {
                spent: Some(Spent::By(proof.boot())),
                ..Deposit::clone(deposit)
            });
            push.hold(|held| held.deposit = Some(spent));
        }
        if let Some(one) = push.attestations().find(self.attestation, self.session.id)
            && let Stage::Passed(proof) = &mut one.stage
        {
            let key = self.key;
            proof.released = Some(Released { key, answer });
        }
        tracing::info!(agent = %node.id, "payload {} released", self.payload_id);
        Ok(answer)
    }
}

/// A key pair for one answer.
fn ephemeral() -> Result<ReleaseKey, Error> {
    let random = || {
        let mut bytes = Secret::<32>::zeroed();
        let filled = SysRng.try_fill_bytes(bytes.as_mut());
        filled
            .map(|()| bytes)
            .map_err(|error| Error::internal(&error))
    };
    Ok(ReleaseKey::from_random(&random()?, &random()?))
}

const MAX_BODY_BYTES: usize = 4 << 10;
