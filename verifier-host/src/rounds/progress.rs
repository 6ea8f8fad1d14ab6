//! What has happened to a node since it was added.

use agent_core::wire::quote::ClockInfo;
use agent_core::wire::route::ApiVersion;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::terms::version_text;

/// Keylime's `operational_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum OperationalState {
    /// Added, not asked yet.
    Start = 1,
    /// Attested in rounds.
    GetQuote = 3,
    /// It doesn't answer; asked again and again.
    GetQuoteRetry = 4,
    /// It passed and gets V.
    ProvideV = 5,
    /// It passed, but V didn't reach it; given after the next pass.
    ProvideVRetry = 6,
    /// It answered what no honest agent of this API answers.
    Failed = 7,
    /// Its evidence doesn't hold.
    InvalidQuote = 9,
    /// A tenant stopped it.
    Stopped = 10,
}

impl OperationalState {
    /// Whether rounds go on in this state.
    #[must_use]
    pub const fn is_attesting(self) -> bool {
        !matches!(self, Self::Failed | Self::InvalidQuote | Self::Stopped)
    }
}

impl From<OperationalState> for u8 {
    fn from(state: OperationalState) -> Self {
        match state {
            OperationalState::Start => 1,
            OperationalState::GetQuote => 3,
            OperationalState::GetQuoteRetry => 4,
            OperationalState::ProvideV => 5,
            OperationalState::ProvideVRetry => 6,
            OperationalState::Failed => 7,
            OperationalState::InvalidQuote => 9,
            OperationalState::Stopped => 10,
        }
    }
}

impl TryFrom<u8> for OperationalState {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Ok(match number {
            1 => Self::Start,
            3 => Self::GetQuote,
            4 => Self::GetQuoteRetry,
            5 => Self::ProvideV,
            6 => Self::ProvideVRetry,
            7 => Self::Failed,
            9 => Self::InvalidQuote,
            10 => Self::Stopped,
            other => return Err(format!("{other} is no operational state of this program")),
        })
    }
}

/// Why a node failed, for operators and peers. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Keylime's kind of event, such as `pcr_validation.invalid_pcr_23`.
    pub event_id: String,
    /// In words, with both sides of the comparison.
    pub reason: String,
    /// The same for programs.
    pub context: Value,
}

/// Algorithms that the agent named in its last answer that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Algorithms {
    /// Hash of the PCR bank.
    pub hash: String,
    /// Kind of transport key.
    pub enc: String,
    /// Signature scheme of the attestation key.
    pub sign: String,
}

/// What must not be lost: written when it changes, a failure before anyone is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Where the node stands.
    pub state: OperationalState,
    /// Whether it passed since it was added or reactivated.
    pub passed: bool,
    /// The API version that it answers to.
    #[serde(with = "version_text")]
    pub version: ApiVersion,
    /// From its last pass.
    pub algorithms: Option<Algorithms>,
    /// Its transport key as PEM, bound by the PCR 16 of a quote that passed.
    pub pubkey: Option<String>,
    /// The transport key, as PEM, that V was given to.
    pub v_given_to: Option<String>,
    /// Resets and restarts of its TPM, from its last pass.
    pub boot: Option<(u32, u32)>,
    /// Why rounds ended.
    pub failure: Option<Failure>,
}

/// What a crash may lose: counts and times, written with the standing and at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Passes since it was added.
    pub passes: u64,
    /// When it last answered a challenge, in seconds since 1970; 0 is never.
    pub last_answer: u64,
    /// When it last passed, in seconds since 1970; 0 is never.
    pub last_pass: u64,
    /// Its TPM's clock at the last pass, in milliseconds.
    pub clock_ms: u64,
    /// Since when it doesn't answer, and why.
    pub unreachable: Option<Unreachable>,
}

/// A node that doesn't answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreachable {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Attempts in a row.
    pub attempts: u32,
    /// What went wrong the last time.
    pub reason: String,
}

