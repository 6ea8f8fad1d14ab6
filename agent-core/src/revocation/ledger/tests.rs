//! Rules of a ledger: stories, the bound of its logs, and its journal.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::revocation::entry::Kind;

fn anchor(letter: char) -> String {
    String::from(letter).repeat(64)
}

fn log_id(n: u8) -> LogId {
    LogId::parse(&format!("{}-{n:016x}", anchor('a'))).unwrap()
}

/// The digest that an entry of this log has.
fn digest(log: u8, number: u64) -> [u8; 32] {
    match number {
        0 => [0; 32],
        _ => {
            let mut digest = [log; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            digest
        }
    }
}

fn entry(log: u8, number: u64) -> Message {
    Message::Entry(Entry {
        log_id: log_id(log),
        number,
        previous: digest(log, number - 1),
        digest: digest(log, number),
        kind: Kind::Revocation,
    })
}

/// One that follows another than the log's.
fn forked(log: u8, number: u64) -> Message {
    let Message::Entry(entry) = entry(log, number) else {
        panic!();
    };
    Message::Entry(Entry {
        previous: [0xFF; 32],
        digest: [0xEE; 32],
        ..entry
    })
}

fn plain(n: u8) -> Message {
    Message::Plain { digest: [n; 32] }
}

fn head(log: u8, number: u64) -> LogHead {
    LogHead {
        log_id: log_id(log),
        number,
        previous: digest(log, number),
    }
}

/// Offers a message as the shell does, and takes what is to be taken.
fn show(ledger: &mut Ledger, message: &Message) -> Result<Offer, LedgerError> {
    let offer = ledger.offer(&anchor('a'), message);
    if offer == Ok(Offer::Take) {
        ledger.take(message);
    }
    offer
}

#[test]
fn stories() {
    use Offer::{Ahead, Early, Known, Take};
    let fork = |number| Err(LedgerError::Forked { number });
    let unnumbered = Err(LedgerError::Unnumbered);
    type Row<'a> = (
        &'a str,
        Option<Option<LogHead>>,
        Vec<(Message, Result<Offer, LedgerError>)>,
    );
    let rows: [Row<'_>; 9] = [
        (
            "in order, each once",
            Some(Some(head(1, 7))),
            [
                (entry(1, 8), Ok(Take)),
                (entry(1, 9), Ok(Take)),
                (entry(1, 8), Ok(Known)),
                (entry(1, 9), Ok(Known)),
            ]
            .into(),
        ),
        (
            "older than the payload",
            Some(Some(head(1, 7))),
            [
                (entry(1, 7), Ok(Known)),
                (entry(1, 1), Ok(Known)),
                (entry(1, 8), Ok(Take)),
            ]
            .into(),
        ),
        (
            "a gap waits for what is missing",
            Some(Some(head(1, 7))),
            [
                (entry(1, 9), Ok(Ahead)),
                (entry(1, 8), Ok(Take)),
                (entry(1, 9), Ok(Take)),
            ]
            .into(),
        ),
        (
            "a fork behind the payload's head",
            Some(Some(head(1, 7))),
            [
                (forked(1, 8), fork(8)),
                (forked(1, 7), fork(7)),
                (entry(1, 8), Ok(Take)),
            ]
            .into(),
        ),
        (
            "a fork of what was taken",
            Some(Some(head(1, 0))),
            [
                (forked(1, 1), fork(1)),
                (entry(1, 1), Ok(Take)),
                (forked(1, 1), fork(1)),
                (forked(1, 2), fork(2)),
            ]
            .into(),
        ),
        (
            "unnumbered, with our package",
            Some(Some(head(1, 0))),
            [
                (plain(1), unnumbered),
                (entry(1, 1), Ok(Take)),
                (plain(1), unnumbered),
            ]
            .into(),
        ),
        (
            "unnumbered, without our package",
            Some(None),
            [
                (plain(1), Ok(Take)),
                (plain(1), Ok(Known)),
                (plain(2), Ok(Take)),
                (Message::Silence, Ok(Known)),
            ]
            .into(),
        ),
        (
            "a log that the package doesn't name begins with 1",
            Some(None),
            [
                (entry(1, 3), Ok(Ahead)),
                (forked(1, 1), fork(1)),
                (entry(1, 1), Ok(Take)),
                (entry(2, 1), Ok(Take)),
                (entry(1, 2), Ok(Take)),
            ]
            .into(),
        ),
        (
            "before the payload",
            None,
            [
                (entry(1, 1), Ok(Early)),
                (plain(1), Ok(Early)),
                (entry(1, 1), Ok(Early)),
            ]
            .into(),
        ),
    ];
    for (name, landed, steps) in rows {
        let mut ledger = Ledger::new();
        if let Some(head) = landed {
            ledger.land(head.as_ref());
        }
        for (at, (message, wanted)) in steps.iter().enumerate() {
            assert_eq!(show(&mut ledger, message), *wanted, "{name}, step {at}");
        }
    }
}

#[test]
fn another_anchors_log_is_refused() {
    let mut ledger = Ledger::new();
    for landed in [false, true] {
        if landed {
            ledger.land(Some(&head(1, 0)));
        }
        let offer = ledger.offer(&anchor('b'), &entry(1, 1));
        assert_eq!(offer, Err(LedgerError::OtherAnchor), "{landed}");
    }
}

