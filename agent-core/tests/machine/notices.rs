//! Revocation notices: who is heard, and how often.

use agent_core::agent::Note;

use crate::bench::{Answer, Bench};

const GOOD: &str = "Z29vZA==";

fn notify(bench: &Bench, message: &str, signature: &str) -> Answer {
    let body = format!(r#"{{"msg":"{message}","signature":"{signature}"}}"#);
    bench.post("/v2.6/notifications/revocation", &body)
}

#[test]
fn a_verified_notice_is_acted_on() {
    let bench = Bench::new();
    let answer = notify(&bench, r#"{\"type\":\"revocation\"}"#, GOOD);
    assert_eq!(
        (answer.status, answer.body.contains(r#""results":null"#)),
        (200, true)
    );
    assert_eq!(bench.notices.take(), [r#"{"type":"revocation"}"#]);
    assert_eq!(bench.notes.take(), [Note::NoticeVerified]);
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
        let answer = bench.post("/v2.6/notifications/revocation", body);
        assert_eq!(answer.status, 400, "{name}");
    }
    assert_eq!(bench.notices.take(), [""; 0]);
    let notes = bench.notes.take();
    assert_eq!(notes, [Note::NoticeRefused, Note::NoticeRefused]);
    assert!(notes.iter().all(Note::is_warning));
    // What was refused isn't held against the same message with its notifier's signature.
    assert_eq!(notify(&bench, "x", GOOD).status, 200);
    assert_eq!(bench.notices.take(), ["x"]);
}

#[test]
fn revocation_replay_is_refused() {
    let bench = Bench::new();
    for _ in 0..3 {
        assert_eq!(notify(&bench, "a", GOOD).status, 200);
        assert_eq!(notify(&bench, "b", GOOD).status, 200);
    }
    assert_eq!(bench.notices.take(), ["a", "b"]);
    let repeated = |note: &Note| *note == Note::NoticeRepeated;
    assert_eq!(bench.notes.take().into_iter().filter(repeated).count(), 4);
    // Remembered among many, and the memory is bounded: not for ever.
    let notify_many = |from: usize, to: usize| {
        (from..to).for_each(|n| assert_eq!(notify(&bench, &format!("{n}"), GOOD).status, 200));
        bench.notices.take().len()
    };
    assert_eq!(notify_many(0, 64), 64);
    assert_eq!(notify_many(0, 64), 0);
    assert_eq!(notify_many(64, 65), 1);
    assert_eq!(notify_many(0, 1), 1);
}

#[test]
fn a_notice_without_room_is_sent_again() {
    let bench = Bench::new();
    bench.room.set(1);
    assert_eq!(notify(&bench, "a", GOOD).status, 200);
    for _ in 0..2 {
        let answer = notify(&bench, "b", GOOD);
        assert_eq!(answer.status, 500);
        assert!(answer.text("status").contains("try again"));
    }
    // One that was taken before needs no room.
    assert_eq!(notify(&bench, "a", GOOD).status, 200);
    bench.room.set(1);
    assert_eq!(notify(&bench, "b", GOOD).status, 200);
    assert_eq!(bench.notices.take(), ["a", "b"]);
}
