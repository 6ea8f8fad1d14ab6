//! A whole document in memory: checked once, then asked for its members.
//!
//! Nothing of it is copied. Its nesting is bounded, and so is the stack that reading it takes, whatever a peer sends.

use super::number::is_number;

/// How deep a document may be nested; the answers of Keylime's verifier have eight levels.
pub const MAX_DEPTH: usize = 16;

/// A value of a document that was checked as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

/// Why bytes are no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DocumentError {
    /// No UTF-8.
    Utf8,
    /// They aren't one JSON value.
    Syntax {
        /// How many bytes were left where it went wrong.
        left: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
}

impl<'a> Value<'a> {
    /// Checks a document that is one value, with blanks around it at most.
    ///
    /// # Errors
    /// [`DocumentError`].
    ///
    /// Source: RFC 8259.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DocumentError> {
        let text = core::str::from_utf8(bytes).map_err(|_| DocumentError::Utf8)?;
        let mut scanner = Scanner { rest: text };
        let value = scanner.value(MAX_DEPTH)?;
        scanner.blanks();
        match scanner.rest {
            "" => Ok(value),
            _ => Err(scanner.syntax()),
        }
    }

    /// The member of this name; `None` if this is no object, or has none or two of them. A name that is written with escapes
    /// is no name.
    #[must_use]
    pub fn member(self, name: &str) -> Option<Self> {
        let mut found = None;
        let mut scanner = Scanner::inside(self.0, '{')?;
        while let Some(key) = scanner.value(MAX_DEPTH).ok().and_then(Self::text) {
            scanner.skip(':');
            let value = scanner.value(MAX_DEPTH).ok()?;
            if key == name && found.replace(value).is_some() {
                return None;
            }
            scanner.skip(',');
        }
        found
    }

    /// The member that these names lead to, one inside the other.
    #[must_use]
    pub fn path(self, names: &[&str]) -> Option<Self> {
        names
            .iter()
            .try_fold(self, |value, name| value.member(name))
    }

    /// The values of an array; of anything else none.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let mut scanner = Scanner::inside(self.0, '[');
        core::iter::from_fn(move || {
            let scanner = scanner.as_mut()?;
            let value = scanner.value(MAX_DEPTH).ok()?;
            scanner.skip(',');
            Some(value)
        })
    }

    /// A string without escapes, as it stands; `None` for anything else. Nothing that the agent uses needs an escape.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        self.raw_text().filter(|text| !text.contains('\\'))
    }

    /// A string as it stands, escapes included: for people to read.
    #[must_use]
    pub fn raw_text(self) -> Option<&'a str> {
        self.0.strip_prefix('"')?.strip_suffix('"')
    }

    /// The value as it stands.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// A whole number that isn't negative; `None` for anything else.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        let digits = self.0.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| self.0.parse().ok())?
    }
}

