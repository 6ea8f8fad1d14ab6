//! The logs that come beside a quote: what is asked for of what a node has, and how they are read.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::error::Error;
use crate::push::attestations::{AskedLog, LogKind};
use crate::rounds::logs::{Asked, Came, List};
use crate::unescape;

/// What a node says of a log that it has.
#[derive(Deserialize)]
struct Capabilities {
    #[serde(default)]
    entry_count: Option<u64>,
    #[serde(default)]
    supports_partial_access: bool,
}

#[derive(Serialize)]
struct Chosen {
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_offset: Option<u64>,
}

/// The logs that a node brought, decoded.
#[derive(Default)]
pub(super) struct Logs {
    /// The body that they came in: the list stands in it.
    body: Vec<u8>,
    list: Option<(u64, Range<usize>)>,
    boot_log: Option<Vec<u8>>,
}

impl Logs {
    pub(super) fn came(&self) -> Came<'_> {
        Came {
            list: self.list.as_ref().map(|(after, lines)| List {
                after: *after,
                lines: self.body.get(lines.clone()).unwrap_or_default(),
            }),
            boot_log: self.boot_log.as_deref(),
        }
    }

    /// Reads what came for one of the logs that were asked for.
    pub(super) fn read(
        &mut self,
        log: &AskedLog,
        (body, data): (&[u8], &RawValue),
        pointer: &str,
    ) -> Result<(), Error> {
        let LogData { entries } = serde_json::from_str(data.get())
            .map_err(|error| Error::document(pointer, error.to_string()))?;
        match log.kind {
            LogKind::Ima => {
                self.list = Some((log.first_line, unescape::place_of(body, entries)));
            }
            LogKind::Uefi => {
                let wrong = |_| Error::document(format!("{pointer}/entries"), "no base64 text");
                let text: Cow<'_, str> = serde_json::from_str(entries.get())
                    .map_err(|error| Error::document(pointer, error.to_string()))?;
                self.boot_log = Some(BASE64_STANDARD.decode(&*text).map_err(wrong)?);
            }
        }
        Ok(())
    }

    /// Takes the body that they were read from, when nothing borrows from it any more.
    pub(super) fn keep(&mut self, mut body: Vec<u8>) -> Result<(), Error> {
        if let Some((_, place)) = &mut self.list {
            let decoded = unescape::in_place(&mut body, place.clone());
            let no_text = || Error::document("/data", "the entries of the ima_log are no text");
            *place = decoded.ok_or_else(no_text)?;
            self.body = body;
        }
        Ok(())
    }
}

/// What is asked for of the logs that the node says it has, in the order in which they are to come. A log that it hasn't isn't
/// asked for; the policy that is about it fails.
pub(super) fn choose<'a>(
    asked: Asked,
    has: impl Fn(LogKind) -> Option<&'a RawValue>,
    pointer: &str,
) -> Result<(Asked, Vec<AskedLog>), Error> {
    let mut asked = asked;
    let mut logs = Vec::new();
    for kind in [LogKind::Uefi, LogKind::Ima] {
        let wanted = match kind {
            LogKind::Uefi => asked.wants_boot_log(),
            LogKind::Ima => asked.wants_list(),
        };
        let Some(capabilities) = has(kind).filter(|_| wanted) else {
            continue;
        };
        let read: Capabilities = serde_json::from_str(capabilities.get())
            .map_err(|error| Error::document(pointer, error.to_string()))?;
        let short = read
            .entry_count
            .is_some_and(|count| count < asked.first_line());
        if kind == LogKind::Ima && (short || !read.supports_partial_access) {
            asked = asked.from_the_first_line();
        }
        let first_line = match kind {
            LogKind::Uefi => 0,
            LogKind::Ima => asked.first_line(),
        };
        let chosen = Chosen {
            format: kind.format(),
            starting_offset: (first_line > 0).then_some(first_line),
        };
        logs.push(AskedLog {
            kind,
            first_line,
            capabilities: capabilities.to_owned(),
            chosen: to_raw_value(&chosen).map_err(|error| Error::internal(&error))?,
        });
    }
    Ok((asked, logs))
}

/// One element of `evidence_requested`.
pub(super) fn requested(log: &AskedLog) -> serde_json::Value {
    json!({
        "evidence_class": LogKind::CLASS,
        "evidence_type": log.kind.name(),
        "chosen_parameters": &*log.chosen,
    })
}

#[derive(Deserialize)]
struct LogData<'a> {
    #[serde(borrow)]
    entries: &'a RawValue,
}