#[test]
fn a_fifth_log_is_refused() {
    let mut ledger = Ledger::new();
    ledger.land(Some(&head(0, 5)));
    for log in 1..4 {
        assert_eq!(show(&mut ledger, &entry(log, 1)), Ok(Offer::Take));
    }
    let all = LedgerError::TooManyLogs;
    assert_eq!(show(&mut ledger, &entry(4, 1)), Err(all));
    // Taken all the same, it changes nothing.
    ledger.take(&entry(4, 1));
    assert_eq!(ledger.standing(None).log_id, Some(log_id(3)));
    assert_eq!(show(&mut ledger, &entry(0, 6)), Ok(Offer::Take));
    ledger.land(None);
    assert_eq!(show(&mut ledger, &entry(4, 1)), Ok(Offer::Take));
}

#[test]
fn memory_of_unnumbered_messages_is_bounded() {
    let mut ledger = Ledger::new();
    ledger.land(None);
    let mut count = |from: u8, to: u8| {
        let takes = |n| show(&mut ledger, &plain(n)) == Ok(Offer::Take);
        (from..to).map(takes).filter(|takes| *takes).count()
    };
    assert_eq!((count(0, 64), count(0, 64)), (64, 0));
    assert_eq!((count(64, 65), count(0, 1), count(2, 65)), (1, 1, 0));
}

#[test]
fn positions() {
    let mut ledger = Ledger::new();
    let standing = |ledger: &Ledger, of: Option<u8>| {
        let at = ledger.standing(of.map(log_id).as_ref());
        (at.log_id, at.position, at.wanted)
    };
    assert_eq!(standing(&ledger, None), (None, 0, 1));
    ledger.land(Some(&head(1, 7)));
    assert_eq!(standing(&ledger, None), (Some(log_id(1)), 7, 8));
    assert_eq!(standing(&ledger, Some(2)), (Some(log_id(2)), 0, 1));
    show(&mut ledger, &entry(1, 8)).unwrap();
    show(&mut ledger, &entry(1, 9)).unwrap();
    assert_eq!(standing(&ledger, None), (Some(log_id(1)), 7, 10));
    ledger.ended(&log_id(1), 8);
    assert_eq!(standing(&ledger, None), (Some(log_id(1)), 8, 10));
    // Neither backwards nor beyond what was taken, nor of a log that isn't known.
    for number in [1, 20, 3] {
        ledger.ended(&log_id(1), number);
        ledger.ended(&log_id(9), number);
    }
    assert_eq!(standing(&ledger, None), (Some(log_id(1)), 9, 10));
    // Nor does taking an older one take anything back.
    ledger.take(&entry(1, 8));
    assert_eq!(standing(&ledger, None), (Some(log_id(1)), 9, 10));
    assert_eq!(ledger.offer(&anchor('a'), &entry(1, 10)), Ok(Offer::Take));
    show(&mut ledger, &entry(2, 1)).unwrap();
    assert_eq!(standing(&ledger, None), (Some(log_id(2)), 0, 2));
    assert_eq!(standing(&ledger, Some(1)), (Some(log_id(1)), 9, 10));
    ledger.land(None);
    assert_eq!(standing(&ledger, None), (None, 0, 1));
    // The last number there is has no next one.
    ledger.land(Some(&head(1, u64::MAX)));
    assert_eq!(standing(&ledger, None).2, u64::MAX);
    assert_eq!(show(&mut ledger, &entry(1, u64::MAX)), Ok(Offer::Known));
}

/// A call that changes a ledger.
enum Line {
    Land(Option<LogHead>),
    Take(Message),
    Ended(u8, u64),
}

fn call(ledger: &mut Ledger, line: &Line) {
    match line {
        Line::Land(head) => ledger.land(head.as_ref()),
        Line::Take(message) => ledger.take(message),
        Line::Ended(log, number) => ledger.ended(&log_id(*log), *number),
    }
}

/// All that can be seen of a ledger.
fn seen(ledger: &Ledger) -> Vec<String> {
    let logs = (0..6).map(|log| format!("{:?}", ledger.standing(Some(&log_id(log)))));
    let entries = (0..6).flat_map(|log| (1..8).map(move |number| entry(log, number)));
    let messages = entries.chain((0..80).map(plain));
    let offers = messages.map(|message| format!("{:?}", ledger.offer(&anchor('a'), &message)));
    let followed = format!("{:?}", ledger.standing(None));
    logs.chain(offers).chain([followed]).collect()
}

#[test]
fn a_journal_gives_the_same_ledger() {
    let mut state: u64 = 1;
    let mut dice = |sides: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    for _ in 0..300 {
        let mut ledger = Ledger::new();
        let mut journal = Vec::new();
        for _ in 0..dice(120) {
            let log = u8::try_from(dice(6)).unwrap();
            let number = dice(7) + 1;
            let line = match dice(16) {
                0 => Line::Land(None),
                1 => Line::Land(Some(head(log, number - 1))),
                2..5 => Line::Ended(log, number),
                kind => {
                    let message = match kind {
                        5..8 => plain(u8::try_from(dice(80)).unwrap()),
                        8 => forked(log, number),
                        _ => entry(log, number),
                    };
                    // What isn't taken isn't written down.
                    if ledger.offer(&anchor('a'), &message) != Ok(Offer::Take) {
                        continue;
                    }
                    Line::Take(message)
                }
            };
            call(&mut ledger, &line);
            journal.push(line);
        }
        let mut again = Ledger::new();
        journal.iter().for_each(|line| call(&mut again, line));
        assert_eq!(seen(&ledger), seen(&again));
        // A line that was written twice, as by one that was killed between writing and answering, takes nothing twice.
        let mut twice = Ledger::new();
        for line in &journal {
            call(&mut twice, line);
            if matches!(line, Line::Take(Message::Entry(_)) | Line::Ended(..)) {
                call(&mut twice, line);
            }
        }
        assert_eq!(seen(&ledger), seen(&twice));
    }
}
