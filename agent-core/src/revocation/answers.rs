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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;
    use crate::wire::text::MAX_UUID_BYTES;

    const LOG: &str =
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff-0123456789abcdef";

    fn answer(log: &str, entries: &str) -> String {
        format!(
            r#"{{"data":{{"type":"revocations","attributes":{{"log_id":{log},"last":9,"entries":{entries}}}}}}}"#
        )
    }

    fn handed_over(body: &str, most: usize) -> (Vec<String>, Result<(), FormError>) {
        let mut buffer = Box::new([0; MAX_MESSAGE_BYTES]);
        let mut got = Vec::new();
        let delivered = Delivered::from_answer(body.as_bytes()).unwrap();
        let end = delivered.each(&mut buffer, &mut |notice| {
            got.push(format!("{} {:?}", notice.message(), notice.signature()));
            got.len() < most
        });
        (got, end)
    }

    #[test]
    fn entries_are_handed_over_one_by_one() {
        let log = format!("\"{LOG}\"");
        let three = answer(
            &log,
            r#"[{"msg":"{\"a\":\"\u00fc\"}","signature":"AQI="}, {"signature":"Aw==","msg":"b","x":1},{"msg":"c"}]"#,
        );
        let delivered = Delivered::from_answer(three.as_bytes()).unwrap();
        assert_eq!((delivered.log_id, delivered.last), (LogId::parse(LOG), 9));
        let all = [r#"{"a":"ü"} [1, 2]"#.to_string(), "b [3]".to_string()];
        let missing = FormError::Missing { name: "signature" };
        assert_eq!(handed_over(&three, 9), (all.to_vec(), Err(missing)));
        assert_eq!(handed_over(&three, 1), (all[..1].to_vec(), Ok(())));
        assert_eq!(handed_over(&answer("null", "[]"), 9), (Vec::new(), Ok(())));
        let long = format!(
            r#"[{{"msg":"{}","signature":"AQ=="}}]"#,
            "a".repeat(MAX_MESSAGE_BYTES + 1)
        );
        let too_long = FormError::TooLong { name: "msg" };
        assert_eq!(handed_over(&answer(&log, &long), 9).1, Err(too_long));
    }

    #[test]
    fn answers_that_are_none() {
        let usual = answer(&format!("\"{LOG}\""), "[]");
        let member = |name| Some(PushError::Member { name });
        for (from, to, wanted) in [
            ("data", "x", member("data")),
            ("log_id", "x", member("log_id")),
            (LOG, "x", member("log_id")),
            ("\"last\":9", "\"last\":-9", member("last")),
            ("entries", "x", member("entries")),
            ("entries", "entries", None),
        ] {
            let body = usual.replacen(from, to, 1);
            let error = Delivered::from_answer(body.as_bytes()).err();
            assert_eq!(error, wanted, "{to}");
        }
    }

    #[test]
    fn paths_fit_and_bodies_are_as_they_are_read() {
        let agent = Uuid::parse(&"n".repeat(MAX_UUID_BYTES)).unwrap();
        let standing = Standing {
            log_id: LogId::parse(LOG),
            position: 7,
            wanted: u64::MAX,
        };
        let mut path = heapless::String::<{ 2 * MAX_UUID_BYTES + 96 }>::new();
        write_entries_path(&mut path, &agent, &standing).unwrap();
        let end = format!("/revocations?log_id={LOG}&after={}", u64::MAX - 1);
        assert!(path.ends_with(&end), "{path}");
        path.clear();
        let agent = Uuid::parse("n").unwrap();
        let none = Standing {
            log_id: None,
            position: 0,
            wanted: 1,
        };
        write_entries_path(&mut path, &agent, &none).unwrap();
        assert_eq!(path, "/v3.0/agents/n/revocations?after=0");
        path.clear();
        write_outcomes_path(&mut path, &agent).unwrap();
        assert_eq!(path, "/v3.0/agents/n/revocations/outcomes");
        let mut body = heapless::String::<512>::new();
        let last = write_outcomes_body(&mut body, &standing, |each| {
            each(7, &mut core::iter::empty());
        });
        assert_eq!(last, Ok(Some(7)));
        assert_eq!(
            body,
            format!(
                r#"{{"data":{{"type":"revocation_outcomes","attributes":{{"log_id":"{LOG}","position":7,"outcomes":[{{"number":7,"actions":[]}}]}}}}}}"#
            )
            .as_str()
        );
    }
}
