//! Does what [`Delivery`] says, and reports how it ended.

use std::time::{Duration, Instant};

use agent_core::wire::text::Uuid;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use verifier_host::transport::TransportKey;

use super::agree::random_text;
use super::manage;
use crate::client::{Agent, ClientError, Enrolled, Enrolment, Verifier};
use crate::delivery::{Delivery, Event, Plan, Script, Step, Verdict};
use crate::error::{Exit, Failure};
use crate::policy::PolicyKind;
use crate::report::{Output, Report};
use crate::seal::Sealed;

/// All that one delivery needs.
pub(super) struct Course<'a> {
    /// When the command began.
    pub(super) start: Instant,
    /// The node.
    pub(super) uuid: &'a Uuid,
    /// What is to be done.
    pub(super) plan: Plan,
    /// The payload.
    pub(super) sealed: Option<&'a Sealed>,
    /// What U is encrypted to.
    pub(super) transport: &'a TransportKey,
    /// What the verifier gets.
    pub(super) enrolment: Enrolment<'a>,
}

/// Runs a delivery to its end.
///
/// # Errors
/// [`Failure`] before the verifier has the node; afterwards whatever happens is a [`Report`].
pub(super) async fn deliver(
    course: Course<'_>,
    mut agent: Agent,
    verifier: &mut Verifier,
    output: &Output,
) -> Result<Report, Failure> {
    let mut stop = Stop::listen()?;
    let mut delivery = Delivery::new(course.plan);
    let mut progress = output.progress();
    let digest = course.sealed.map(Sealed::sha256).unwrap_or_default();
    loop {
        let now = course.start.elapsed();
        let event = match delivery.next(now) {
            Step::Done => break,
            Step::Pause(pause) => {
                progress.show(delivery.last_seen(), now);
                match stop.or_pause(pause).await {
                    Some(event) => event,
                    None => continue,
                }
            }
            Step::RemoveOld => {
                manage::delete_and_wait(verifier, course.uuid, course.plan.limit).await?;
                Event::Removed
            }
            Step::SendHalf => after_removal(&course, send_half(&course, &mut agent).await)?,
            Step::Enrol => after_removal(&course, enrol(&course, verifier).await)?,
            Step::AskVerifier => event(verifier.view(course.uuid).await, |view| {
                Event::Verifier(view.map(Box::new))
            }),
            Step::AskProof => ask_proof(&course, &mut agent).await?,
            Step::AskOutcome => event(agent.outcome(&digest).await, |outcome| {
                outcome.map_or(Event::NoOutcomeRoute, Event::Outcome)
            }),
            Step::Withdraw => Event::Withdrawn(withdraw(course.uuid, verifier).await),
        };
        delivery.happened(event, course.start.elapsed());
    }
    drop(progress);
    Ok(report(&course, &delivery, &digest))
}

/// Says with an error that the older record is gone, if it is.
fn after_removal(course: &Course<'_>, result: Result<Event, Failure>) -> Result<Event, Failure> {
    result.map_err(|source| {
        if course.plan.replace {
            Failure::AfterRemoval {
                source: Box::new(source),
            }
        } else {
            source
        }
    })
}

/// What came of a question: an answer, an absence that may pass, or an end.
fn event<T>(result: Result<T, ClientError>, answered: impl FnOnce(T) -> Event) -> Event {
    match result {
        Ok(answer) => answered(answer),
        Err(error) if error.may_pass() => Event::Unreachable(error.to_string()),
        Err(error) => Event::Lost(error.to_string()),
    }
}

/// The signals that end a delivery; one that comes while a peer is asked is kept until the next pause.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::Signals)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::Signals)?,
        })
    }

    /// Waits so long; the signal, if one comes first.
    pub(super) async fn or_pause(&mut self, pause: Duration) -> Option<Event> {
        tokio::select! {
            () = tokio::time::sleep(pause) => None,
            Some(()) = self.interrupt.recv() => Some(Event::Interrupted),
            Some(()) = self.terminate.recv() => Some(Event::Interrupted),
        }
    }
}

