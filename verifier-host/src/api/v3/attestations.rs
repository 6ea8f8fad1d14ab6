//! `/v3.0/agents/{id}/attestations`: what is asked, what comes back, and the verdict.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::error::{Error, JSON_API, document};
use super::logs::{self, Logs};
use super::question::question;
use super::sessions::rfc3339;
use super::{Answer, Api, Caller, agent_id, push_of, to_its_end};
use crate::evidence::pushed::{Asked, Parts};
use crate::evidence::shown::Shown;
use crate::http::{Peer, read};
use crate::payloads::Boot;
use crate::push::Held;
use crate::push::attestations::{AskedLog, Attestation, LogKind, NotTaken, Proof, Question, Stage};
use crate::push::sessions::{CHALLENGE_LIFE, Session};
use crate::rounds::node::Node;
use crate::rounds::progress::{Failure, OperationalState};
use crate::rounds::push::{Judged, NotPassed, judge};

/// Begins an attestation: a challenge, and what is to be quoted.
pub(super) async fn begin(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let session = api.session(&headers, &agent_id(&id)?)?;
    json_api(&headers)?;
    let node = &session.node;
    let push = push_of(node)?;
    may_attest(node)?;
    let now = api.clock.both();
    push.attestations().paced(api.rounds.interval(), now.0)?;
    let body = read(body, MAX_BEGIN_BYTES).await?;
    let judged_by = match api.rounds.policies().of(&node.terms) {
        Ok(judged_by) => judged_by,
        Err(missing) => return Err(Error::not_passed(missing.to_string())),
    };
    let question = question(node, push, judged_by, &body)?;
    let mut requested = vec![json!({
        "evidence_class": CERTIFICATION,
        "evidence_type": TPM_QUOTE,
        "chosen_parameters": &*question.said.chosen,
    })];
    requested.extend(question.logs.iter().map(logs::requested));
    let index = {
        let mut attestations = push.attestations();
        if attestations.is_evaluating(session.id) {
            let detail = "evidence of this session is being evaluated";
            return Err(Error::new(StatusCode::CONFLICT, "two-at-once", detail));
        }
        attestations.begin(session.id, question, now)
    };
    let place = format!("/v3.0/agents/{}/attestations/{index}", node.id);
    let body = json!({
        "data": {
            "type": "attestation",
            "id": index.to_string(),
            "attributes": {
                "stage": "awaiting_evidence",
                "evidence_requested": requested,
                "created_at": rfc3339(now.1),
                "challenges_expire_at": rfc3339(now.1 + CHALLENGE_LIFE.as_secs()),
            },
        },
        "links": { "self": &place },
    });
    let mut response = document(StatusCode::CREATED, &body);
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

/// Whether the node is attested: one that failed or was stopped isn't, until it is reactivated.
fn may_attest(node: &Node) -> Result<(), Error> {
    node.update(|progress| {
        let standing = &progress.standing;
        match (standing.state, &standing.failure) {
            (OperationalState::Stopped, _) => Err(Error::not_passed(
                "this node's attestation was stopped; its tenant has to reactivate it",
            )),
            (state, Some(failure)) if !state.is_attesting() => Err(Error::not_passed(format!(
                "this node failed before ({}); its tenant has to reactivate it",
                failure.reason
            ))),
            (state, None) if !state.is_attesting() => {
                Err(Error::not_passed("this node failed before"))
            }
            _ => Ok(()),
        }
    })
}

#[derive(Deserialize)]
struct Finish<'a> {
    #[serde(borrow)]
    data: FinishData<'a>,
}

#[derive(Deserialize)]
struct FinishData<'a> {
    #[serde(borrow)]
    attributes: FinishAttributes<'a>,
}

#[derive(Deserialize)]
struct FinishAttributes<'a> {
    #[serde(borrow)]
    evidence_collected: Vec<Collected<'a>>,
}

#[derive(Deserialize)]
struct Collected<'a> {
    #[serde(borrow)]
    evidence_class: Cow<'a, str>,
    #[serde(borrow)]
    evidence_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct QuoteData<'a> {
    #[serde(borrow)]
    subject_data: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
}

/// The parts of a quote, decoded, and the logs beside it.
pub(super) struct Evidence {
    pub(super) message: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) subject_data: Vec<u8>,
    pub(super) logs: Logs,
}

impl Evidence {
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            message: &self.message,
            signature: &self.signature,
            subject_data: &self.subject_data,
        }
    }
}

#[derive(Serialize)]
struct Echo<'a> {
    data: EchoData<'a>,
    meta: Meta,
}

