//! Events as sentences, for people.

use std::fmt::Write as _;

use agent_core::wire::quote::HashAlg;
use agent_core::wire::text::Hex;

use super::data::{Explained, Tagged, Variable};
use super::event::{Event, EventType};

/// As much of a text or of bytes as a sentence has.
const MAX_CHARS: usize = 200;
const MAX_BYTES: usize = 32;

/// What an event is, what its data says, and whether that is what was measured: a sentence without its end, which begins with the
/// event's number. Everything that comes from the log is escaped and cut.
#[must_use]
pub fn describe(event: &Event<'_>, bank: HashAlg) -> String {
    let mut line = format!("event {} (PCR {}, {})", event.number, event.pcr, event.kind);
    if !event.is_extended() {
        let _ = write!(line, ": not measured, {}", bytes(event.data));
        return line;
    }
    match event.explained(bank) {
        Some(Explained::Separator) => line.push_str(": the end of what the firmware measured"),
        Some(Explained::Variable(variable)) => {
            let _ = write!(line, ": {}", of_variable(&variable));
        }
        Some(Explained::Text(text)) => {
            let _ = write!(line, ": the text {}", quoted(&text.text()));
        }
        Some(Explained::Bytes(data)) => {
            let _ = write!(line, ": {}", bytes(data));
        }
        None => {
            let _ = write!(line, ": {}", unexplained(event));
        }
    }
    match event.digest(bank) {
        Some(digest) => {
            let _ = write!(line, ", {} {}", bank.name(), Hex(digest));
        }
        None => {
            let _ = write!(line, ", without a {} digest", bank.name());
        }
    }
    line
}

fn of_variable(variable: &Variable<'_>) -> String {
    let name = quoted(&variable.name());
    let content = match variable.content {
        [] => "empty".to_owned(),
        short if short.len() <= MAX_BYTES => Hex(short).to_string(),
        long => format!("{} bytes", long.len()),
    };
    format!("the variable {name} of {}, {content}", variable.owner)
}

/// What the log claims about something that it doesn't have.
fn unexplained(event: &Event<'_>) -> String {
    let claim = match event.kind {
        EventType::APPLICATION | EventType::DRIVER => "an image".to_owned(),
        EventType::EVENT_TAG => match Tagged::parse(event.data) {
            Some(tagged) => format!("what it calls {}", bytes(tagged.data)),
            None => "something".to_owned(),
        },
        EventType::VARIABLE_BOOT => match Variable::parse(event.data) {
            Some(variable) => format!("what it calls {}", of_variable(&variable)),
            None => "something".to_owned(),
        },
        _ => format!("what it calls {}", bytes(event.data)),
    };
    format!("{claim} (the log's word: it doesn't contain what was measured)")
}

fn bytes(data: &[u8]) -> String {
    let wide = || {
        let units = data.as_chunks::<2>().0.iter();
        String::from_utf16(
            &units
                .map(|unit| u16::from_le_bytes(*unit))
                .collect::<Vec<_>>(),
        )
    };
    let readable = |text: &str| {
        let text = text.strip_suffix('\0').unwrap_or(text);
        let plain = !text.is_empty() && !text.contains(|letter: char| letter.is_control());
        plain.then(|| quoted(text))
    };
    if let Some(text) = std::str::from_utf8(data).ok().and_then(readable) {
        return text;
    }
    if let Some(text) = wide()
        .ok()
        .as_deref()
        .and_then(readable)
        .filter(|_| data.len().is_multiple_of(2))
    {
        return text;
    }
    match data.get(..MAX_BYTES) {
        Some(start) if data.len() > MAX_BYTES => {
            format!("{}... ({} bytes)", Hex(start), data.len())
        }
        _ => format!("{} ({} bytes)", Hex(data), data.len()),
    }
}

/// In quotes, escaped, and no longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(MAX_CHARS).collect();
    let more = if chars.next().is_some() { "..." } else { "" };
    format!("{start:?}{more}")
}