async fn send_half(course: &Course<'_>, agent: &mut Agent) -> Result<Event, Failure> {
    if let Some(sealed) = course.sealed {
        let encrypted = course.transport.encrypt(sealed.u().as_bytes())?;
        agent
            .send_half(&encrypted, &sealed.tag(course.uuid.as_str()), sealed)
            .await?;
    }
    Ok(Event::HalfSent)
}

/// Gives the verifier its part. If it isn't known whether that arrived, it is taken back as far as possible.
async fn enrol(course: &Course<'_>, verifier: &mut Verifier) -> Result<Event, Failure> {
    match verifier.enrol(course.uuid, &course.enrolment).await {
        Ok(Enrolled::New) => Ok(Event::Enrolled),
        Ok(Enrolled::Exists(reason)) => Err(exists(course, reason)),
        Err(error) => {
            if matches!(error, ClientError::Link { .. }) {
                // The first error says what is wrong; this one would say it again.
                let _ = verifier.delete(course.uuid).await;
            }
            Err(error.into())
        }
    }
}

/// With policies, the verifier's reason alone says whether it has the node or one of them.
fn exists(course: &Course<'_>, reason: String) -> Failure {
    let uuid = course.uuid.to_string();
    let enrolment = &course.enrolment;
    let runtime =
        !(enrolment.runtime_policy.is_empty() && enrolment.runtime_policy_name.is_empty());
    if runtime || enrolment.mb_policy.is_some() || !enrolment.mb_policy_name.is_empty() {
        return Failure::EnrolConflict { uuid, reason };
    }
    let state = "added by somebody else meanwhile".to_owned();
    Failure::Exists { uuid, state }
}

async fn ask_proof(course: &Course<'_>, agent: &mut Agent) -> Result<Event, Failure> {
    let challenge = random_text()?;
    let wanted = course
        .sealed
        .map(|sealed| sealed.tag(&challenge))
        .unwrap_or_default();
    Ok(event(agent.prove(&challenge).await, |hmac| {
        Event::Proof(hmac.is_some_and(|hmac| hmac == wanted))
    }))
}

