#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use serde_json::json;

use super::view::OutcomeAnswer;
use super::*;

const DIGEST: &str = "abcd";

fn plan() -> Plan {
    Plan {
        payload: true,
        replace: false,
        verify: false,
        limit: Duration::from_secs(60),
    }
}

fn view(state: u8, passes: u64) -> Event {
    Event::Verifier(Some(Box::new(VerifierView {
        operational_state: Some(state),
        last_successful_attestation: Some(passes),
        ..VerifierView::default()
    })))
}

fn outcome(answer: serde_json::Value) -> Event {
    let mut answer = answer;
    answer["sealed_sha256"] = json!(DIGEST);
    let answer: OutcomeAnswer = serde_json::from_value(answer).unwrap();
    Event::Outcome(answer.of(DIGEST))
}

/// Plays a course: whenever one of these steps is asked for, its next event happens. Returns the steps that aren't pauses.
fn play(plan: Plan, mut script: Vec<(Step, Event)>) -> (Vec<Step>, Delivery) {
    let mut delivery = Delivery::new(plan);
    let mut now = Duration::ZERO;
    let mut steps = Vec::new();
    loop {
        let step = delivery.next(now);
        match step {
            Step::Done => return (steps, delivery),
            Step::Pause(pause) => {
                assert!(pause > Duration::ZERO, "a pause that is none would spin");
                now += pause;
                continue;
            }
            _ => {}
        }
        steps.push(step);
        let event = match step {
            Step::RemoveOld => Event::Removed,
            Step::SendHalf => Event::HalfSent,
            Step::Enrol => Event::Enrolled,
            Step::Withdraw => Event::Withdrawn(Ok(())),
            _ => match script.iter().position(|(when, _)| *when == step) {
                Some(index) => script.remove(index).1,
                None if step == Step::AskVerifier => view(1, 0),
                None if step == Step::AskProof => Event::Proof(false),
                None => outcome(json!({"stage": "received"})),
            },
        };
        delivery.happened(event, now);
    }
}

