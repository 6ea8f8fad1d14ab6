//! A revocation log as it reaches a node: its texts are read as another JSON reader reads them, and a ledger does what its
//! model does.

use std::collections::BTreeMap;

use agent_core::revocation::{
    Delivered, Entry, Kind, Ledger, LedgerError, LogHead, LogId, MAX_LOGS, MAX_MESSAGE_BYTES,
    MAX_REMEMBERED, Message, Offer,
};
use agent_core::wire::text::Hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Reference;

/// The first byte says what the others are.
pub fn check(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => check_message(data),
        1 => check_head(data),
        2 => check_answer(data),
        _ => check_steps(data),
    }
}

/// Another reader's value, where both mean the same by a name: one that could be written with escapes may be another here.
fn reference(text: &[u8]) -> Option<Reference> {
    let is_plain = !text.windows(2).any(|pair| pair == b"\\u");
    is_plain.then(|| serde_json::from_slice(text).ok())?
}

fn check_message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = Message::read(text);
    let Some(reference) = reference(data) else {
        return;
    };
    match read {
        Ok(Message::Silence) => assert_eq!(reference["type"], "comm_error"),
        Ok(Message::Plain { .. }) | Err(_) => {}
        Ok(Message::Entry(entry)) => {
            assert_place(&reference, &entry.log_id, entry.number, &entry.previous);
            let kind = match entry.kind {
                Kind::Revocation => "revocation",
                Kind::Crl => "crl",
            };
            assert_eq!(reference["type"], kind);
            assert!(entry.number > 0);
        }
    }
}

fn assert_place(reference: &Reference, log_id: &LogId, number: u64, previous: &[u8]) {
    assert_eq!(reference["log_id"], log_id.as_str());
    assert_eq!(reference["number"].as_u64(), Some(number));
    let hex = reference["previous"].as_str().unwrap();
    assert!(hex.eq_ignore_ascii_case(&Hex(previous).to_string()));
}

fn check_head(data: &[u8]) {
    let read = LogHead::read(data);
    if let (Ok(head), Some(reference)) = (read, reference(data)) {
        assert_place(&reference, &head.log_id, head.number, &head.previous);
    }
}

/// What is handed over is what stands there.
fn check_answer(data: &[u8]) {
    let Ok(delivered) = Delivered::from_answer(data) else {
        return;
    };
    let mut buffer = Box::new([0; MAX_MESSAGE_BYTES]);
    let mut got = Vec::new();
    let end = delivered.each(&mut buffer, &mut |notice| {
        got.push((notice.message().to_owned(), notice.signature().to_owned()));
        true
    });
    let Some(reference) = reference(data) else {
        return;
    };
    let attributes = &reference["data"]["attributes"];
    if let Some(log_id) = &delivered.log_id {
        assert_eq!(attributes["log_id"], log_id.as_str());
        assert_eq!(attributes["last"].as_u64(), Some(delivered.last));
    }
    let entries = attributes["entries"].as_array().into_iter().flatten();
    let count = entries.clone().count();
    assert!(got.len() <= count && (end.is_err() || got.len() == count));
    for ((message, signature), entry) in got.iter().zip(entries) {
        assert_eq!(entry["msg"], message.as_str());
        let text = entry["signature"].as_str().unwrap();
        assert_eq!(STANDARD.decode(text).as_ref(), Ok(signature));
    }
}

/// What two bytes do to a ledger.
enum Step {
    Land(Option<u64>),
    Ended(u8, u64),
    Plain(u8),
    /// An entry: its log, its number, whether it is the one that belongs there, whether its log is this anchor's.
    Entry(u8, u64, bool, bool),
}

impl Step {
    fn of([kind, number]: [u8; 2]) -> Self {
        let (log, place) = (number / 16 % 6, u64::from(number % 16));
        match kind % 16 {
            0 => Self::Land((number > 64).then_some(place)),
            1 | 2 => Self::Ended(log, place),
            3 | 4 => Self::Plain(number),
            5 => Self::Entry(log, place + 1, false, true),
            6 => Self::Entry(log, place + 1, true, false),
            _ => Self::Entry(log, place + 1, true, true),
        }
    }
}

/// All that has happened since a landing.
#[derive(Default)]
struct Model {
    /// Whether a payload is there, and whether it came with a head of log 0.
    landed: Option<bool>,
    plain: Vec<u8>,
    /// Of each log that is followed: the last number that was taken, and that has ended.
    logs: BTreeMap<u8, (u64, u64)>,
}

