//! Revocations: who is heard, in which order, how often, and what is told of it.

use agent_core::agent::Note;
use agent_core::revocation::{LedgerError, LogHead, Message, NoticeError, VerifyError};

use crate::bench::{Answer, Bench, MAX_KEPT, digest, entry, log_id, notice};

const ROUTE: &str = "/v2.6/notifications/revocation";

fn notify(bench: &Bench, text: &str) -> Answer {
    bench.post(ROUTE, &notice(text))
}

/// The node's payload came with this head of log 1.
fn landed_at(number: u64) -> Bench {
    let bench = Bench::new();
    land(&bench, number);
    bench
}

fn land(bench: &Bench, number: u64) {
    let head = LogHead {
        log_id: log_id(1),
        number,
        previous: digest(1, number),
    };
    bench.ledger.borrow_mut().land(Some(&head));
}

/// Where the log stands, as it is answered.
fn results(log: Option<u8>, position: u64, wanted: u64) -> String {
    let log = log.map_or("null".to_owned(), |log| format!("\"{}\"", log_id(log)));
    format!(r#""results":{{"log_id":{log},"position":{position},"wanted":{wanted}}}}}"#)
}

fn assert_ends(answer: &Answer, status: u16, end: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(
        answer.body.ends_with(end),
        "{} instead of {end}",
        answer.body
    );
}

#[test]
fn entries_are_acted_on_in_order_once() {
    let bench = landed_at(7);
    assert_ends(&notify(&bench, &entry(1, 8)), 200, &results(Some(1), 7, 9));
    bench.ledger.borrow_mut().ended(&log_id(1), 8);
    assert_ends(&notify(&bench, &entry(1, 9)), 200, &results(Some(1), 8, 10));
    assert_eq!(bench.notices.take(), [entry(1, 8), entry(1, 9)]);
    let taken = |number| Note::RevocationTaken(Some(number));
    assert_eq!(bench.notes.take(), [taken(8), taken(9)]);
    assert_eq!(taken(8).to_string(), "revocation notice verified (entry 8)");
}

#[test]
fn a_gap_is_answered_with_what_is_wanted() {
    let bench = landed_at(7);
    assert_ends(&notify(&bench, &entry(1, 10)), 200, &results(Some(1), 7, 8));
    assert_eq!(bench.notices.take(), [""; 0]);
    assert_eq!(bench.notes.take(), [Note::RevocationAhead(10)]);
    // Of a log that the payload doesn't name, too.
    assert_ends(&notify(&bench, &entry(2, 3)), 200, &results(Some(2), 0, 1));
    assert_ends(&notify(&bench, &entry(2, 1)), 200, &results(Some(2), 0, 2));
}

#[test]
fn offline_node_revokes_nobody() {
    for has_anchor in [true, false] {
        let bench = Bench::new();
        bench.has_anchor.set(has_anchor);
        let answer = notify(&bench, r#"{"type":"comm_error"}"#);
        assert_ends(&answer, 200, r#""results":null}"#);
        assert_eq!(bench.notices.take(), [""; 0]);
        assert_eq!(bench.kept.take(), []);
        assert_eq!(bench.notes.take(), [Note::NodeSilent]);
    }
}

#[test]
fn tampered_is_refused_loudly() {
    let bench = Bench::new();
    for (name, body) in [
        ("forged", r#"{"msg":"x","signature":"YmFk"}"#),
        ("unsigned", r#"{"msg":"x","signature":""}"#),
        ("no signature", r#"{"msg":"x"}"#),
        ("no message", r#"{"signature":"Z29vZA=="}"#),
    ] {
        let answer = bench.post(ROUTE, body);
        assert_eq!(answer.status, 400, "{name}");
    }
    assert_eq!(bench.notices.take(), [""; 0]);
    let notes = bench.notes.take();
    let refused = Note::RevocationRefused(NoticeError::Verify(VerifyError::Mismatch));
    assert_eq!(notes, [refused.clone(), refused]);
    assert!(notes.iter().all(Note::is_warning));
    // What was refused isn't held against the same message with its notifier's signature.
    assert_ends(&notify(&bench, "x"), 200, r#""results":null}"#);
    assert_eq!(bench.notices.take(), ["x"]);
    assert_eq!(bench.notes.take(), [Note::RevocationTaken(None)]);
}

#[test]
fn what_its_notifier_signed_is_refused_where_it_does_not_fit() {
    let fork = |number| NoticeError::Ledger(LedgerError::Forked { number });
    let anchor = NoticeError::Ledger(LedgerError::OtherAnchor);
    let previous = entry(1, 8).replace("previous", "previously");
    let other = entry(1, 8).replacen("aaaa", "bbbb", 1);
    let rows = [
        ("a fork", entry(1, 9).replace(":9,", ":8,"), Some(fork(8))),
        ("another anchor's", other, Some(anchor)),
        ("half an entry", previous, None),
        ("number 0", entry(1, 8).replace(":8,", ":0,"), None),
        (
            "unnumbered",
            "{}".to_owned(),
            Some(NoticeError::Ledger(LedgerError::Unnumbered)),
        ),
    ];
    for (name, text, error) in rows {
        let bench = landed_at(7);
        let answer = notify(&bench, &text);
        assert_eq!(answer.status, 400, "{name}");
        assert_eq!(bench.notices.take(), [""; 0], "{name}");
        let error =
            error.unwrap_or_else(|| NoticeError::Message(Message::read(&text).unwrap_err()));
        assert_eq!(
            bench.notes.take(),
            [Note::RevocationRefused(error)],
            "{name}"
        );
        // It stands in nobody's way.
        assert_ends(&notify(&bench, &entry(1, 8)), 200, &results(Some(1), 7, 9));
    }
}

#[test]
fn revocation_replay_is_refused() {
    let bench = landed_at(0);
    for round in 0..3 {
        for number in 1..4 {
            let wanted = if round == 0 { number + 1 } else { 4 };
            let answer = notify(&bench, &entry(1, number));
            assert_ends(&answer, 200, &results(Some(1), 0, wanted));
        }
    }
    assert_eq!(
        bench.notices.take(),
        [entry(1, 1), entry(1, 2), entry(1, 3)]
    );
    let repeated = |note: &Note| matches!(note, Note::RevocationRepeated(Some(_)));
    assert_eq!(bench.notes.take().into_iter().filter(repeated).count(), 6);
    // Not after another payload either, as far as that one knows of it.
    land(&bench, 2);
    for number in 1..4 {
        notify(&bench, &entry(1, number));
    }
    assert_eq!(bench.notices.take(), [entry(1, 3)]);
    // Nor can an old one without a number be slipped in there.
    assert_eq!(notify(&bench, r#"{"type":"revocation"}"#).status, 400);
    assert_eq!(bench.notices.take(), [""; 0]);
}

#[test]
fn an_unnumbered_replay_is_refused() {
    let bench = Bench::new();
    for _ in 0..3 {
        for text in ["a", "b"] {
            assert_ends(&notify(&bench, text), 200, r#""results":null}"#);
        }
    }
    assert_eq!(bench.notices.take(), ["a", "b"]);
    let repeated = |note: &Note| *note == Note::RevocationRepeated(None);
    assert_eq!(bench.notes.take().into_iter().filter(repeated).count(), 4);
}

#[test]
fn a_notice_without_room_is_sent_again() {
    let bench = landed_at(0);
    bench.room.set(1);
    assert_eq!(notify(&bench, &entry(1, 1)).status, 200);
    for _ in 0..2 {
        let answer = notify(&bench, &entry(1, 2));
        assert_eq!(answer.status, 500);
        assert!(answer.text("status").contains("try again"));
    }
    // One that was taken before needs no room.
    assert_eq!(notify(&bench, &entry(1, 1)).status, 200);
    bench.room.set(1);
    assert_ends(&notify(&bench, &entry(1, 2)), 200, &results(Some(1), 0, 3));
    assert_eq!(bench.notices.take(), [entry(1, 1), entry(1, 2)]);
}

#[test]
fn a_fifth_log_is_asked_to_come_again() {
    let bench = landed_at(0);
    for log in 2..5 {
        assert_eq!(notify(&bench, &entry(log, 1)).status, 200);
    }
    assert_eq!(notify(&bench, &entry(5, 1)).status, 500);
    assert_eq!(bench.notices.take().len(), 3);
}

#[test]
fn revocation_before_payload_is_kept() {
    // Without the notifier's certificate nothing can be checked; with it, nothing can be acted on yet.
    for has_anchor in [true, false] {
        let bench = Bench::new();
        bench.has_anchor.set(has_anchor);
        bench.ledger.take();
        let texts = [entry(1, 1), entry(1, 2), "unnumbered".to_owned()];
        for text in &texts {
            assert_ends(&notify(&bench, text), 200, &results(None, 0, 1));
        }
        // The same one needs no room twice, and one more than there is room for comes again.
        for _ in 0..MAX_KEPT {
            notify(&bench, &texts[0]);
        }
        assert_eq!(notify(&bench, "4th").status, 200);
        assert_eq!(notify(&bench, "5th").status, 500);
        let kept = bench.kept.take().into_iter().map(|(text, _)| text);
        assert_eq!(kept.collect::<Vec<_>>()[..3], texts);
        assert_eq!(bench.notices.take(), [""; 0]);
        let notes = bench.notes.take();
        assert_eq!(
            (&notes[0], notes.last()),
            (&Note::RevocationKept, Some(&Note::RevocationTurnedAway))
        );
        // Half an entry is none, whoever signed it.
        let half = entry(1, 1).replace("previous", "previously");
        assert_eq!(notify(&bench, &half).status, 400);
    }
}

#[test]
fn outcomes_are_told_as_many_as_fit() {
    let bench = landed_at(7);
    let route = "/v2.6/revocations/outcomes";
    let none = results(Some(1), 7, 8).replace("}}", r#","outcomes":[]}}"#);
    assert_ends(&bench.get(route), 200, &none);
    for number in 8..12 {
        notify(&bench, &entry(1, number));
        bench.ended.borrow_mut().push((log_id(1), number, 1));
        bench.ledger.borrow_mut().ended(&log_id(1), number);
    }
    let one = |number: u64| {
        format!(
            r#"{{"number":{number},"actions":[{{"name":"local_action_x","exit_code":0,"duration_ms":2}}]}}"#
        )
    };
    let told = |log, numbers: &[u64]| {
        let listed: Vec<_> = numbers.iter().map(|number| one(*number)).collect();
        results(Some(log), 11, 12)
            .replace("}}", &format!(r#","outcomes":[{}]}}}}"#, listed.join(",")))
    };
    assert_ends(
        &bench.get(&format!("{route}?after=9")),
        200,
        &told(1, &[10, 11]),
    );
    assert_ends(&bench.get(route), 200, &told(1, &[8, 9, 10, 11]));
    // Of another log, and of none.
    let other = results(Some(2), 0, 1).replace("}}", r#","outcomes":[]}}"#);
    assert_ends(
        &bench.get(&format!("{route}?log_id={}", log_id(2))),
        200,
        &other,
    );
    bench.ledger.take();
    let none = results(None, 0, 1).replace("}}", r#","outcomes":[]}}"#);
    assert_ends(&bench.get(route), 200, &none);
    for query in ["after=-1", "after=", "log_id=x", "after=1&after=2"] {
        assert_eq!(
            bench.get(&format!("{route}?{query}")).status,
            400,
            "{query}"
        );
    }
    assert_eq!(bench.post(route, "{}").status, 405);
    // More than an answer holds: those that fit whole, or a part of the first.
    land(&bench, 7);
    *bench.ended.borrow_mut() = (8..200).map(|number| (log_id(1), number, 3)).collect();
    let answer = bench.get(route);
    let count = answer.body.matches("number").count();
    assert!((20..100).contains(&count), "{count}");
    assert!(answer.body.ends_with("}]}]}}"), "{}", answer.body);
    *bench.ended.borrow_mut() = [(log_id(1), 8, 1000), (log_id(1), 9, 1)].into();
    let answer = bench.get(route);
    let shown = answer.body.matches("name").count();
    let more = format!(r#"],"more":{}}}]}}}}"#, 1000 - shown);
    assert!(
        shown > 50 && answer.body.ends_with(&more),
        "{}",
        answer.body
    );
}
