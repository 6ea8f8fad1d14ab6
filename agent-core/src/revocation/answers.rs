//! The agent-driven side: what a verifier answers to a node that asks for entries, and what the node reports.

use core::fmt::{self, Write};

use heapless::string::StringView;

use super::MAX_MESSAGE_BYTES;
use super::entry::LOG_ID;
use super::ledger::Standing;
use super::notice::{Notice, NoticeForm};
use super::outcome::{Each, write_outcomes};
use crate::wire::form::FormError;
use crate::wire::json::{ObjectWriter, Value};
use crate::wire::push::{PushError, attributes, member};
use crate::wire::text::{LogId, Uuid};

/// The longest answer with entries.
pub const MAX_ENTRIES_BYTES: usize = 48 * 1024;

/// What `GET /v3.0/agents/{id}/revocations` is answered with.
#[derive(Clone, Debug)]
pub struct Delivered<'a> {
    /// The node's log; none if it has none.
    pub log_id: Option<LogId>,
    /// The last number in it: there is more to ask for if it wasn't among the entries.
    pub last: u64,
    entries: Value<'a>,
}

impl<'a> Delivered<'a> {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn from_answer(body: &'a [u8]) -> Result<Self, PushError> {
        let (_, attributes) = attributes(body)?;
        let log = member(LOG_ID, attributes.member(LOG_ID))?;
        let (log_id, last) = if log.is_null() {
            (None, 0)
        } else {
            let id = log.text().and_then(LogId::parse);
            let last = attributes.member(LAST).and_then(Value::number);
            (Some(member(LOG_ID, id)?), member(LAST, last)?)
        };
        Ok(Self {
            log_id,
            last,
            entries: member(ENTRIES, attributes.member(ENTRIES))?,
        })
    }

    /// Hands over the entries in their order, each with its message in `buffer`, until `take` says no. None of them is verified.
    ///
    /// # Errors
    /// [`FormError`] of the first that isn't `{msg, signature}`; those before it were handed over.
    pub fn each(
        &self,
        buffer: &mut [u8; MAX_MESSAGE_BYTES],
        take: &mut dyn FnMut(&Notice<'_>) -> bool,
    ) -> Result<(), FormError> {
        for entry in self.entries.items() {
            let mut form = NoticeForm::new(buffer);
            form.feed(entry.as_str().as_bytes())?;
            if !take(&form.finish()?) {
                break;
            }
        }
        Ok(())
    }
}

/// Writes the path of a request for the entries that come next: `GET`.
///
/// # Errors
/// The writer's: less room than [`MAX_PATH_BYTES`](crate::outbound::MAX_PATH_BYTES).
pub fn write_entries_path(out: &mut StringView, agent: &Uuid, standing: &Standing) -> fmt::Result {
    write!(out, "/v3.0/agents/{agent}/revocations?")?;
    if let Some(log_id) = &standing.log_id {
        write!(out, "log_id={log_id}&")?;
    }
    write!(out, "after={}", standing.wanted.saturating_sub(1))
}

/// Writes the path that outcomes go to: `POST`.
///
/// # Errors
/// The writer's: less room than [`MAX_PATH_BYTES`](crate::outbound::MAX_PATH_BYTES).
pub fn write_outcomes_path(out: &mut StringView, agent: &Uuid) -> fmt::Result {
    write!(out, "/v3.0/agents/{agent}/revocations/outcomes")
}

/// Writes the body of a report: of the entries that `each_of` hands over as many as fit. Returns the number of the last one of
/// them; the next report is about those after it.
///
/// # Errors
/// The writer's: no room at all.
pub fn write_outcomes_body(
    out: &mut StringView,
    standing: &Standing,
    each_of: impl FnOnce(&mut Each<'_>),
) -> Result<Option<u64>, fmt::Error> {
    let mut body = ObjectWriter::begin(out)?;
    let mut data = body.object("data")?;
    data.text("type", "revocation_outcomes")?;
    let mut attributes = data.object("attributes")?;
    attributes.text_or_null(LOG_ID, standing.log_id.as_ref())?;
    attributes.number("position", standing.position)?;
    let last = write_outcomes(&mut attributes, each_of)?;
    attributes.end()?;
    data.end()?;
    body.end()?;
    Ok(last)
}

const LAST: &str = "last";
const ENTRIES: &str = "entries";
