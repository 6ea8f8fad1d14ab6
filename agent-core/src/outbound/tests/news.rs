//! When a verifier is asked for revocations, and what an answer changes: nothing but when it is asked again.

use super::*;

fn asked(play: &Play) -> usize {
    let is_asked = |event: &&String| *event == "catch up";
    play.events.iter().filter(is_asked).count()
}

/// The session is over with the first receipt after the script.
fn unknown_at_last(kind: &str, n: usize) -> Option<Option<Reply>> {
    (kind == "receipt" && n >= 1).then(|| Some(Reply::error(401, "")))
}

fn lost_at_last(kind: &str, n: usize) -> Option<Option<Reply>> {
    (kind == "receipt" && n >= 1).then_some(None)
}

fn not_released(kind: &str, _: usize) -> Option<Option<Reply>> {
    (kind == "release").then(|| Some(Reply::error(403, "not-passed")))
}

#[test]
fn once_after_a_script_whatever_comes_of_it() {
    let outcome = ScriptOutcome {
        exit_code: Some(3),
        signal: None,
        timed_out: false,
        duration_ms: 5,
    };
    let failed = End::Script(outcome);
    type Row<'a> = (
        &'a str,
        Result<ScriptOutcome, &'static str>,
        Twist<'a>,
        End,
        usize,
    );
    let well = ScriptOutcome {
        exit_code: Some(0),
        ..outcome
    };
    let not_run = End::NotRun(Receipt::reason("no sh"));
    let rows: [Row<'_>; 5] = [
        ("it ends well", Ok(well), &plain, End::Finished, 1),
        ("it fails", Ok(outcome), &plain, failed.clone(), 1),
        ("it can't be run", Err("no sh"), &plain, not_run, 1),
        (
            "the receipt is lost",
            Ok(outcome),
            &lost_at_last,
            failed.clone(),
            1,
        ),
        (
            "the session is over",
            Ok(outcome),
            &unknown_at_last,
            failed,
            0,
        ),
    ];
    let answers = [
        CaughtUp::Done,
        CaughtUp::Lost,
        CaughtUp::Answered { status: 404 },
        CaughtUp::Answered { status: 500 },
        CaughtUp::Answered { status: 401 },
    ];
    for (name, script, twist, end, times) in rows {
        for answer in answers {
            let mut play = Play::new(Mode::Provision);
            (play.script, play.caught) = (script, std::vec![answer]);
            assert_eq!(play.run(40, twist), Some(end.clone()), "{name}, {answer:?}");
            assert_eq!(asked(&play), times, "{name}, {answer:?}: {:?}", play.events);
            if times > 0 {
                assert_eq!(play.events.last().map(String::as_str), Some("catch up"));
                assert_eq!(play.machine.settled(), Some(&end));
            }
            // Asked again, it says the same.
            assert_eq!(play.run(1, twist), Some(end.clone()), "{name}");
        }
    }
}

#[test]
fn never_before_the_cap_nor_without_a_payload() {
    let mut play = Play::new(Mode::Provision);
    assert!(matches!(play.run(40, &not_released), Some(End::Refused(_))));
    assert_eq!((asked(&play), play.machine.settled()), (0, None));
    let mut play = Play::new(Mode::Provision);
    play.unpacks = false;
    assert!(matches!(play.run(40, &plain), Some(End::NotUnpacked(_))));
    assert_eq!(asked(&play), 0);
    let mut play = Play::new(Mode::Provision);
    play.manifest.script = None;
    assert_eq!(play.run(40, &plain), Some(End::Finished));
    assert_eq!(asked(&play), 1);
}

/// A node that attests without a payload, for so many steps.
fn attesting(caught: &[CaughtUp], steps: usize) -> Play {
    let mut play = Play::new(Mode::Push);
    play.machine.config.signers.clear();
    play.caught = caught.to_vec();
    assert_eq!(play.run(steps, &plain), None);
    play
}

#[test]
fn after_each_attestation_that_was_judged() {
    let play = attesting(&[CaughtUp::Lost, CaughtUp::Answered { status: 503 }], 40);
    let judged = |event: &String| event.starts_with("attested");
    for pair in play.events.windows(2).filter(|pair| judged(&pair[0])) {
        assert_eq!(pair[1], "catch up", "{:?}", play.events);
    }
    assert!(asked(&play) > 4, "{:?}", play.events);
}

#[test]
fn not_while_a_cap_is_owed() {
    let mut play = attesting(&[], 12);
    // What a release that couldn't be capped has left behind.
    let before = asked(&play);
    assert!(before > 0);
    play.machine.owes_cap = Some(15);
    assert_eq!(play.run(20, &plain), None);
    let judged = |event: &&String| event.starts_with("attested");
    assert!(play.events.iter().filter(judged).count() > before + 2);
    assert_eq!(asked(&play), before);
}

#[test]
fn a_verifier_without_these_routes_is_asked_once_an_hour() {
    let mut play = attesting(&[CaughtUp::Answered { status: 404 }], 100);
    let judged = |event: &&String| event.starts_with("attested");
    assert!(play.events.iter().filter(judged).count() > 10);
    assert_eq!((asked(&play), play.now < 3_600_000), (1, true));
    play.now += 3_600_000;
    assert_eq!(play.run(40, &plain), None);
    assert!(asked(&play) > 4, "{:?}", play.events);
}

#[test]
fn a_token_that_is_over_is_not_used_again() {
    let play = attesting(&[CaughtUp::Answered { status: 401 }], 20);
    let logins = play
        .events
        .iter()
        .filter(|event| *event == "session")
        .count();
    assert_eq!(logins, 2, "{:?}", play.events);
}
