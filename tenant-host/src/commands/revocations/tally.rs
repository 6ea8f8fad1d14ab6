//! Who has acted on an entry of a revocation log, and who hasn't, in words.

use verifier_host::revocation::told::{Action, PeerOutcome, State};

use crate::delivery::printable;

/// Names in a line.
const SHOWN: usize = 5;

/// What came of one entry at all peers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Peers that have acted, or took the message and can't say more.
    acted: usize,
    all: usize,
    /// Those that haven't, with their state.
    pub(super) waiting: Vec<String>,
    /// Actions that failed, with their peers.
    pub(super) failed: Vec<String>,
}

impl Tally {
    /// Counts; the node that was revoked needn't act on that.
    pub(super) fn of(peers: &[PeerOutcome], revoked: &str) -> Self {
        let mut tally = Self::default();
        for peer in peers.iter().filter(|peer| peer.agent_id != revoked) {
            tally.all += 1;
            let name = printable(&peer.agent_id);
            match peer.state {
                State::Acted | State::Acknowledged => tally.acted += 1,
                State::Waiting => tally.waiting.push(name.clone()),
                state => tally
                    .waiting
                    .push(format!("{name} ({})", state_name(state))),
            }
            let failed = peer.actions.iter().filter(|action| !is_done(action));
            tally
                .failed
                .extend(failed.map(|action| format!("{} at {name}", in_words(action))));
        }
        tally
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("acted: {} of {}", self.acted, self.all);
        for (what, names) in [("waiting", &self.waiting), ("failed", &self.failed)] {
            if names.is_empty() {
                continue;
            }
            let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            text.push_str(&format!("; {what}: {}", shown.join(", ")));
            if let Some(more) = names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                text.push_str(&format!(" and {more} more"));
            }
        }
        text
    }
}

/// The verifier's word for a state.
pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Acted => "acted",
        State::Acknowledged => "acknowledged",
        State::Waiting => "waiting",
        State::Unreachable => "unreachable",
        State::Refuses => "refuses",
    }
}

fn is_done(action: &Action) -> bool {
    action.exit_code == Some(0)
}

/// How an action went.
pub(super) fn in_words(action: &Action) -> String {
    let how = match action {
        Action {
            error: Some(error), ..
        } => format!("not run: {}", printable(error)),
        Action {
            timed_out: true, ..
        } => "took too long".to_owned(),
        Action {
            interrupted: true, ..
        } => "was interrupted".to_owned(),
        Action {
            signal: Some(signal),
            ..
        } => format!("killed by signal {signal}"),
        Action {
            exit_code: Some(code),
            ..
        } => format!("exit code {code}"),
        _ => "unknown end".to_owned(),
    };
    format!("{} ({how})", printable(&action.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, state: State, actions: &[(&str, i32)]) -> PeerOutcome {
        let action = |(name, code): &(&str, i32)| Action {
            name: (*name).to_owned(),
            exit_code: Some(*code),
            ..Action::default()
        };
        PeerOutcome {
            agent_id: name.to_owned(),
            state,
            actions: actions.iter().map(action).collect(),
            more: 0,
        }
    }

    #[test]
    fn who_has_not_acted_is_named() {
        let peers = [
            peer("a", State::Acted, &[("update-crl", 0), ("rm_ssh", 3)]),
            peer("b", State::Acknowledged, &[]),
            peer("c", State::Waiting, &[]),
            peer("d", State::Unreachable, &[]),
            peer("revoked", State::Unreachable, &[]),
        ];
        assert_eq!(
            Tally::of(&peers, "revoked").text(),
            "acted: 2 of 4; waiting: c, d (unreachable); failed: rm_ssh (exit code 3) at a"
        );
        let many: Vec<_> = (0..8)
            .map(|number| peer(&format!("n{number}"), State::Waiting, &[]))
            .collect();
        assert_eq!(
            Tally::of(&many, "revoked").text(),
            "acted: 0 of 8; waiting: n0, n1, n2, n3, n4 and 3 more"
        );
        assert_eq!(Tally::of(&[], "revoked").text(), "acted: 0 of 0");
    }

    #[test]
    fn an_action_ends_in_one_way() {
        let name = || "x".to_owned();
        let rows = [
            (
                Action {
                    name: name(),
                    exit_code: Some(0),
                    ..Action::default()
                },
                "x (exit code 0)",
            ),
            (
                Action {
                    name: name(),
                    signal: Some(9),
                    ..Action::default()
                },
                "x (killed by signal 9)",
            ),
            (
                Action {
                    name: name(),
                    timed_out: true,
                    ..Action::default()
                },
                "x (took too long)",
            ),
            (
                Action {
                    name: name(),
                    interrupted: true,
                    ..Action::default()
                },
                "x (was interrupted)",
            ),
            (
                Action {
                    name: name(),
                    error: Some("no\u{1b}".to_owned()),
                    ..Action::default()
                },
                "x (not run: no)",
            ),
            (
                Action {
                    name: name(),
                    ..Action::default()
                },
                "x (unknown end)",
            ),
        ];
        for (action, wanted) in rows {
            assert_eq!(in_words(&action), wanted);
            assert_eq!(is_done(&action), action.exit_code.is_some());
        }
    }
}
