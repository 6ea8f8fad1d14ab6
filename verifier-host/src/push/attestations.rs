//! The last attestations of one node.
//!
//! Each has a challenge of its own, for one session, once. A challenge that was answered, replaced or let expire is spent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use agent_core::payload::release::WRAPPED_V_BYTES;
use agent_core::wire::quote::{ClockInfo, Digest, HashAlg, PcrMask};
use agent_core::wire::statement::{CHALLENGE_BYTES, RELEASE_KEY_BYTES};

use serde_json::value::RawValue;

use super::bucket::{Buckets, TooOften};
use super::sessions::CHALLENGE_LIFE;
use crate::rounds::logs::Asked;

/// What a node is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// What `extraData` must be.
    pub challenge: [u8; CHALLENGE_BYTES],
    /// The bank.
    pub bank: HashAlg,
    /// The PCRs that the quote must cover.
    pub pcrs: PcrMask,
    /// The clock of the last pass before.
    pub previous: Option<ClockInfo>,
    /// The logs that are wanted beside it, in the order in which they are to come.
    pub logs: Vec<AskedLog>,
    /// What decides about them.
    pub asked: Asked,
    /// What the agent said it can, and what was chosen of it: JSON texts, sent back as they are.
    pub said: Said,
}

/// A log that is wanted.
#[derive(Clone, Debug)]
pub struct AskedLog {
    /// Which.
    pub kind: LogKind,
    /// The entry that it is to begin with, counted from 0.
    pub first_line: u64,
    /// `capabilities`, as the agent said them.
    pub capabilities: Box<RawValue>,
    /// `chosen_parameters`.
    pub chosen: Box<RawValue>,
}

/// The two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// What firmware and boot loader measured.
    Uefi,
    /// What IMA measured.
    Ima,
}

impl LogKind {
    /// `evidence_class` of both.
    pub const CLASS: &'static str = "log";

    /// `evidence_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uefi => "uefi_log",
            Self::Ima => "ima_log",
        }
    }

    /// The media type that it is asked for in.
    #[must_use]
    pub const fn format(self) -> &'static str {
        match self {
            Self::Uefi => "application/octet-stream",
            Self::Ima => "text/plain",
        }
    }
}

/// JSON texts that an answer repeats.
#[derive(Clone, Debug)]
pub struct Said {
    /// `capabilities`.
    pub capabilities: Box<RawValue>,
    /// `chosen_parameters`.
    pub chosen: Box<RawValue>,
    /// `system_info`.
    pub system_info: Box<RawValue>,
}

/// One attestation.
#[derive(Debug)]
pub struct Attestation {
    /// Its number; it grows.
    pub index: u64,
    /// The session that it belongs to.
    pub session: u64,
    /// When it began, in seconds since 1970.
    pub created_at: u64,
    /// How far it is.
    pub stage: Stage,
}

/// How far an attestation is.
#[derive(Debug)]
pub enum Stage {
    /// Its evidence is waited for.
    Awaiting {
        /// What was asked.
        question: Box<Question>,
        /// Until when.
        expires: Instant,
    },
    /// Its evidence is there, the verdict isn't.
    Evaluating,
    /// It passed.
    Passed(Box<Proof>),
    /// It didn't.
    Failed {
        /// Why, for the agent.
        reason: String,
    },
}

/// What a quote that passed leaves for a release.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The challenge that it answered.
    pub challenge: [u8; CHALLENGE_BYTES],
    /// Its bank.
    pub bank: HashAlg,
    /// All values that it covers.
    pub values: Vec<(u8, Digest)>,
    /// Clock and boot counters.
    pub clock: ClockInfo,
    /// When its evidence came.
    pub received: Instant,
    /// To which key V went by it, and the answer.
    pub released: Option<Released>,
}

/// What was answered to a release key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The key.
    pub key: [u8; RELEASE_KEY_BYTES],
    /// V for it.
    pub answer: [u8; WRAPPED_V_BYTES],
}

impl Proof {
    /// The value of a PCR.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Option<&[u8]> {
        let mut values = self.values.iter();
        let found = values.find(|(number, _)| *number == pcr)?;
        Some(&found.1)
    }

    /// The boot: resets and restarts of the TPM.
    #[must_use]
    pub const fn boot(&self) -> (u32, u32) {
        (self.clock.reset_count, self.clock.restart_count)
    }
}

/// Why evidence isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// There is no such attestation of this session.
    Unknown,
    /// Its evidence came before.
    Repeated,
    /// Its challenge has expired.
    Late,
    /// Its evidence is being evaluated.
    Busy,
}

/// The last attestations of a node, and how often it may begin one.
#[derive(Debug, Default)]
pub struct Attestations {
    last: VecDeque<Attestation>,
    count: u64,
    pace: Option<Buckets<()>>,
    asking: Option<Buckets<()>>,
    sessions: VecDeque<[u8; 32]>,
    system: Option<Box<RawValue>>,
}

