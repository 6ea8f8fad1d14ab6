//! Links that break, verifiers that are busy, nodes that nobody knows yet.

use super::*;

fn only(
    kind: &'static str,
    times: usize,
    reply: fn() -> Option<Reply>,
) -> impl Fn(&str, usize) -> Option<Option<Reply>> {
    move |asked, before| (asked == kind && before < times).then(reply)
}

#[test]
fn whatever_is_lost_once_is_made_good() {
    for kind in [
        "session", "proof", "manifest", "offer", "evidence", "release",
    ] {
        let mut play = Play::new(Mode::Provision);
        let end = play.run(60, &only(kind, 1, || None));
        assert_eq!(end, Some(End::Finished), "{kind}");
        assert!(
            play.events
                .iter()
                .any(|event| event.starts_with("wait") && event.ends_with("Unreachable")),
            "{kind}"
        );
    }
    // A lost receipt holds nothing up.
    let mut play = Play::new(Mode::Provision);
    assert_eq!(
        play.run(60, &only("receipt", 9, || None)),
        Some(End::Finished)
    );
    assert!(!play.events.iter().any(|event| event.starts_with("wait")));
}

#[test]
fn a_lost_answer_to_the_release_is_asked_for_with_the_same_key() {
    let mut play = Play::new(Mode::Provision);
    // It comes, and its answer is lost.
    while !play.released() {
        play.step(&|kind: &str, _| (kind == "release").then_some(None));
    }
    assert_eq!(play.run(60, &plain), Some(End::Finished));
    let asked = play
        .events
        .iter()
        .filter(|event| *event == "release")
        .count();
    assert_eq!((asked, play.attestation, play.tpm.caps), (2, 1, 1));
}

#[test]
fn evidence_that_had_come_is_not_sent_in_vain() {
    let mut play = Play::new(Mode::Provision);
    let twist = |kind: &str, before: usize| match (kind, before) {
        ("evidence", 0) => Some(None),
        ("evidence", 1) => Some(Some(Reply::error(403, "evidence_immutable"))),
        _ => None,
    };
    // What the first evidence said, the verifier of this play hasn't seen: the same key is in both.
    while play.machine.stage != Stage::Release {
        assert_eq!(play.step(&twist), None);
    }
    assert_eq!(play.attestation, 1);
}

#[test]
fn an_expired_token_means_another_session() {
    for (kind, attestations) in [
        ("manifest", 1),
        ("offer", 1),
        ("evidence", 2),
        ("release", 2),
    ] {
        let mut play = Play::new(Mode::Provision);
        let end = play.run(60, &only(kind, 1, || Some(Reply::error(401, "x"))));
        assert_eq!(end, Some(End::Finished), "{kind}");
        let sessions = play
            .events
            .iter()
            .filter(|event| *event == "session")
            .count();
        assert_eq!(sessions, 2, "{kind}");
        let attested = play.events.iter().filter(|event| *event == "offer").count();
        // One that is refused is asked for again.
        assert_eq!(
            attested,
            attestations + usize::from(kind == "offer"),
            "{kind}"
        );
    }
}

