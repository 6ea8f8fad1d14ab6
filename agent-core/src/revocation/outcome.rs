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
