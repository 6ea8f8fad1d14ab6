//! What verifier and agent say about a delivery, as far as it matters for what comes next.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest text of a peer that is kept.
const MAX_TEXT_CHARS: usize = 2000;

/// The verifier's view of a node: what `GET /v2.x/agents/{uuid}` answers, as far as it is read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifierView {
    /// Keylime's state number, 0 to 10.
    pub operational_state: Option<u8>,
    /// `PASS`, `FAIL`, `PENDING` or `TIMEOUT`.
    pub attestation_status: Option<String>,
    /// How often the node has passed.
    pub attestation_count: Option<u64>,
    /// When it last passed, in seconds since 1970; 0 for never.
    pub last_successful_attestation: Option<u64>,
    /// When a quote last came, in seconds since 1970; 0 for never.
    pub last_received_quote: Option<u64>,
    /// The event that failed the node.
    pub last_event_id: Option<String>,
    /// Why the node failed; a verifier of ours tells it.
    pub failure: Option<FailureView>,
    /// Since when the agent doesn't answer, and why; a verifier of ours tells it.
    pub unreachable: Option<UnreachableView>,
    /// The policy that it is held to, as JSON text.
    pub tpm_policy: Option<String>,
    /// Whether there is a runtime policy.
    pub has_runtime_policy: Option<u8>,
    /// The name of that; Keylime's verifier doesn't say it.
    pub runtime_policy_name: Option<String>,
    /// The name of the measured-boot policy; Keylime's verifier doesn't say it.
    pub mb_policy_name: Option<String>,
    /// Whether there is a measured-boot policy.
    pub has_mb_refstate: Option<u8>,
}

/// An agent that doesn't answer the verifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnreachableView {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What went wrong the last time.
    pub reason: String,
}

/// Why a node failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureView {
    /// Keylime's event id, such as `pcr_validation.invalid_pcr_23`.
    pub event_id: String,
    /// The reason in words.
    pub reason: String,
    /// What was found and what was wanted.
    pub context: Value,
}

impl VerifierView {
    /// Whether the node has passed at least once.
    ///
    /// Keylime's `attestation_status` says PASS before any quote came; its counters don't.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.last_successful_attestation.unwrap_or(0) > 0
    }

    /// Whether the verifier has given the node up: failed, terminated, invalid quote, tenant's quote failed.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.operational_state, Some(7..=10))
    }

    /// Why it was given up, in words.
    #[must_use]
    pub fn why_refused(&self) -> String {
        let Some(failure) = &self.failure else {
            let event = self.last_event_id.as_deref().map(printable);
            return event.map_or_else(
                || "the verifier gives no reason".to_owned(),
                |event| format!("event {event}"),
            );
        };
        if let Some(text) = pcr_mismatch(failure) {
            return text;
        }
        let mut text = printable(if failure.reason.is_empty() {
            &failure.event_id
        } else {
            &failure.reason
        });
        if !failure.context.is_null() && failure.reason.is_empty() {
            let _ = write!(text, " {}", printable(&failure.context.to_string()));
        }
        text
    }

    /// Whether a policy refused it, so that `policy explain` has something to say.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        let event = self.failure.as_ref().map(|failure| &failure.event_id);
        let by_policy = ["pcr_validation.", "ima.", "measured_boot."];
        event.is_some_and(|event| by_policy.iter().any(|kind| event.starts_with(kind)))
    }

    /// The state in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        if let Some(unreachable) = &self.unreachable {
            return format!(
                "the verifier doesn't reach the agent: {}",
                printable(&unreachable.reason)
            );
        }
        match self.operational_state {
            Some(state) => format!("the verifier says: {}", state_name(state)),
            None => "the verifier gives no state".to_owned(),
        }
    }
}

/// Keylime's name of a state.
#[must_use]
pub const fn state_name(state: u8) -> &'static str {
    match state {
        0 => "Registered",
        1 => "Start",
        2 => "Saved",
        3 => "Get Quote",
        4 => "Get Quote (retry)",
        5 => "Provide V",
        6 => "Provide V (retry)",
        7 => "Failed",
        8 => "Terminated",
        9 => "Invalid Quote",
        10 => "Tenant Quote Failed",
        _ => "unknown state",
    }
}