#[derive(Serialize)]
struct EchoData<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    attributes: EchoAttributes<'a>,
}

#[derive(Serialize)]
struct EchoAttributes<'a> {
    stage: &'static str,
    evaluation: &'static str,
    evidence: Vec<EchoEvidence<'a>>,
    system_info: &'a RawValue,
}

#[derive(Serialize)]
struct EchoEvidence<'a> {
    evidence_class: &'static str,
    evidence_type: &'static str,
    capabilities: &'a RawValue,
    chosen_parameters: &'a RawValue,
    /// Of a quote alone: logs are long, and whoever sent them has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Meta {
    seconds_to_next_attestation: u64,
}

/// Takes the evidence, and judges it.
pub(super) async fn finish(
    State(api): State<Api>,
    Path((id, index)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let session = api.session(&headers, &agent_id(&id)?)?;
    json_api(&headers)?;
    let (index, wanted) = {
        let mut attestations = push_of(&session.node)?.attestations();
        let index = number(&index, || {
            attestations.latest(Some(session.id)).map(|one| one.index)
        })?;
        (index, attestations.asked_logs(index, session.id))
    };
    let (limit, _one) = if wanted.is_empty() {
        (MAX_FINISH_BYTES, None)
    } else {
        let one = Arc::clone(&push_of(&session.node)?.showing);
        let one = one.try_lock_owned().map_err(|_| {
            let detail = "logs of this node are being read; send these when that is done";
            Error::new(StatusCode::CONFLICT, "two-at-once", detail)
        })?;
        (MAX_FINISH_BYTES + MAX_LOGS_BYTES, Some(one))
    };
    let body: Bytes = read(body, limit).await?;
    let is_long = body.len() > LONG_EVIDENCE_BYTES;
    let (data, mut evidence) = {
        let (data, evidence) = evidence(&body, &wanted)?;
        (data.to_owned(), evidence)
    };
    evidence.logs.keep(body.into())?;
    let now = api.clock.now();
    let question = push_of(&session.node)?
        .attestations()
        .take(index, session.id, now)
        .map_err(not_taken)?;
    let settling = Settling {
        api: api.clone(),
        session,
        index,
        now,
        is_long,
    };
    let question = to_its_end(settling.settle(question, evidence)).await?;
    let said = &question.said;
    let mut echoed = vec![EchoEvidence {
        evidence_class: CERTIFICATION,
        evidence_type: TPM_QUOTE,
        capabilities: &said.capabilities,
        chosen_parameters: &said.chosen,
        data: Some(&data),
    }];
    echoed.extend(question.logs.iter().map(|log| EchoEvidence {
        evidence_class: LogKind::CLASS,
        evidence_type: log.kind.name(),
        capabilities: &log.capabilities,
        chosen_parameters: &log.chosen,
        data: None,
    }));
    let echo = Echo {
        data: EchoData {
            kind: "attestation",
            id: index.to_string(),
            attributes: EchoAttributes {
                stage: "evaluating_evidence",
                evaluation: "pending",
                evidence: echoed,
                system_info: &said.system_info,
            },
        },
        meta: Meta {
            seconds_to_next_attestation: api.rounds.interval().as_secs_f64().ceil() as u64,
        },
    };
    Ok(document(StatusCode::ACCEPTED, &echo))
}

/// The quote as it stands and decoded, with the logs that were asked for behind it.
fn evidence<'a>(body: &'a [u8], wanted: &[AskedLog]) -> Result<(&'a RawValue, Evidence), Error> {
    let finish: Finish<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::document("/data", format!("not the document expected: {error}")))?;
    let collected = finish.data.attributes.evidence_collected;
    let (one, rest) = match collected.split_first() {
        Some((one, rest)) if rest.len() == wanted.len() => (one, rest),
        _ => {
            let detail = format!("a tpm_quote and {} logs were asked for", wanted.len());
            return Err(Error::document(COLLECTED_POINTER, detail));
        }
    };
    if one.evidence_class != CERTIFICATION || one.evidence_type != TPM_QUOTE {
        let pointer = format!("{COLLECTED_POINTER}/0/evidence_type");
        return Err(Error::document(pointer, "a tpm_quote was asked for"));
    }
    let pointer = |name: &str| format!("{COLLECTED_POINTER}/0/data{name}");
    let data: QuoteData<'_> = serde_json::from_str(one.data.get())
        .map_err(|error| Error::document(pointer(""), error.to_string()))?;
    let decode = |name: &str, text: &str| {
        let decoded = BASE64_STANDARD.decode(text);
        decoded.map_err(|_| Error::document(pointer(name), "no base64"))
    };
    let evidence = Evidence {
        message: decode("/message", &data.message)?,
        signature: decode("/signature", &data.signature)?,
        subject_data: decode("/subject_data", &data.subject_data)?,
        logs: logs_of(body, rest, wanted)?,
    };
    Ok((one.data, evidence))
}

