//! What became of the actions of entries, as it is written for a verifier.

use core::fmt;

use heapless::string::StringView;

use super::ledger::Standing;
use crate::wire::json::ObjectWriter;

/// What became of one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOutcome<'a> {
    /// Its name in the list that named it.
    pub name: &'a str,
    /// How it ended.
    pub end: ActionEnd<'a>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionEnd<'a> {
    /// It returned.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It was ended at its time limit.
    TimedOut,
    /// The agent ended while it ran: nobody knows how far it came.
    Interrupted,
    /// It wasn't run.
    NotRun {
        /// Why.
        error: &'a str,
    },
}

/// Receives the number of an entry and its actions, and says whether it wants the next one.
pub type Each<'e> = dyn FnMut(u64, &mut dyn Iterator<Item = ActionOutcome<'_>>) -> bool + 'e;

/// Writes the members `log_id`, `position` and `wanted`.
pub(crate) fn write_standing(
    object: &mut ObjectWriter<'_, StringView>,
    standing: &Standing,
) -> fmt::Result {
    object.text_or_null("log_id", standing.log_id.as_ref())?;
    object.number("position", standing.position)?;
    object.number("wanted", standing.wanted)
}

/// Writes the member `outcomes`: of the entries that `each_of` hands over as many as fit. Of one that doesn't fit alone, it is as
/// many actions as fit, and `more` says how many don't. Returns the number of the last entry that was written.
///
/// # Errors
/// The writer's: no room for any.
pub(crate) fn write_outcomes(
    object: &mut ObjectWriter<'_, StringView>,
    each_of: impl FnOnce(&mut Each<'_>),
) -> Result<Option<u64>, fmt::Error> {
    let mut outcomes = object.array("outcomes")?;
    let mut last = None;
    each_of(&mut |number, actions| {
        let is_first = last.is_none();
        let fits = outcomes.object_if_fits(SPARE_BYTES, |entry| {
            write_entry(entry, number, actions, is_first)
        });
        if fits {
            last = Some(number);
        }
        fits
    });
    outcomes.end()?;
    Ok(last)
}

fn write_entry(
    entry: &mut ObjectWriter<'_, StringView>,
    number: u64,
    actions: &mut dyn Iterator<Item = ActionOutcome<'_>>,
    is_first: bool,
) -> fmt::Result {
    entry.number("number", number)?;
    let mut written = entry.array("actions")?;
    let mut more: u64 = 0;
    for action in actions {
        // Once one doesn't fit, those after it are left out, too.
        let fits = more == 0
            && written.object_if_fits(2 * SPARE_BYTES, |object| write_action(object, &action));
        more = more.saturating_add(u64::from(!fits));
    }
    written.end()?;
    match more {
        0 => Ok(()),
        _ if is_first => entry.number("more", more),
        _ => Err(fmt::Error),
    }
}

fn write_action(
    object: &mut ObjectWriter<'_, StringView>,
    action: &ActionOutcome<'_>,
) -> fmt::Result {
    object.text("name", action.name)?;
    match action.end {
        ActionEnd::Exited { code } => object.number("exit_code", code)?,
        ActionEnd::Signal { signal } => object.number("signal", signal)?,
        ActionEnd::TimedOut => object.flag("timed_out", true)?,
        ActionEnd::Interrupted => object.flag("interrupted", true)?,
        ActionEnd::NotRun { error } => object.text("error", error)?,
    }
    object.number("duration_ms", action.duration_ms)
}

/// What is written after an entry or an action at most: a count of those left out, and brackets.
const SPARE_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    fn write<const N: usize>(entries: &[(u64, &[ActionOutcome<'_>])]) -> (String, Option<u64>) {
        let mut out = heapless::String::<N>::new();
        let mut object = ObjectWriter::begin(out.as_mut_view()).unwrap();
        let last = write_outcomes(&mut object, |each| {
            let _ = entries
                .iter()
                .take_while(|(number, actions)| each(*number, &mut actions.iter().copied()))
                .count();
        });
        object.end().unwrap();
        (out.as_str().to_string(), last.unwrap())
    }

    fn action<'a>(name: &'a str, end: ActionEnd<'a>) -> ActionOutcome<'a> {
        let duration_ms = 2;
        ActionOutcome {
            name,
            end,
            duration_ms,
        }
    }

    #[test]
    fn every_end_has_its_member() {
        let actions = [
            action("update-crl", ActionEnd::Exited { code: -1 }),
            action("a", ActionEnd::Signal { signal: 9 }),
            action("b", ActionEnd::TimedOut),
            action("c", ActionEnd::Interrupted),
            action("d", ActionEnd::NotRun { error: "no \"d\"" }),
        ];
        let (text, last) = write::<1024>(&[(8, &actions), (9, &[])]);
        assert_eq!(last, Some(9));
        assert_eq!(
            text,
            concat!(
                r#"{"outcomes":[{"number":8,"actions":["#,
                r#"{"name":"update-crl","exit_code":-1,"duration_ms":2},"#,
                r#"{"name":"a","signal":9,"duration_ms":2},"#,
                r#"{"name":"b","timed_out":true,"duration_ms":2},"#,
                r#"{"name":"c","interrupted":true,"duration_ms":2},"#,
                r#"{"name":"d","error":"no \"d\"","duration_ms":2}]},"#,
                r#"{"number":9,"actions":[]}]}"#
            )
        );
        assert_eq!(write::<64>(&[]), (r#"{"outcomes":[]}"#.into(), None));
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let long = "ä".repeat(60);
        let one = [action(&long, ActionEnd::TimedOut)];
        let five = [action(&long, ActionEnd::TimedOut); 5];
        // Five fit nowhere; alone they are cut short, behind another they wait.
        let (text, last) = write::<512>(&[(1, &five), (2, &one)]);
        assert_eq!((last, text.matches("name").count()), (Some(1), 2));
        assert!(text.ends_with(r#"],"more":3}]}"#), "{text}");
        let (text, last) = write::<512>(&[(1, &one), (2, &five)]);
        assert_eq!((last, text.matches("name").count()), (Some(1), 1));
        assert!(text.ends_with(r#""duration_ms":2}]}]}"#), "{text}");
        // Whatever the room is, what is written is whole.
        let sizes = [
            write::<160>,
            write::<230>,
            write::<300>,
            write::<352>,
            write::<400>,
        ];
        for write in sizes {
            let entries: [(u64, &[_]); 3] = [
                (u64::MAX - 2, &five),
                (u64::MAX - 1, &one),
                (u64::MAX, &one),
            ];
            let (text, last) = write(&entries);
            let root = crate::wire::json::Value::parse(text.as_bytes()).unwrap();
            let written: Vec<_> = root.member("outcomes").unwrap().items().collect();
            let mut numbers = written
                .iter()
                .map(|one| one.member("number").unwrap().number());
            assert_eq!(numbers.next_back().flatten(), last, "{text}");
        }
    }
}