/// Which PCR held what and what was wanted, if that is what failed.
fn pcr_mismatch(failure: &FailureView) -> Option<String> {
    let pcr = failure
        .event_id
        .strip_prefix("pcr_validation.invalid_pcr_")?;
    let pcr: u8 = pcr.parse().ok()?;
    let expected = match failure.context.get("expected")? {
        Value::String(one) => vec![printable(one)],
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .map(printable)
            .collect(),
        _ => return None,
    };
    let got = match failure.context.get("got") {
        Some(Value::String(got)) => format!("holds {}", printable(got)),
        _ => "was not in the quote".to_owned(),
    };
    let wanted = match expected.as_slice() {
        [one] => one.clone(),
        several => format!("one of {}", several.join(", ")),
    };
    Some(format!("PCR {pcr} {got}, wanted {wanted}"))
}

/// How far the agent is with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing came yet.
    Waiting,
    /// U and the payload are there.
    Received,
    /// V came, and the payload is open.
    Opened,
    /// Its files are in place.
    Unpacked,
    /// Its script, if any, has ended.
    Finished,
    /// It couldn't be opened or unpacked.
    Failed,
}

impl Stage {
    /// Whether the agent has the key.
    #[must_use]
    pub const fn has_key(self) -> bool {
        matches!(self, Self::Opened | Self::Unpacked | Self::Finished)
    }

    /// The stage in words.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Waiting => "the agent waits for the payload",
            Self::Received => "the agent has the payload and waits for the verifier's half",
            Self::Opened => "the agent has opened the payload",
            Self::Unpacked => "the payload is unpacked, its script runs",
            Self::Finished => "the payload is in place",
            Self::Failed => "the agent couldn't use the payload",
        }
    }
}

/// What the agent says about the payload of this delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How far it is.
    pub stage: Stage,
    /// How its script ended.
    pub script: Option<Script>,
    /// Why it failed.
    pub error: Option<String>,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Script {
    /// Exit code, signal or time-out.
    #[serde(flatten)]
    pub end: ScriptEnd,
    /// How long it ran.
    pub duration_ms: u64,
    /// The end of what it printed, where the agent tells it.
    pub output_tail: Option<String>,
}

/// The end of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptEnd {
    /// It exited with this code.
    #[serde(rename = "exit_code")]
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It ran too long and was killed.
    TimedOut(bool),
}

impl fmt::Display for ScriptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut(_) => f.write_str("stopped because it ran too long"),
        }
    }
}

/// The answer of the outcome route, as it is on the wire: `GET /v2.6/payload/outcome` of our agent.
#[derive(Debug, Deserialize)]
pub(crate) struct OutcomeAnswer {
    sealed_sha256: Option<String>,
    stage: Stage,
    script: Option<ScriptAnswer>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ScriptAnswer {
    exit_code: Option<i32>,
    signal: Option<i32>,
    timed_out: Option<bool>,
    duration_ms: Option<u64>,
    output_tail: Option<String>,
}

impl OutcomeAnswer {
    /// Whether the agent's last payload, whosever it was, came to nothing or its script to an end other than 0.
    pub(crate) fn tells_of_failure(self) -> bool {
        let script = self.script.and_then(ScriptAnswer::read);
        self.stage == Stage::Failed || script.is_some_and(|script| script.end != ScriptEnd::Exit(0))
    }

    /// The outcome of the payload with this digest; of another payload nothing is known yet but that ours waits.
    pub(crate) fn of(self, sealed_sha256: &str) -> Outcome {
        let is_ours = self
            .sealed_sha256
            .is_some_and(|digest| digest.eq_ignore_ascii_case(sealed_sha256));
        if !is_ours {
            return Outcome {
                stage: Stage::Waiting,
                script: None,
                error: None,
            };
        }
        Outcome {
            stage: self.stage,
            script: self.script.and_then(ScriptAnswer::read),
            error: self.error.as_deref().map(printable),
        }
    }
}

impl ScriptAnswer {
    /// How the script ended; `None` while it runs.
    fn read(self) -> Option<Script> {
        let end = match (self.exit_code, self.signal, self.timed_out) {
            (_, _, Some(true)) => ScriptEnd::TimedOut(true),
            (_, Some(signal), _) => ScriptEnd::Signal(signal),
            (Some(code), ..) => ScriptEnd::Exit(code),
            _ => return None,
        };
        Some(Script {
            end,
            duration_ms: self.duration_ms.unwrap_or(0),
            output_tail: self.output_tail.as_deref().map(printable),
        })
    }
}

/// A peer's text made fit for a terminal: control characters but line ends go, and it is cut.
pub(crate) fn printable(text: &str) -> String {
    let shown = |character: &char| !character.is_control() || *character == '\n';
    text.chars().filter(shown).take(MAX_TEXT_CHARS).collect()
}