fn logs_of(body: &[u8], collected: &[Collected<'_>], wanted: &[AskedLog]) -> Result<Logs, Error> {
    let mut logs = Logs::default();
    for (place, (one, log)) in (1..).zip(collected.iter().zip(wanted)) {
        let pointer = format!("{COLLECTED_POINTER}/{place}");
        let name = log.kind.name();
        if one.evidence_class != LogKind::CLASS || one.evidence_type != name {
            let pointer = format!("{pointer}/evidence_type");
            return Err(Error::document(pointer, format!("{name} was asked for")));
        }
        logs.read(log, (body, one.data), &format!("{pointer}/data"))?;
    }
    Ok(logs)
}

fn not_taken(why: NotTaken) -> Error {
    match why {
        NotTaken::Unknown => Error::unknown_attestation(),
        NotTaken::Repeated => Error::new(
            StatusCode::FORBIDDEN,
            "repeated",
            "the evidence of this attestation came before",
        ),
        NotTaken::Late => Error::new(
            StatusCode::FORBIDDEN,
            "late",
            "the challenge of this attestation has expired",
        ),
        NotTaken::Busy => Error::new(
            StatusCode::CONFLICT,
            "two-at-once",
            "the evidence of this attestation is being evaluated",
        ),
    }
}

/// Evidence on its way to a verdict.
struct Settling {
    api: Api,
    session: Arc<Session>,
    index: u64,
    now: Instant,
    /// Whether judging takes so long that others would notice.
    is_long: bool,
}

impl Settling {
    async fn settle(
        self,
        question: Box<Question>,
        evidence: Evidence,
    ) -> Result<Box<Question>, Error> {
        let node = Arc::clone(&self.session.node);
        let judge = move || {
            let asked = Asked {
                challenge: &question.challenge,
                bank: question.bank,
                pcrs: question.pcrs,
                previous: question.previous,
            };
            let logs = (&question.asked, evidence.logs.came());
            let judged = judge(&node.terms, evidence.parts(), &asked, logs);
            (question, judged)
        };
        let judged = match self.is_long {
            true => tokio::task::spawn_blocking(judge).await,
            false => Ok(judge()),
        };
        let (question, judged) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                self.set(Stage::Failed {
                    reason: BROKE_OFF.to_owned(),
                });
                return Err(Error::internal(&error));
            }
        };
        let settled = match judged {
            Ok(judged) => self.passed(&question, judged).await,
            Err(NotPassed::ReadAnew) => {
                self.session.node.remember(None);
                let reason =
                    "the node booted anew, and sent the end of its IMA list alone; attest again";
                self.set(Stage::Failed {
                    reason: reason.to_owned(),
                });
                Ok(())
            }
            Err(NotPassed::Failed(failure, shown)) => self.failed(failure, shown).await,
        };
        if settled.is_err() {
            self.set(Stage::Failed {
                reason: BROKE_OFF.to_owned(),
            });
        }
        settled.map(|()| question)
    }

    async fn passed(&self, question: &Question, judged: Judged) -> Result<(), Error> {
        let node = &self.session.node;
        let Judged { pushed, known } = judged;
        let went_back = pushed.went_back;
        let proof = Proof {
            challenge: question.challenge,
            bank: pushed.pcrs.bank(),
            values: pushed.pcrs.values().to_vec(),
            clock: pushed.clock,
            received: self.now,
            released: None,
        };
        self.see_boot(&proof, went_back).await?;
        if !self.api.rounds.caller_passed(node, proof.clock).await? {
            let reason = "the node failed or was stopped meanwhile".to_owned();
            self.set(Stage::Failed { reason });
            return Ok(());
        }
        node.remember(known);
        if let Some(push) = &node.push {
            push.attestations().see_system(&question.said.system_info);
        }
        self.session.extend(self.now);
        self.set(Stage::Passed(Box::new(proof)));
        Ok(())
    }

    /// Notes the boot, in the database if anything of it is new.
    async fn see_boot(&self, proof: &Proof, went_back: bool) -> Result<(), Error> {
        let node = &self.session.node;
        let push = push_of(node)?;
        let seen = |held: &Held| {
            let cap = held.deposit.as_ref().map(|deposit| &deposit.manifest.cap);
            Boot::seen(held.boot.as_ref(), proof, cap, went_back)
        };
        let held = push.held();
        if held.boot == Some(seen(&held)) {
            return Ok(());
        }
        let _one = push.deciding.lock().await;
        let boot = seen(&push.held());
        if went_back {
            tracing::warn!(agent = %node.id, "its TPM's boot counters went back: it was cleared, or it is another one");
        }
        self.api.rounds.store().save_boot(&node.id, &boot).await?;
        push.hold(|held| held.boot = Some(boot));
        Ok(())
    }

    async fn failed(&self, failure: Failure, shown: Option<Box<Shown>>) -> Result<(), Error> {
        let reason = failure.reason.clone();
        self.set(Stage::Failed { reason });
        Ok(self
            .api
            .rounds
            .caller_failed(&self.session.node, failure, shown)
            .await?)
    }

    fn set(&self, stage: Stage) {
        if let Some(push) = &self.session.node.push {
            push.attestations().set(self.index, self.session.id, stage);
        }
    }
}

