//! A model of the agent that is too simple to be wrong in the same way, and the agent beside it.

use agent_core::agent::Peer;
use agent_core::drive::Served;
use agent_core::revocation::{Act, LogHead};

use crate::bench::{Bench, Delivery, digest, entry, log_id, notice, post};

/// Something that happens to the agent. Deliveries are told apart by small numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A tenant delivers U.
    UKey(u8, Payload),
    /// A verifier delivers V.
    VKey(u8),
    /// A V half as long as another key's.
    ShortVKey,
    /// A half that the TPM doesn't decrypt.
    ForeignVKey,
    /// A U whose body isn't what it should be.
    BadUKey,
    /// A U whose connection breaks off after so many bytes.
    CutUKey(u8, u8),
    /// A U of one who may not deliver.
    StrangersUKey(u8),
    /// An unnumbered notice with the notifier's signature.
    Notice(u8),
    /// An entry: of this log, with this number.
    Entry(u8, u8),
    /// A payload is in place, with the second entry of the first log as its head or without one.
    Land(bool),
    /// The shell ends its work, well or badly.
    Work(bool),
}

/// What comes with a U half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    None,
    Sealed,
    /// It doesn't open with its key.
    Damaged,
}

impl Step {
    /// The step that two bytes stand for: each pair is one.
    pub(crate) fn of([kind, number]: [u8; 2]) -> Self {
        let n = number % 3 + 1;
        match kind % 16 {
            0..=2 => Self::UKey(n, Payload::Sealed),
            3 => Self::UKey(n, Payload::None),
            4 => Self::UKey(n, Payload::Damaged),
            5..=8 => Self::VKey(n),
            9 => Self::ShortVKey,
            10 => Self::ForeignVKey,
            11 => Self::BadUKey,
            12 => Self::CutUKey(n, number),
            13 => Self::StrangersUKey(n),
            14 => match number {
                0..64 => Self::Notice(n),
                64..192 => Self::Entry(number % 2 + 1, number / 2 % 4 + 1),
                _ => Self::Land(number & 1 == 0),
            },
            _ => Self::Work(number & 1 == 0),
        }
    }
}

/// What the rules say: one U and one V wait; equal numbers fit; a new U takes the key away; work refuses a new U.
#[derive(Default)]
struct Model {
    u: Option<(u8, Payload)>,
    /// `None` inside is a half that fits no U.
    v: Option<Option<u8>>,
    key: Option<u8>,
    stage: &'static str,
    opened: Vec<u8>,
    /// The texts that were acted on, ever.
    acted: Vec<String>,
    /// Since the last landing: whether entries alone count, unnumbered ones, and the last of each log.
    numbered: bool,
    plain: Vec<u8>,
    taken: [u8; 2],
}

impl Model {
    fn ukey(&mut self, n: u8, payload: Payload) -> u16 {
        if self.stage == "opened" {
            return 500;
        }
        (self.u, self.key, self.stage) = (Some((n, payload)), None, "received");
        self.fit();
        200
    }

    fn vkey(&mut self, n: Option<u8>) -> u16 {
        self.v = Some(n);
        self.fit();
        200
    }

    fn fit(&mut self) {
        if let (Some((n, payload)), Some(v)) = (self.u, self.v)
            && Some(n) == v
        {
            (self.u, self.v, self.key) = (None, None, Some(n));
            self.stage = match payload {
                Payload::None => "finished",
                Payload::Damaged => "failed",
                Payload::Sealed => {
                    self.opened.push(n);
                    "opened"
                }
            };
        }
    }

    fn notice(&mut self, n: u8) -> u16 {
        if self.numbered {
            return 400;
        }
        if !self.plain.contains(&n) {
            self.plain.push(n);
            self.acted.push(plain(n));
        }
        200
    }

    fn entry(&mut self, log: u8, number: u8) -> u16 {
        let taken = &mut self.taken[usize::from(log) - 1];
        if number == *taken + 1 {
            *taken = number;
            self.acted.push(entry(log, number.into()));
        }
        200
    }

    fn land(&mut self, numbered: bool) {
        self.numbered = numbered;
        self.plain.clear();
        self.taken = if numbered { [HEAD, 0] } else { [0, 0] };
    }

    fn work(&mut self, succeeds: bool) {
        self.opened.clear();
        if self.stage == "opened" {
            self.stage = if succeeds { "finished" } else { "failed" };
        }
    }
}

/// The agent and its model, which get the same steps.
pub(crate) struct SideBySide {
    bench: Bench,
    model: Model,
}

impl SideBySide {
    pub(crate) fn new() -> Self {
        Self {
            bench: Bench::new(),
            model: Model {
                stage: "waiting",
                ..Model::default()
            },
        }
    }

    /// Takes a step on both sides and compares all that can be seen of them; `at` says where, for a failure.
    pub(crate) fn take(&mut self, step: Step, at: &str) {
        let (have, want) = (self.on_agent(step), self.on_model(step));
        assert_eq!(have, want, "{at}: {step:?}");
        self.compare(&format!("{at}: after {step:?}"));
    }