#[test]
fn every_course_has_its_end() {
    use Step::{AskOutcome, AskProof, AskVerifier};
    let finished = |code: i32| {
        outcome(json!({"stage": "finished", "script": {"exit_code": code, "duration_ms": 3}}))
    };
    let script = |end| Script {
        end,
        duration_ms: 3,
        output_tail: None,
    };
    let without_payload = Plan {
        payload: false,
        ..plan()
    };
    let verified = Plan {
        verify: true,
        ..plan()
    };
    let refused = |state| match view(state, 0) {
        Event::Verifier(Some(view)) => Verdict::Refused(view),
        _ => unreachable!(),
    };
    type Row = (&'static str, Plan, Vec<(Step, Event)>, Verdict, bool);
    let rows: Vec<Row> = vec![
        (
            "script ends with 0",
            plan(),
            vec![(AskOutcome, finished(0))],
            Verdict::Finished(Some(script(ScriptEnd::Exit(0)))),
            false,
        ),
        (
            "no script",
            plan(),
            vec![(
                AskOutcome,
                outcome(json!({"stage": "finished", "script": null})),
            )],
            Verdict::Finished(None),
            false,
        ),
        (
            "autorun_nonzero_is_reported",
            plan(),
            vec![(AskOutcome, finished(1))],
            Verdict::ScriptFailed(script(ScriptEnd::Exit(1))),
            false,
        ),
        (
            "script killed",
            plan(),
            vec![(
                AskOutcome,
                outcome(json!({"stage": "finished", "script": {"signal": 9, "duration_ms": 3}})),
            )],
            Verdict::ScriptFailed(script(ScriptEnd::Signal(9))),
            false,
        ),
        (
            "script too long",
            plan(),
            vec![(
                AskOutcome,
                outcome(
                    json!({"stage": "failed", "script": {"timed_out": true, "exit_code": 0, "duration_ms": 3}}),
                ),
            )],
            Verdict::ScriptFailed(script(ScriptEnd::TimedOut(true))),
            false,
        ),
        (
            "bad payload",
            plan(),
            vec![(
                AskOutcome,
                outcome(json!({"stage": "failed", "error": "full"})),
            )],
            Verdict::PayloadFailed("full".to_owned()),
            false,
        ),
        (
            "wrong PCR",
            plan(),
            vec![(AskVerifier, view(9, 0))],
            refused(9),
            true,
        ),
        (
            "failed",
            plan(),
            vec![(AskVerifier, view(7, 0))],
            refused(7),
            true,
        ),
        (
            "no payload",
            without_payload,
            vec![(AskVerifier, view(3, 5))],
            Verdict::Attested,
            false,
        ),
        (
            "no payload, refused",
            without_payload,
            vec![(AskVerifier, view(9, 0))],
            refused(9),
            true,
        ),
        (
            "Keylime's agent",
            plan(),
            vec![
                (AskOutcome, Event::NoOutcomeRoute),
                (AskProof, Event::Proof(true)),
            ],
            Verdict::Delivered,
            false,
        ),
        (
            "proof on demand",
            verified,
            vec![
                (AskOutcome, finished(0)),
                (AskProof, Event::Proof(true)),
                (AskOutcome, finished(0)),
            ],
            Verdict::Finished(Some(script(ScriptEnd::Exit(0)))),
            false,
        ),
        (
            "record not there yet, then deleted by somebody",
            plan(),
            vec![
                (AskVerifier, Event::Verifier(None)),
                (AskVerifier, view(3, 5)),
                (AskVerifier, Event::Verifier(None)),
            ],
            Verdict::Vanished,
            false,
        ),
        (
            "both away for a moment",
            plan(),
            vec![
                (AskVerifier, Event::Unreachable("v".to_owned())),
                (AskOutcome, Event::Unreachable("a".to_owned())),
                (AskOutcome, finished(0)),
            ],
            Verdict::Finished(Some(script(ScriptEnd::Exit(0)))),
            false,
        ),
    ];
    for (name, plan, script, verdict, withdrawn) in rows {
        let (_, delivery) = play(plan, script);
        assert_eq!(delivery.verdict(), Some(&verdict), "{name}");
        assert_eq!(delivery.withdrawn(), withdrawn.then_some(&Ok(())), "{name}");
    }
}

#[test]
fn the_agent_has_its_half_before_the_verifier() {
    let done = || vec![(Step::AskOutcome, outcome(json!({"stage": "finished"})))];
    let rows = [
        ("add", plan(), vec![Step::SendHalf, Step::Enrol]),
        (
            "readd_with_payload",
            Plan {
                replace: true,
                ..plan()
            },
            vec![Step::RemoveOld, Step::SendHalf, Step::Enrol],
        ),
        (
            "no payload",
            Plan {
                payload: false,
                ..plan()
            },
            vec![Step::Enrol],
        ),
    ];
    for (name, plan, wanted) in rows {
        let mut script = done();
        script.push((Step::AskVerifier, view(3, 5)));
        let (steps, _) = play(plan, script);
        assert_eq!(steps[..wanted.len()], wanted, "{name}");
    }
}

#[test]
fn an_offline_node_is_withdrawn_at_the_end() {
    let (steps, delivery) = play(plan(), Vec::new());
    assert!(matches!(delivery.verdict(), Some(Verdict::TimedOut(_))));
    assert_eq!(steps.last(), Some(&Step::Withdraw));
    assert!(steps.len() < 400, "{} questions in a minute", steps.len());
}

#[test]
fn a_node_that_has_passed_stays_under_attestation() {
    let (steps, delivery) = play(plan(), vec![(Step::AskVerifier, view(3, 5))]);
    assert!(matches!(delivery.verdict(), Some(Verdict::TimedOut(_))));
    assert!(!steps.contains(&Step::Withdraw));
    assert!(delivery.has_passed());
}

#[test]
fn the_first_questions_come_fast() {
    let mut delivery = Delivery::new(plan());
    delivery.happened(Event::HalfSent, Duration::ZERO);
    delivery.happened(Event::Enrolled, Duration::ZERO);
    assert_eq!(delivery.next(Duration::ZERO), Step::Pause(MIN_PAUSE));
    assert_eq!(delivery.next(MIN_PAUSE), Step::AskOutcome);
}

#[test]
fn an_outcome_of_another_payload_is_none() {
    let finished = || {
        serde_json::from_value::<OutcomeAnswer>(
            json!({"sealed_sha256": "ABCD", "stage": "finished"}),
        )
        .unwrap()
    };
    assert_eq!(finished().of(DIGEST).stage, Stage::Finished);
    assert_eq!(finished().of("ef01").stage, Stage::Waiting);
    let unnamed: OutcomeAnswer = serde_json::from_value(json!({"stage": "finished"})).unwrap();
    assert_eq!(unnamed.of(DIGEST).stage, Stage::Waiting);
}

#[test]
fn a_refusal_names_what_was_found_and_wanted() {
    let failure = |event_id: &str, reason: &str, context| {
        Some(FailureView {
            event_id: event_id.to_owned(),
            reason: reason.to_owned(),
            context,
        })
    };
    let pcr = "pcr_validation.invalid_pcr_23";
    let rows = [
        (
            "one value",
            failure(pcr, "", json!({"got": "aa", "expected": ["bb"]})),
            None,
            "PCR 23 holds aa, wanted bb",
        ),
        (
            "several",
            failure(pcr, "", json!({"got": "aa", "expected": ["bb", "cc"]})),
            None,
            "PCR 23 holds aa, wanted one of bb, cc",
        ),
        (
            "not quoted",
            failure(pcr, "", json!({"got": null, "expected": ["bb"]})),
            None,
            "PCR 23 was not in the quote, wanted bb",
        ),
        (
            "another event",
            failure(
                "qoute_validation.x",
                "the nonce\u{1b}[2J differs",
                json!(null),
            ),
            None,
            "the nonce[2J differs",
        ),
        (
            "no reason",
            failure("x.y", "", json!({"a": 1})),
            None,
            "x.y {\"a\":1}",
        ),
        (
            "Keylime's verifier",
            None,
            Some(pcr.to_owned()),
            "event pcr_validation.invalid_pcr_23",
        ),
        ("nothing", None, None, "the verifier gives no reason"),
    ];
    for (name, failure, last_event_id, wanted) in rows {
        let view = VerifierView {
            failure,
            last_event_id,
            ..VerifierView::default()
        };
        assert_eq!(view.why_refused(), wanted, "{name}");
    }
}