impl Model {
    fn offer(&self, step: &Step) -> Result<Offer, LedgerError> {
        match step {
            Step::Entry(_, _, _, false) => Err(LedgerError::OtherAnchor),
            _ if self.landed.is_none() => Ok(Offer::Early),
            Step::Plain(_) if self.landed == Some(true) => Err(LedgerError::Unnumbered),
            Step::Plain(n) => {
                let mut recent = self.plain.iter().rev().take(MAX_REMEMBERED);
                Ok(match recent.any(|one| one == n) {
                    true => Offer::Known,
                    false => Offer::Take,
                })
            }
            Step::Entry(log, number, belongs, _) => {
                if !self.logs.contains_key(log) && self.logs.len() == MAX_LOGS {
                    return Err(LedgerError::TooManyLogs);
                }
                let taken = self.logs.get(log).map_or(0, |(taken, _)| *taken);
                match number.checked_sub(taken) {
                    Some(0 | 1) if !belongs => Err(LedgerError::Forked { number: *number }),
                    None | Some(0) => Ok(Offer::Known),
                    Some(1) => Ok(Offer::Take),
                    Some(_) => Ok(Offer::Ahead),
                }
            }
            Step::Land(_) | Step::Ended(..) => unreachable!("nothing is offered"),
        }
    }
}

fn check_steps(data: &[u8]) {
    let (mut ledger, mut replayed) = (Ledger::new(), Ledger::new());
    let mut model = Model::default();
    let (pairs, _) = data.as_chunks::<2>();
    for pair in pairs.iter().take(MAX_STEPS) {
        let step = Step::of(*pair);
        match &step {
            Step::Land(number) => {
                let head = number.map(head);
                ledger.land(head.as_ref());
                replayed.land(head.as_ref());
                model = Model {
                    landed: Some(number.is_some()),
                    logs: number
                        .map(|number| (0, (number, number)))
                        .into_iter()
                        .collect(),
                    ..Model::default()
                };
            }
            Step::Ended(log, number) => {
                ledger.ended(&log_id('a', *log), *number);
                replayed.ended(&log_id('a', *log), *number);
                if let Some((taken, ended)) = model.logs.get_mut(log) {
                    *ended = (*ended).max(*number.min(taken));
                }
            }
            Step::Plain(_) | Step::Entry(..) => {
                let message = message(&step);
                let offer = ledger.offer(&anchor('a'), &message);
                assert_eq!(offer, model.offer(&step));
                if offer == Ok(Offer::Take) {
                    // Once where it happens, once from a journal.
                    ledger.take(&message);
                    replayed.take(&message);
                    match step {
                        Step::Entry(log, number, ..) => {
                            model.logs.entry(log).or_default().0 = number;
                        }
                        Step::Plain(n) => model.plain.push(n),
                        _ => {}
                    }
                }
            }
        }
        assert_eq!(ledger.has_landed(), model.landed.is_some());
        assert_eq!(ledger.standing(None), replayed.standing(None));
        for log in 0..6 {
            let id = log_id('a', log);
            let standing = ledger.standing(Some(&id));
            let (taken, ended) = model.logs.get(&log).copied().unwrap_or_default();
            assert_eq!((standing.wanted, standing.position), (taken + 1, ended));
            assert_eq!(replayed.standing(Some(&id)), standing);
        }
    }
}

fn anchor(letter: char) -> String {
    String::from(letter).repeat(64)
}

fn log_id(letter: char, log: u8) -> LogId {
    LogId::parse(&format!("{}-{log:016x}", anchor(letter))).unwrap()
}

/// The digest of the entry that belongs there.
fn digest(log: u8, number: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    if number > 0 {
        digest[0] = log + 1;
        digest[8..16].copy_from_slice(&number.to_be_bytes());
    }
    digest
}

fn head(number: u64) -> LogHead {
    LogHead {
        log_id: log_id('a', 0),
        number,
        previous: digest(0, number),
    }
}

fn message(step: &Step) -> Message {
    match *step {
        Step::Entry(log, number, belongs, is_ours) => Message::Entry(Entry {
            log_id: log_id(if is_ours { 'a' } else { 'b' }, log),
            number,
            previous: if belongs {
                digest(log, number - 1)
            } else {
                [0xFF; 32]
            },
            digest: if belongs {
                digest(log, number)
            } else {
                [0xEE; 32]
            },
            kind: Kind::Revocation,
        }),
        Step::Plain(n) => Message::Plain { digest: [n; 32] },
        Step::Land(_) | Step::Ended(..) => unreachable!("nothing is offered"),
    }
}

/// Enough to fill every bound of a ledger.
const MAX_STEPS: usize = 256;