    /// The answer's status, if there is one.
    fn on_agent(&self, step: Step) -> Option<u16> {
        let bench = &self.bench;
        let answer = match step {
            Step::UKey(n, payload) => bench.post("/v2.6/keys/ukey", &self.ukey_body(n, payload)),
            Step::VKey(n) => bench.vkey(&Delivery::new(n)),
            Step::ShortVKey => bench.short_vkey(),
            Step::ForeignVKey => {
                bench.post("/v2.6/keys/vkey", r#"{"encrypted_key":"Zm9yZWlnbg=="}"#)
            }
            Step::BadUKey => bench.post("/v2.6/keys/ukey", "{}"),
            Step::CutUKey(n, at) => return self.cut_ukey(n, at),
            Step::StrangersUKey(n) => {
                let request = post("/v2.6/keys/ukey", &self.ukey_body(n, Payload::Sealed));
                let (answers, served) =
                    bench.connection_of(Peer::Other, request.as_bytes(), usize::MAX);
                assert_eq!(served, Served::CloseUnread);
                return Some(answers.first()?.status);
            }
            Step::Notice(n) => bench.post(REVOCATION, &notice(&plain(n))),
            Step::Entry(log, number) => bench.post(REVOCATION, &notice(&entry(log, number.into()))),
            Step::Land(numbered) => {
                let head = numbered.then(|| LogHead {
                    log_id: log_id(1),
                    number: HEAD.into(),
                    previous: digest(1, HEAD.into()),
                });
                bench.ledger.borrow_mut().land(head.as_ref());
                return None;
            }
            Step::Work(succeeds) => {
                bench.end_work(succeeds);
                return None;
            }
        };
        Some(answer.status)
    }

    fn on_model(&mut self, step: Step) -> Option<u16> {
        let model = &mut self.model;
        let is_busy = model.stage == "opened";
        Some(match step {
            Step::UKey(n, payload) => model.ukey(n, payload),
            Step::VKey(n) => model.vkey(Some(n)),
            Step::ShortVKey => model.vkey(None),
            Step::ForeignVKey => 400,
            Step::BadUKey if is_busy => 500,
            Step::BadUKey => 400,
            // The head was enough for a refusal.
            Step::CutUKey(..) if is_busy => 500,
            Step::CutUKey(..) => return None,
            Step::StrangersUKey(_) => 403,
            Step::Notice(n) => model.notice(n),
            Step::Entry(log, number) => model.entry(log, number),
            Step::Land(numbered) => {
                model.land(numbered);
                return None;
            }
            Step::Work(succeeds) => {
                model.work(succeeds);
                return None;
            }
        })
    }

    fn ukey_body(&self, n: u8, payload: Payload) -> String {
        let delivery = Delivery::new(n);
        match payload {
            Payload::None => self.bench.ukey_body(&Delivery {
                payload: None,
                ..delivery
            }),
            Payload::Sealed => self.bench.ukey_body(&delivery),
            Payload::Damaged => {
                let body = self.bench.ukey_body(&delivery);
                // A letter of the nonce, which is nine times nine.
                body.replace(r#""payload":"CQkJ"#, r#""payload":"CAkJ"#)
            }
        }
    }

    fn cut_ukey(&self, n: u8, at: u8) -> Option<u16> {
        let body = self.ukey_body(n, Payload::Sealed);
        let request = post("/v2.6/keys/ukey", &body);
        let cut = request.len() - 1 - usize::from(at) % body.len();
        let (answers, served) = self.bench.connection(&request.as_bytes()[..cut]);
        assert_eq!(served == Served::Gone, answers.is_empty());
        Some(answers.first()?.status)
    }

    fn compare(&self, at: &str) {
        let Self { bench, model } = self;
        assert_eq!(bench.stage(), model.stage, "{at}");
        for n in 1..=3 {
            let verifies = bench.verifies(&Delivery::new(n));
            assert_eq!(verifies, model.key == Some(n), "{at}, key {n}");
        }
        let plaintext = |n: &u8| Delivery::new(*n).payload.unwrap();
        let opened: Vec<_> = model.opened.iter().map(plaintext).collect();
        assert_eq!(bench.opened(), opened, "{at}");
        assert_eq!(*bench.notices.borrow(), model.acted, "{at}");
        for (log, taken) in (1..).zip(model.taken) {
            let wanted = bench.standing(Some(&log_id(log))).wanted;
            assert_eq!(wanted, u64::from(taken) + 1, "{at}, log {log}");
        }
    }
}

/// The text of an unnumbered notice.
fn plain(n: u8) -> String {
    format!("node {n} is revoked")
}

const REVOCATION: &str = "/v2.6/notifications/revocation";
/// The entry that a payload knows of.
const HEAD: u8 = 2;