async fn withdraw(uuid: &Uuid, verifier: &mut Verifier) -> Result<(), String> {
    verifier
        .delete(uuid)
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn report(course: &Course<'_>, delivery: &Delivery, digest: &str) -> Report {
    let uuid = course.uuid.as_str();
    let (exit, result, mut text) = in_words(uuid, delivery);
    match delivery.withdrawn() {
        Some(Ok(())) => {
            text.push_str(" The verifier's record was taken back: the next add starts anew.");
            text.push_str(&kept_policies(&course.enrolment));
        }
        Some(Err(reason)) => {
            text.push_str(&format!(" The verifier's record could not be taken back ({reason}): `-c delete -u {uuid}` does it."));
        }
        None if exit == Exit::Done => {}
        None => text.push_str(
            " The node stays at the verifier, under attestation; the next add or update delivers anew.",
        ),
    }
    let script = match delivery.verdict() {
        Some(Verdict::Finished(script)) => script.clone(),
        Some(Verdict::ScriptFailed(script)) => Some(script.clone()),
        _ => None,
    };
    let payload = course
        .sealed
        .map(|sealed| json!({ "sealed_bytes": sealed.bytes().len(), "sealed_sha256": digest }));
    let error = if exit == Exit::Done {
        Value::Null
    } else {
        json!(text)
    };
    let json = json!({
        "uuid": uuid,
        "result": result,
        "exit_code": exit as u8,
        "passed": delivery.has_passed() || exit == Exit::Done,
        "payload": payload,
        "script": script,
        "withdrawn": delivery.withdrawn().map(Result::is_ok),
        "duration_ms": u64::try_from(course.start.elapsed().as_millis()).unwrap_or(u64::MAX),
        "error": error,
    });
    Report { exit, text, json }
}

/// How it ended: exit code, a word for programs, a sentence for people.
fn in_words(uuid: &str, delivery: &Delivery) -> (Exit, &'static str, String) {
    let (exit, word, text) = match delivery.verdict() {
        Some(Verdict::Attested) => (
            Exit::Done,
            "attested",
            "has passed and is under attestation; no payload was to be delivered".to_owned(),
        ),
        Some(Verdict::Finished(None)) => (
            Exit::Done,
            "finished",
            "has passed, the payload is in place; it has no script".to_owned(),
        ),
        Some(Verdict::Finished(Some(script))) => {
            let text = format!(
                "has passed, the payload is in place, its script ended: {}",
                ended(script)
            );
            (Exit::Done, "finished", text)
        }
        Some(Verdict::Delivered) => (
            Exit::Done,
            "delivered",
            "has passed, the payload is delivered; this agent doesn't report its script".to_owned(),
        ),
        Some(Verdict::ScriptFailed(script)) => {
            (Exit::Script, "script_failed", script_failure(script))
        }
        Some(Verdict::PayloadFailed(reason)) => (
            Exit::Payload,
            "payload_failed",
            format!("has passed, but couldn't use the payload: {reason}."),
        ),
        Some(Verdict::Refused(view)) => {
            let key = if delivery.has_passed() {
                ""
            } else {
                " It got no key, nothing was decrypted."
            };
            (
                Exit::Refused,
                "refused",
                format!("was refused by the verifier: {}.{key}", view.why_refused()),
            )
        }
        Some(Verdict::Vanished) => (
            Exit::Conflict,
            "vanished",
            "was deleted from the verifier by somebody before its payload was in place.".to_owned(),
        ),
        Some(Verdict::TimedOut(seen)) => (
            Exit::Timeout,
            "timed_out",
            format!("wasn't done in time (--timeout sets it). Last: {seen}."),
        ),
        Some(Verdict::Lost(reason)) => (
            Exit::Peer,
            "lost",
            format!("can't be followed any more: {reason}."),
        ),
        Some(Verdict::Interrupted) | None => (
            Exit::Other,
            "interrupted",
            "was given up on request.".to_owned(),
        ),
    };
    (exit, word, format!("{uuid} {text}"))
}

/// Says of policies that came under names of their own that they stay: others may be attested by them by now.
fn kept_policies(enrolment: &Enrolment<'_>) -> String {
    let runtime = (!enrolment.runtime_policy.is_empty())
        .then_some((PolicyKind::Runtime, enrolment.runtime_policy_name));
    let boot = enrolment
        .mb_policy
        .map(|_| (PolicyKind::MeasuredBoot, enrolment.mb_policy_name));
    let named = runtime.into_iter().chain(boot);
    let told = named
        .filter(|(_, name)| !name.is_empty())
        .map(|(kind, name)| {
            format!(
                " The {} {name} stays there: the next add gives {}-name {name} alone.",
                kind.noun(),
                kind.option()
            )
        });
    told.collect()
}

fn script_failure(script: &Script) -> String {
    let mut text = format!("has the payload, but its script failed: {}.", ended(script));
    let tail = script.output_tail.as_deref().map(str::trim_end);
    if let Some(tail) = tail.filter(|tail| !tail.is_empty()) {
        text.push_str(&format!(" It printed at the end:\n{tail}\n"));
    }
    text
}

fn ended(script: &Script) -> String {
    format!("{} after {} ms", script.end, script.duration_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::enrolment;

    #[test]
    fn policies_under_their_own_names_stay() {
        let stays = " The runtime policy web stays there: the next add gives --runtime-policy-name web alone.";
        let boot = " The measured-boot policy boot stays there: the next add gives --mb-policy-name boot alone.";
        let both = format!("{stays}{boot}");
        let rows = [
            ("none", "", "", None, "", ""),
            ("nameless", "cA==", "", Some("{}"), "", ""),
            ("kept before", "", "web", None, "boot", ""),
            ("runtime", "cA==", "web", None, "boot", stays),
            ("both", "cA==", "web", Some("{}"), "boot", &both),
        ];
        for (name, runtime_policy, runtime_policy_name, mb_policy, mb_policy_name, wanted) in rows {
            let enrolment = Enrolment {
                runtime_policy,
                runtime_policy_name,
                mb_policy,
                mb_policy_name,
                ..enrolment()
            };
            assert_eq!(kept_policies(&enrolment), wanted, "{name}");
        }
    }
}