/// One attestation, or the latest: for the agent of its own session, for administrators of all.
pub(super) async fn show(
    State(api): State<Api>,
    Path((id, index)): Path<(String, String)>,
    peer: Peer,
    headers: HeaderMap,
) -> Answer {
    let caller = api.caller(&peer, &headers, &agent_id(&id)?)?;
    let (node, session) = match &caller {
        Caller::Agent(session) => (&session.node, Some(session.id)),
        Caller::Administrator(node) => (node, None),
    };
    let attestations = push_of(node)?.attestations();
    let latest = attestations.latest(session);
    let index = number(&index, || latest.map(|one| one.index))?;
    let mut all = attestations.iter();
    let one = all
        .find(|one| one.index == index && session.is_none_or(|session| one.session == session))
        .ok_or_else(Error::unknown_attestation)?;
    Ok(document(StatusCode::OK, &json!({ "data": view(one) })))
}

/// The attestations that are kept, oldest first.
pub(super) async fn list(
    State(api): State<Api>,
    Path(id): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answer {
    let caller = api.caller(&peer, &headers, &agent_id(&id)?)?;
    let (node, session) = match &caller {
        Caller::Agent(session) => (&session.node, Some(session.id)),
        Caller::Administrator(node) => (node, None),
    };
    let attestations = push_of(node)?.attestations();
    let own = |one: &&Attestation| session.is_none_or(|session| one.session == session);
    let views: Vec<_> = attestations.iter().filter(own).map(view).collect();
    Ok(document(StatusCode::OK, &json!({ "data": views })))
}

fn view(one: &Attestation) -> serde_json::Value {
    let (stage, evaluation, reason) = match &one.stage {
        Stage::Awaiting { .. } => ("awaiting_evidence", "pending", None),
        Stage::Evaluating => ("evaluating_evidence", "pending", None),
        Stage::Passed(_) => ("evaluation_complete", "pass", None),
        Stage::Failed { reason } => ("evaluation_complete", "fail", Some(reason)),
    };
    json!({
        "type": "attestation",
        "id": one.index.to_string(),
        "attributes": {
            "index": one.index,
            "stage": stage,
            "evaluation": evaluation,
            "failure_reason": reason,
            "created_at": rfc3339(one.created_at),
        },
    })
}

fn number(index: &str, latest: impl FnOnce() -> Option<u64>) -> Result<u64, Error> {
    let index = match index {
        "latest" => latest(),
        index => index.parse().ok(),
    };
    index.ok_or_else(Error::unknown_attestation)
}

fn json_api(headers: &HeaderMap) -> Result<(), Error> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    match kind.map(str::trim) {
        Some(JSON_API | "application/json") => Ok(()),
        _ => Err(Error::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            format!("the body must be {JSON_API}"),
        )),
    }
}

pub(super) const CERTIFICATION: &str = "certification";
pub(super) const TPM_QUOTE: &str = "tpm_quote";
const COLLECTED_POINTER: &str = "/data/attributes/evidence_collected";

/// Capabilities are kept until the evidence comes.
const MAX_BEGIN_BYTES: usize = 32 << 10;
const MAX_FINISH_BYTES: usize = 64 << 10;

/// The IMA list of a busy server, whole, and a boot log beside it.
const MAX_LOGS_BYTES: usize = 96 << 20;

/// Evidence that is judged beside other work: hashing a whole list takes as long as hundreds of quotes.
const LONG_EVIDENCE_BYTES: usize = 128 << 10;

const BROKE_OFF: &str = "the verifier failed; its log says why";
