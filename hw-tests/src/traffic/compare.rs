//! How messages differ: by the names of their fields and the kinds of their values.
//!
//! Two values are alike if they are of the same kind: a nonce is another one each time, but always letters and digits. Words
//! that the protocol gives a meaning (`rsassa`, `Success`) must be equal.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::{Message, UUID};

/// What is different in one place of one kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Which request, as [`Route`](super::Route) is printed.
    pub route: String,
    /// Which field, from `request`, `status` or `answer` on.
    pub field: String,
    /// Both sides, in words.
    pub what: String,
}

/// How the messages differ from recorded ones of the same route and status; without such a one, that is the difference.
///
/// Each is held against the recorded message that it is most like: a node's state has other fields before and after a
/// failure.
pub fn differences(ours: &[Message], recorded: &[Message]) -> BTreeSet<Difference> {
    let mut found = BTreeSet::new();
    for message in ours {
        let route = message.route();
        let alike = recorded
            .iter()
            .filter(|other| message.is_asked_as(other))
            .map(|other| compare(message, other))
            .min_by_key(Vec::len);
        let unknown = || {
            vec![(
                "status".to_owned(),
                format!("{} was never recorded", message.status),
            )]
        };
        let rows = alike.unwrap_or_else(unknown);
        found.extend(rows.into_iter().map(|(field, what)| Difference {
            route: route.to_string(),
            field,
            what,
        }));
    }
    found
}

/// Routes that the recorded parties ask, and ours never did.
pub fn never_asked(ours: &[Message], recorded: &[Message]) -> BTreeSet<String> {
    let asked: BTreeSet<_> = ours.iter().map(Message::route).collect();
    let recorded = recorded.iter().map(Message::route);
    recorded
        .filter(|route| !asked.contains(route))
        .map(|route| route.to_string())
        .collect()
}

type Rows = Vec<(String, String)>;

pub(super) fn compare(ours: &Message, theirs: &Message) -> Rows {
    let mut rows = Rows::new();
    compare_values("request", &ours.request, &theirs.request, &mut rows);
    compare_values("answer", &ours.answer, &theirs.answer, &mut rows);
    rows
}

fn compare_values(field: &str, ours: &Value, theirs: &Value, rows: &mut Rows) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => compare_objects(field, ours, theirs, rows),
        (Value::Array(ours), Value::Array(theirs)) => {
            // Lists of the protocol are of one kind throughout.
            if let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) {
                let (ours, theirs) = (kind(ours), kind(theirs));
                if ours.name() != theirs.name() {
                    rows.push((format!("{field}[]"), two_sides(&ours, &theirs)));
                }
            }
        }
        _ => match (kind(ours), kind(theirs)) {
            (Kind::Json(ours), Kind::Json(theirs)) => {
                compare_values(&format!("{field} (text)"), &ours, &theirs, rows);
            }
            (ours, theirs) if ours.is_like(&theirs) => {}
            (ours, theirs) => rows.push((field.to_owned(), two_sides(&ours, &theirs))),
        },
    }
}

fn compare_objects(
    field: &str,
    ours: &Map<String, Value>,
    theirs: &Map<String, Value>,
    rows: &mut Rows,
) {
    for (name, value) in ours {
        let shown = if name == UUID { "{uuid}" } else { name };
        let field = format!("{field}.{shown}");
        match theirs.get(name) {
            Some(other) => compare_values(&field, value, other, rows),
            None => rows.push((field, "isn't in the recording".to_owned())),
        }
    }
    for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        rows.push((format!("{field}.{name}"), "is missing".to_owned()));
    }
}

fn two_sides(ours: &Kind, theirs: &Kind) -> String {
    format!("is {ours}, recorded {theirs}")
}

/// What sort of value it is, as far as two runs have it in common.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Null,
    Flag,
    Number,
    List,
    Object,
    /// Text that is JSON itself.
    Json(Value),
    Pem(String),
    /// `r`, then three parts in base64.
    Quote,
    Base64,
    /// So many hexadecimal digits.
    Hex(usize),
    Address,
    Digits,
    /// `2s`.
    Period,
    /// The name of a certificate's owner.
    Name,
    Sentence,
    Word(String),
    /// A text of which the recording has only the beginning.
    Cut,
}

impl Kind {
    fn is_like(&self, other: &Self) -> bool {
        self == other || [self, other].contains(&&Self::Cut) && self.is_text() && other.is_text()
    }

    fn is_text(&self) -> bool {
        !matches!(
            self,
            Self::Null | Self::Flag | Self::Number | Self::List | Self::Object
        )
    }