#[test]
fn what_never_works_ends() {
    type Row = (&'static str, fn() -> Option<Reply>);
    let rows: [Row; 6] = [
        ("manifest", || Some(Reply::error(401, "x"))),
        ("offer", || Some(Reply::error(401, "x"))),
        ("evidence", || Some(Reply::error(403, "challenges_expired"))),
        ("release", || Some(Reply::error(403, "not-fresh"))),
        ("release", || Some(Reply::error(404, "unknown-payload"))),
        ("release", || Some(Reply::error(401, "x"))),
    ];
    for (kind, reply) in rows {
        let mut play = Play::new(Mode::Provision);
        let end = play.run(100, &only(kind, usize::MAX, reply));
        assert!(matches!(end, Some(End::Refused(_))), "{kind}: {end:?}");
        let asked = play.events.iter().filter(|event| *event == kind).count();
        assert!(asked <= 5, "{kind}: {asked}");
    }
}

#[test]
fn a_busy_verifier_is_asked_when_it_says() {
    for (kind, status) in [
        ("session", 429),
        ("offer", 429),
        ("offer", 503),
        ("evidence", 503),
        ("release", 503),
    ] {
        let mut play = Play::new(Mode::Provision);
        let busy = |asked: &str, before: usize| {
            (asked == kind && before == 0).then(|| Some(Reply::error(status, "busy").after(7)))
        };
        assert_eq!(play.run(60, &busy), Some(End::Finished), "{kind}");
        let waits: Vec<_> = play
            .events
            .iter()
            .filter_map(|event| event.strip_prefix("wait ")?.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(waits.len(), 1, "{kind}");
        let millis: u64 = waits[0];
        assert!((7000 - 1..=7875).contains(&millis), "{kind}: {millis}");
    }
}

#[test]
fn a_node_that_nobody_knows_yet_waits() {
    let fail = |code: &str| {
        let body = format!(
            r#"{{"data":{{"id":"s1","attributes":{{"evaluation":"fail","failure_code":"{code}"}}}}}}"#
        );
        Some(Some(Reply::new(200, body)))
    };
    let twist = |kind: &str, before: usize| match (kind, before) {
        ("proof", 0) => fail("not-registered"),
        ("proof", 1) => fail("not-enrolled"),
        ("manifest", 0..2) => Some(Some(Reply::error(404, "no-payload"))),
        _ => None,
    };
    let mut play = Play::new(Mode::Provision);
    assert_eq!(play.run(60, &twist), Some(End::Finished));
    let waits: Vec<_> = play
        .events
        .iter()
        .filter(|event| event.starts_with("wait") || *event == "register")
        .map(|event| event.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(waits, ["register", "NotEnrolled", "NoPayload", "NoPayload"]);
}

#[test]
fn a_replaced_payload_is_read_anew() {
    let mut play = Play::new(Mode::Provision);
    play.fetched = std::vec!["gone", "whole"];
    assert_eq!(play.run(60, &plain), Some(End::Finished));
    let read = play
        .events
        .iter()
        .filter(|event| *event == "manifest")
        .count();
    assert_eq!(read, 2);
    let mut play = Play::new(Mode::Provision);
    let gone = only("release", 1, || Some(Reply::error(404, "unknown-payload")));
    assert_eq!(play.run(60, &gone), Some(End::Finished));
    assert_eq!(play.tpm.caps, 1);
}

#[test]
fn a_broken_link_goes_on_with_the_fetch() {
    let mut play = Play::new(Mode::Provision);
    play.fetched = std::vec!["lost", "lost", "whole"];
    assert_eq!(play.run(60, &plain), Some(End::Finished));
    let fetches = play.events.iter().filter(|event| *event == "fetch").count();
    assert_eq!(fetches, 3);
    let mut play = Play::new(Mode::Provision);
    play.fetched = std::vec!["full"];
    assert!(matches!(play.run(60, &plain), Some(End::NoRoom(_))));
    assert!(!play.released());
}

#[test]
fn push_attests_for_ever() {
    let mut play = Play::new(Mode::Push);
    let none = only("manifest", usize::MAX, || {
        Some(Reply::error(404, "no-payload"))
    });
    assert_eq!(play.run(30, &none), None);
    let attested: Vec<_> = play
        .events
        .iter()
        .filter(|event| event.starts_with("attested"))
        .collect();
    assert!(attested.len() > 2, "{:?}", play.events);
    assert_eq!(attested[0], "attested 1 Some(Pass)");
    assert_eq!((play.tpm.caps, play.released()), (0, false));
}

#[test]
fn push_attests_to_a_verifier_of_keylime() {
    // It has no payloads, and tells an agent no verdict.
    let mut play = Play::new(Mode::Push);
    let keylime = |kind: &str, _: usize| match kind {
        "manifest" => Some(Some(Reply::new(
            404,
            r#"{"code":404,"status":"x","results":{}}"#,
        ))),
        "verdict" => Some(Some(Reply::error(403, "forbidden"))),
        _ => None,
    };
    assert_eq!(play.run(30, &keylime), None);
    assert!(play.events.iter().any(|event| event == "attested 2 None"));
    // Without a trusted signer it doesn't even ask.
    let mut play = Play::new(Mode::Push);
    play.machine.config.signers.clear();
    play.run(30, &keylime);
    assert!(!play.events.iter().any(|event| event == "manifest"));
}

#[test]
fn push_brings_a_payload_once_and_goes_on() {
    let mut play = Play::new(Mode::Push);
    assert_eq!(play.run(40, &plain), None);
    let count = |what: &str| play.events.iter().filter(|event| *event == what).count();
    assert_eq!((count("run"), count("manifest"), play.tpm.caps), (1, 1, 1));
    assert_eq!(count("report finished"), 1);
    assert!(
        play.events
            .iter()
            .any(|event| event.starts_with("attested"))
    );
}

#[test]
fn push_passes_a_bad_payload_over_and_goes_on() {
    let mut play = Play::new(Mode::Push);
    play.signer = b"somebody".to_vec();
    assert_eq!(play.run(40, &plain), None);
    let count = |what: &str| {
        play.events
            .iter()
            .filter(|event| event.starts_with(what))
            .count()
    };
    assert_eq!(
        (count("report"), count("receipt"), play.tpm.caps),
        (1, 1, 0)
    );
    assert!(count("attested") > 1);
}

#[test]
fn push_never_asks_without_a_pause() {
    for kind in ["session", "proof", "offer", "evidence", "verdict"] {
        for status in [400, 401, 403, 404, 409, 500] {
            let mut play = Play::new(Mode::Push);
            play.machine.config.signers.clear();
            let twist =
                |asked: &str, _: usize| (asked == kind).then(|| Some(Reply::error(status, "x")));
            assert_eq!(play.run(60, &twist), None, "{kind} {status}");
            let waits = play
                .events
                .iter()
                .filter(|event| event.starts_with("wait"))
                .count();
            assert!(waits >= 8, "{kind} {status}: {:?}", play.events);
        }
    }
}