impl Attestations {
    /// Counts a request against the node's pace: a burst, then one in each interval.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn paced(&mut self, interval: Duration, now: Instant) -> Result<(), TooOften> {
        let pace = self
            .pace
            .get_or_insert_with(|| Buckets::new(BURST, interval, 1));
        pace.take((), now)
    }

    /// Counts a request that may write to the database.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn asking(&mut self, now: Instant) -> Result<(), TooOften> {
        let asking = self
            .asking
            .get_or_insert_with(|| Buckets::new(ASKING_BURST, ASKING_REFILL, 1));
        asking.take((), now)
    }

    /// Begins an attestation; one of the same session that still waits is over. Its number.
    pub fn begin(&mut self, session: u64, question: Question, now: (Instant, u64)) -> u64 {
        let (now, created_at) = now;
        let waits = |one: &Attestation| {
            one.session == session && matches!(one.stage, Stage::Awaiting { .. })
        };
        self.last.retain(|one| !waits(one));
        while self.last.len() >= KEPT {
            self.last.pop_front();
        }
        self.count += 1;
        self.last.push_back(Attestation {
            index: self.count,
            session,
            created_at,
            stage: Stage::Awaiting {
                question: Box::new(question),
                expires: now + CHALLENGE_LIFE,
            },
        });
        self.count
    }

    /// Whether the session has evidence that is being evaluated.
    #[must_use]
    pub fn is_evaluating(&self, session: u64) -> bool {
        let mut last = self.last.iter();
        last.any(|one| one.session == session && matches!(one.stage, Stage::Evaluating))
    }

    /// Whether the last pass was of the same start of the same system, as the agent says it.
    #[must_use]
    pub fn is_same_system(&self, info: &RawValue) -> bool {
        self.system
            .as_ref()
            .is_some_and(|before| before.get() == info.get())
    }

    /// Notes the system of a pass.
    pub fn see_system(&mut self, info: &RawValue) {
        if !self.is_same_system(info) {
            self.system = Some(info.to_owned());
        }
    }

    /// The logs that were asked for, of an attestation that waits for its evidence.
    pub fn asked_logs(&mut self, index: u64, session: u64) -> Vec<AskedLog> {
        match self.find(index, session).map(|one| &one.stage) {
            Some(Stage::Awaiting { question, .. }) => question.logs.clone(),
            _ => Vec::new(),
        }
    }

    /// Takes the question of an attestation that waits for its evidence: whatever comes of it, the challenge is spent.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take(
        &mut self,
        index: u64,
        session: u64,
        now: Instant,
    ) -> Result<Box<Question>, NotTaken> {
        let one = self.find(index, session).ok_or(NotTaken::Unknown)?;
        match &one.stage {
            Stage::Awaiting { expires, .. } if now >= *expires => return Err(NotTaken::Late),
            Stage::Awaiting { .. } => {}
            Stage::Evaluating => return Err(NotTaken::Busy),
            Stage::Passed(_) | Stage::Failed { .. } => return Err(NotTaken::Repeated),
        }
        match std::mem::replace(&mut one.stage, Stage::Evaluating) {
            Stage::Awaiting { question, .. } => Ok(question),
            _ => Err(NotTaken::Busy),
        }
    }

    /// Sets how far an attestation is, unless it was dropped meanwhile.
    pub fn set(&mut self, index: u64, session: u64, stage: Stage) {
        if let Some(one) = self.find(index, session) {
            one.stage = stage;
        }
    }

    /// An attestation of this session.
    pub fn find(&mut self, index: u64, session: u64) -> Option<&mut Attestation> {
        let mut last = self.last.iter_mut();
        last.find(|one| one.index == index && one.session == session)
    }

    /// The newest attestation, of one session or of all.
    #[must_use]
    pub fn latest(&self, session: Option<u64>) -> Option<&Attestation> {
        let mut last = self.last.iter().rev();
        last.find(|one| session.is_none_or(|session| one.session == session))
    }

    /// All that are kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Attestation> {
        self.last.iter()
    }

    /// Notes a session of the node; the digest of one that has to go for it.
    pub(super) fn remember_session(&mut self, digest: [u8; 32]) -> Option<[u8; 32]> {
        self.sessions.push_back(digest);
        if self.sessions.len() > SESSIONS {
            self.sessions.pop_front()
        } else {
            None
        }
    }
}

/// Attestations that are kept for each node.
const KEPT: usize = 6;

/// Attestations that may come at once: an agent that starts, fails and starts again.
const BURST: u32 = 10;

/// Releases and receipts that may be asked for at once, and how fast then.
const ASKING_BURST: u32 = 32;
const ASKING_REFILL: Duration = Duration::from_millis(250);

/// Sessions of one node at the same time: its service, and what runs in early boot.
const SESSIONS: usize = 8;
