//! What agents say of their logs. All of it is hostile: bounded, printable, and believed about the agent itself alone.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::told::Action;

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Said {
    /// Its log; none while it has no payload or no anchor.
    pub log_id: Option<String>,
    /// The last entry whose actions have ended.
    #[serde(default)]
    pub position: u64,
    /// The entry that it wants next.
    #[serde(default)]
    pub wanted: u64,
    /// How actions went.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
}

/// How the actions of an entry went.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Outcome {
    /// The entry.
    pub number: u64,
    /// What is known of them.
    #[serde(flatten)]
    pub ended: Ended,
}

/// Actions that have ended, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In the order in which they ran.
    #[serde(default)]
    pub actions: Vec<Action>,
    /// How many there were besides.
    #[serde(default)]
    pub more: u64,
}

/// Reads the body of an answer with 200; `None` where the agent is Keylime's, which says nothing of logs.
///
/// # Errors
/// It says something that no agent of this API says.
pub fn read(body: &[u8]) -> Result<Option<Said>, serde_json::Error> {
    let Ok(envelope) = serde_json::from_slice::<Value>(body) else {
        return Ok(None);
    };
    match envelope.get("results") {
        Some(results) if MEMBERS.iter().any(|member| results.get(member).is_some()) => {
            Said::deserialize(results).map(|said| Some(said.bounded()))
        }
        _ => Ok(None),
    }
}

impl Said {
    /// What is kept of it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for outcome in &mut self.outcomes {
            let ended = std::mem::take(&mut outcome.ended);
            outcome.ended = ended.bounded();
        }
        self
    }
}

impl Ended {
    /// At most [`MAX_ACTIONS`] actions, with texts that are short and printable.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let left_out = self.actions.len().saturating_sub(MAX_ACTIONS);
        self.more = self.more.saturating_add(left_out as u64).min(MAX_MORE);
        self.actions.truncate(MAX_ACTIONS);
        for action in &mut self.actions {
            *action = bounded(std::mem::take(action));
        }
        self
    }
}

/// The action with one end, the first of those that it claims.
fn bounded(action: Action) -> Action {
    let Action {
        name,
        exit_code,
        signal,
        timed_out,
        interrupted,
        error,
        duration_ms,
    } = action;
    let mut bounded = Action {
        name: printable(&name, MAX_NAME_CHARS),
        duration_ms: duration_ms.min(MAX_MORE),
        ..Action::default()
    };
    if let Some(error) = error {
        bounded.error = Some(printable(&error, MAX_ERROR_CHARS));
    } else if interrupted {
        bounded.interrupted = true;
    } else if timed_out {
        bounded.timed_out = true;
    } else if signal.is_some() {
        bounded.signal = signal;
    } else if exit_code.is_some() {
        bounded.exit_code = exit_code;
    } else {
        bounded.error = Some("the agent doesn't say how it ended".to_owned());
    }
    bounded
}

/// At most so many characters of a text, control characters as escapes.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    let escaped = text.chars().flat_map(|character| {
        let escape = character.is_control();
        let escape = escape.then(|| character.escape_default());
        let plain = escape.is_none().then_some(character);
        escape.into_iter().flatten().chain(plain)
    });
    escaped.take(most).collect()
}

/// An answer with one of these is of an agent that keeps a log.
const MEMBERS: [&str; 3] = ["log_id", "position", "wanted"];

/// Actions of one entry that are kept.
pub const MAX_ACTIONS: usize = 64;

/// File names have at most as many bytes.
const MAX_NAME_CHARS: usize = 255;

const MAX_ERROR_CHARS: usize = 200;

/// Larger numbers are no numbers of actions or milliseconds, and some readers of JSON lose digits of them.
const MAX_MORE: u64 = 1 << 53;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(results: &Value) -> Result<Option<Said>, serde_json::Error> {
        read(
            json!({ "code": 200, "status": "Success", "results": results })
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn keylimes_answers_say_nothing() {
        for body in [&b""[..], b"null", b"{}", b"no JSON", b"{\"results\": [1]}"] {
            assert_eq!(read(body).unwrap(), None, "{body:?}");
        }
        assert_eq!(said(&Value::Null).unwrap(), None);
        assert_eq!(said(&json!({})).unwrap(), None);
    }

    #[test]
    fn lies_are_bounded_or_refused() {
        for results in [
            json!({ "log_id": 7, "position": 0, "wanted": 1 }),
            json!({ "position": -1 }),
            json!({ "wanted": "1" }),
            json!({ "wanted": 1, "outcomes": [{ "number": 1, "actions": [{ "name": 1 }] }] }),
            json!({ "wanted": 1, "outcomes": [{ "number": 1, "actions": [{ "name": "a", "exit_code": 1e300 }] }] }),
        ] {
            assert!(said(&results).is_err(), "{results}");
        }
        let action = json!({ "name": "a\n\u{1b}[2J".to_owned() + &"b".repeat(999), "exit_code": 0, "error": "c\r".repeat(999) });
        let results = json!({
            "log_id": null, "position": u64::MAX, "wanted": 0,
            "outcomes": [{ "number": 1, "actions": vec![action; 70], "more": u64::MAX }],
        });
        let said = said(&results).unwrap().unwrap();
        let ended = &said.outcomes[0].ended;
        assert_eq!((ended.actions.len(), ended.more), (MAX_ACTIONS, MAX_MORE));
        let action = &ended.actions[0];
        assert!(
            action.name.starts_with("a\\n\\u{1b}[2Jbb"),
            "{}",
            action.name
        );
        assert_eq!(action.name.len(), MAX_NAME_CHARS);
        let error = action.error.as_ref().unwrap();
        assert!(error.starts_with("c\\rc\\r") && error.len() == MAX_ERROR_CHARS);
        assert_eq!(action.exit_code, None, "one end");
    }

    #[test]
    fn actions_end_in_one_way() {
        for (action, expected) in [
            (
                json!({ "name": "a", "exit_code": 3, "duration_ms": 2 }),
                "exit_code",
            ),
            (json!({ "name": "a", "signal": 9 }), "signal"),
            (
                json!({ "name": "a", "timed_out": true, "signal": 9 }),
                "timed_out",
            ),
            (json!({ "name": "a", "interrupted": true }), "interrupted"),
            (json!({ "name": "a", "error": "not there" }), "error"),
            (json!({ "name": "a" }), "error"),
        ] {
            let action: Action = serde_json::from_value(action).unwrap();
            let ended = Ended {
                actions: vec![action],
                more: 0,
            };
            let action = serde_json::to_value(&ended.bounded().actions[0]).unwrap();
            let ends = ["exit_code", "signal", "timed_out", "interrupted", "error"];
            let found: Vec<_> = ends
                .iter()
                .filter(|end| action.get(**end).is_some())
                .collect();
            assert_eq!(found, [&expected], "{action}");
        }
    }
}