/// Reads on in a text.
#[derive(Clone)]
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// Behind the bracket that a value begins with, if it is that one.
    fn inside(value: &'a str, bracket: char) -> Option<Self> {
        let rest = value.strip_prefix(bracket)?;
        Some(Self { rest })
    }

    /// The next value, blanks before it skipped. Its recursion ends with `depth`.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, DocumentError> {
        self.blanks();
        let start = self.rest;
        match start.bytes().next() {
            Some(b'"') => self.string()?,
            Some(b'{') => self.row('}', depth, true)?,
            Some(b'[') => self.row(']', depth, false)?,
            Some(_) => self.literal()?,
            None => return Err(self.syntax()),
        }
        let length = start.len().saturating_sub(self.rest.len());
        Ok(Value(start.get(..length).unwrap_or_default()))
    }

    /// An object's members or an array's values, with their brackets.
    fn row(&mut self, end: char, depth: usize, named: bool) -> Result<(), DocumentError> {
        let depth = depth.checked_sub(1).ok_or(DocumentError::Depth)?;
        self.advance(1);
        if self.skip(end) {
            return Ok(());
        }
        loop {
            if named {
                self.blanks();
                if !self.rest.starts_with('"') {
                    return Err(self.syntax());
                }
                self.string()?;
                if !self.skip(':') {
                    return Err(self.syntax());
                }
            }
            self.value(depth)?;
            if self.skip(end) {
                return Ok(());
            }
            if !self.skip(',') {
                return Err(self.syntax());
            }
        }
    }

    /// A string from its quote on.
    fn string(&mut self) -> Result<(), DocumentError> {
        self.advance(1);
        loop {
            let special = |letter: char| matches!(letter, '"' | '\\' | '\0'..' ');
            let plain = self.rest.find(special).ok_or_else(|| self.syntax())?;
            self.advance(plain);
            match self.rest.as_bytes() {
                [b'"', ..] => {
                    self.advance(1);
                    return Ok(());
                }
                [b'\\', b'u', digits @ ..] => {
                    let digits = digits.first_chunk::<4>().ok_or_else(|| self.syntax())?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(self.syntax());
                    }
                    self.advance(6);
                }
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ..,
                ] => self.advance(2),
                _ => return Err(self.syntax()),
            }
        }
    }

    /// A number or one of the three words.
    fn literal(&mut self) -> Result<(), DocumentError> {
        let part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        let end = self
            .rest
            .find(|letter| !part(letter))
            .unwrap_or(self.rest.len());
        let literal = self.rest.get(..end).unwrap_or_default();
        if !matches!(literal, "null" | "true" | "false") && !is_number(literal.as_bytes()) {
            return Err(self.syntax());
        }
        self.advance(end);
        Ok(())
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Skips this letter and blanks before it, if it is the next.
    fn skip(&mut self, letter: char) -> bool {
        self.blanks();
        match self.rest.strip_prefix(letter) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    const fn syntax(&self) -> DocumentError {
        DocumentError::Syntax {
            left: self.rest.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    #[test]
    fn finds_members_through_everything_else() {
        let text = br#" {"a": [1, {"b": null, "c": "}\"\\"}, []], "data": {"id": "x", "n": 12,
            "list": [{"v": "1"}, {"v": "2"}], "f": -1.5e3, "t": true}, "twice": 1, "twice": 2} "#;
        let root = Value::parse(text).unwrap();
        let at = |path: &[&str]| root.path(path);
        assert_eq!(at(&["data", "id"]).and_then(Value::text), Some("x"));
        assert_eq!(at(&["data", "n"]).and_then(Value::number), Some(12));
        let list = at(&["data", "list"]).unwrap();
        let values = list.items().filter_map(|item| item.member("v")?.text());
        assert!(values.eq(["1", "2"]));
        assert_eq!(at(&["data", "f"]).and_then(Value::number), None);
        assert_eq!(at(&["data", "id", "more"]), None);
        assert_eq!(at(&["twice"]), None);
        assert_eq!(at(&["b"]), None);
        let escaped = at(&["a"]).and_then(|all| all.items().nth(1)?.member("c"));
        assert_eq!(escaped.and_then(Value::text), None);
        assert_eq!(escaped.and_then(Value::raw_text), Some(r#"}\"\\"#));
        assert_eq!(at(&["a"]).unwrap().items().count(), 3);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "{]",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1}x",
            "nul",
            "01",
            "1.",
            "+1",
            "1e",
            "--1",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "{1:2}",
            "inf",
            "NaN",
            ".5",
        ] {
            let parsed = Value::parse(text.as_bytes());
            assert!(
                matches!(parsed, Err(DocumentError::Syntax { .. })),
                "{text}"
            );
        }
        assert_eq!(Value::parse(b"\"\xFF\""), Err(DocumentError::Utf8));
    }

    #[test]
    fn nesting_ends_at_its_limit() {
        let nested = |depth: usize| -> String {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            [open, close].concat()
        };
        assert!(Value::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 100_000] {
            let text = nested(depth);
            let parsed = Value::parse(text.as_bytes());
            assert_eq!(parsed, Err(DocumentError::Depth), "{depth}");
        }
    }
}