    /// The kind alone, whatever its word or length.
    fn name(&self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(self)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(_) => write!(f, "JSON in a text"),
            Self::Pem(label) => write!(f, "PEM of a {label}"),
            Self::Hex(digits) => write!(f, "{digits} hex digits"),
            Self::Word(word) => write!(f, "{word:?}"),
            other => write!(f, "{}", format!("{other:?}").to_lowercase()),
        }
    }
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Flag,
        Value::Number(_) => Kind::Number,
        Value::Array(_) => Kind::List,
        Value::Object(_) => Kind::Object,
        Value::String(text) => kind_of_text(text),
    }
}

fn kind_of_text(text: &str) -> Kind {
    if text.contains("<total ") || text.starts_with("<private key") {
        return Kind::Cut;
    }
    if text.starts_with(['{', '['])
        && let Ok(inner) = serde_json::from_str(text)
    {
        return Kind::Json(inner);
    }
    let pem = text.strip_prefix("-----BEGIN ").unwrap_or_default();
    if let Some((label, _)) = pem.split_once("-----") {
        return Kind::Pem(label.to_owned());
    }
    let all = |test: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| test(&byte));
    let is_base64 = |text: &str| text.len() >= 24 && BASE64.decode(text).is_ok();
    if all(u8::is_ascii_digit) {
        Kind::Digits
    } else if text.len() >= 32 && all(u8::is_ascii_hexdigit) {
        Kind::Hex(text.len())
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        Kind::Address
    } else if text
        .strip_suffix('s')
        .is_some_and(|n| n.parse::<f64>().is_ok())
    {
        Kind::Period
    } else if is_base64(text) {
        Kind::Base64
    } else if text.starts_with('r')
        && text[1..].split(':').filter(|part| is_base64(part)).count() == 3
    {
        Kind::Quote
    } else if text.contains("CN=") {
        Kind::Name
    } else if text.contains(' ') {
        Kind::Sentence
    } else {
        Kind::Word(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds() {
        let rows = [
            ("rsassa", Kind::Word("rsassa".to_owned())),
            ("", Kind::Word(String::new())),
            ("8881", Kind::Digits),
            ("127.0.0.1", Kind::Address),
            ("2s", Kind::Period),
            ("no such node", Kind::Sentence),
            ("OU=53,CN=node", Kind::Name),
            (&"ab".repeat(32), Kind::Hex(64)),
            ("QUJDREVGR0hJSktMTU5PUFFSU1RVVg==", Kind::Base64),
            (
                "-----BEGIN CERTIFICATE-----\nMIID",
                Kind::Pem("CERTIFICATE".to_owned()),
            ),
            ("{\"a\": 1}", Kind::Json(json!({"a": 1}))),
            ("ARgAAQ...<total 376 chars>", Kind::Cut),
        ];
        for (text, wanted) in rows {
            assert_eq!(kind_of_text(text), wanted, "{text}");
        }
    }

    #[test]
    fn each_difference_is_seen() {
        let recorded = json!({"a": "rsa", "b": null, "c": [{"d": 1}], "e": "{\"f\": 1}", "g": 2});
        let rows = [
            ("the same", recorded.clone(), None),
            (
                "another number",
                json!({"a": "rsa", "b": null, "c": [], "e": "{\"f\": 7}", "g": 3}),
                None,
            ),
            (
                "another word",
                json!({"a": "ecc", "b": null, "c": [], "e": "{\"f\": 1}", "g": 2}),
                Some("answer.a"),
            ),
            (
                "another kind",
                json!({"a": "rsa", "b": 1, "c": [], "e": "{\"f\": 1}", "g": 2}),
                Some("answer.b"),
            ),
            (
                "another element",
                json!({"a": "rsa", "b": null, "c": [1], "e": "{\"f\": 1}", "g": 2}),
                Some("answer.c[]"),
            ),
            (
                "inside a text",
                json!({"a": "rsa", "b": null, "c": [], "e": "{\"h\": 1, \"f\": 1}", "g": 2}),
                Some("answer.e (text).h"),
            ),
            (
                "one less",
                json!({"a": "rsa", "b": null, "c": [], "e": "{\"f\": 1}"}),
                Some("answer.g"),
            ),
        ];
        for (name, ours, wanted) in rows {
            let mut found = Rows::new();
            compare_values("answer", &ours, &recorded, &mut found);
            let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
            assert_eq!(
                fields,
                wanted.into_iter().collect::<Vec<_>>(),
                "{name}: {found:?}"
            );
        }
    }
}