/// Standing and tally of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What must not be lost.
    pub standing: Standing,
    /// What may be.
    pub tally: Tally,
}

/// Keylime's `attestation_status`; here PASS is never said before a quote passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AttestationStatus {
    /// The last quote passed; `last_successful_attestation` says when.
    Pass,
    /// Its evidence, or its answer, doesn't hold.
    Fail,
    /// No quote has passed since it was added or reactivated.
    Pending,
    /// It doesn't answer.
    Timeout,
}

impl Progress {
    /// A node that was just added.
    #[must_use]
    pub fn new(version: ApiVersion) -> Self {
        Self {
            standing: Standing {
                state: OperationalState::Start,
                passed: false,
                version,
                algorithms: None,
                pubkey: None,
                v_given_to: None,
                boot: None,
                failure: None,
            },
            tally: Tally::default(),
        }
    }

    /// The node is to be attested anew: nothing that it showed before counts, its TPM may have been cleared.
    ///
    /// To whom V was given stays known, and so do the counts.
    pub fn reactivate(&mut self) {
        self.standing.state = OperationalState::Start;
        self.standing.passed = false;
        self.standing.failure = None;
        self.standing.boot = None;
        self.standing.pubkey = None;
        self.tally.clock_ms = 0;
        self.tally.unreachable = None;
    }

    /// A tenant wants no more rounds. What passed before says nothing about later.
    pub fn stopped(&mut self) {
        self.standing.state = OperationalState::Stopped;
        self.standing.passed = false;
        self.tally.unreachable = None;
    }

    /// A quote passed.
    pub fn passed(&mut self, clock: ClockInfo, now: u64) {
        self.standing.passed = true;
        self.standing.boot = Some((clock.reset_count, clock.restart_count));
        self.tally.clock_ms = clock.clock_ms;
        self.tally.passes = self.tally.passes.saturating_add(1);
        self.tally.last_answer = now;
        self.tally.last_pass = now;
        self.tally.unreachable = None;
    }

    /// The node didn't answer, or said that it can't just now: not a failure, however often.
    pub fn unreachable(&mut self, reason: String, now: u64) {
        let (since, attempts) = match &self.tally.unreachable {
            Some(before) => (before.since, before.attempts),
            None => (now, 0),
        };
        self.tally.unreachable = Some(Unreachable {
            since,
            attempts: attempts.saturating_add(1),
            reason,
        });
        self.standing.state = OperationalState::GetQuoteRetry;
    }

    /// Rounds end: the evidence doesn't hold ([`OperationalState::InvalidQuote`]) or the answer makes no sense
    /// ([`OperationalState::Failed`]).
    pub fn failed(&mut self, state: OperationalState, failure: Failure, now: u64) {
        self.standing.state = state;
        self.standing.failure = Some(failure);
        self.tally.last_answer = now;
        self.tally.unreachable = None;
    }

    /// The TPM's clock at the last pass since the node was added or reactivated.
    #[must_use]
    pub fn clock(&self) -> Option<ClockInfo> {
        self.standing
            .boot
            .map(|(reset_count, restart_count)| ClockInfo {
                clock_ms: self.tally.clock_ms,
                reset_count,
                restart_count,
                safe: true,
            })
    }

    /// What is said about a node that calls by itself: one that has been silent for that many seconds is offline, not failed.
    #[must_use]
    pub const fn status_of_caller(&self, now: u64, silence: u64) -> AttestationStatus {
        match self.status() {
            AttestationStatus::Pass if now.saturating_sub(self.tally.last_pass) > silence => {
                AttestationStatus::Timeout
            }
            status => status,
        }
    }

    /// What is said about the node.
    #[must_use]
    pub const fn status(&self) -> AttestationStatus {
        match self.standing.state {
            OperationalState::Failed | OperationalState::InvalidQuote => AttestationStatus::Fail,
            OperationalState::GetQuoteRetry => AttestationStatus::Timeout,
            _ if self.standing.passed => AttestationStatus::Pass,
            _ => AttestationStatus::Pending,
        }
    }
}
