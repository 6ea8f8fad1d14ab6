//! The part of TOML that agents' configuration files are written in: tables `[name]`, keys of letters, digits, `_` and `-`,
//! and as values texts in one line, decimal numbers, `true`, `false`, and arrays of texts.
//!
//! What is read means what TOML says. What TOML has beyond that is an error with its line, never another meaning: quoted and
//! dotted keys, `[[name]]`, texts over several lines, fractions, other bases, dates, tables in braces, arrays of other things.
//!
//! Source: TOML 1.0.0.

use std::collections::BTreeMap;
use std::fmt;

/// Tables by name, and in each the values by their keys. What stands before the first table has the name `""`.
pub(super) type Tables<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Value>>;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Texts(Vec<String>),
}

/// What can't be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxFault {
    /// Its line, the first one is 1.
    pub line: usize,
    /// What would have to be there, or what the agent doesn't read.
    pub what: &'static str,
}

impl fmt::Display for SyntaxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads a file.
///
/// # Errors
/// [`SyntaxFault`]. It holds nothing of the file, which may have passwords in it.
pub(super) fn read(text: &str) -> Result<Tables<'_>, SyntaxFault> {
    let mut reader = Reader {
        rest: text,
        line: 1,
    };
    let mut tables = Tables::from([(ROOT, BTreeMap::new())]);
    let mut table = ROOT;
    while !reader.rest.is_empty() {
        reader.spaces();
        if reader.is_at(&['#', '\n', '\r']) || reader.rest.is_empty() {
            reader.line_end()?;
            continue;
        }
        if reader.eat("[") {
            table = reader.header()?;
            let taken = tables[ROOT].contains_key(table);
            if taken || tables.insert(table, BTreeMap::new()).is_some() {
                return Err(reader.fault("a table of that name is there already"));
            }
        } else {
            let (key, value) = reader.pair()?;
            let values = tables.entry(table).or_default();
            if values.insert(key, value).is_some() {
                return Err(reader.fault("that key is there already"));
            }
        }
        reader.line_end()?;
    }
    Ok(tables)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// What follows `[`.
    fn header(&mut self) -> Result<&'a str, SyntaxFault> {
        self.spaces();
        let name = self.bare_key()?;
        self.spaces();
        if self.eat("]") {
            Ok(name)
        } else {
            Err(self.fault("a table's name ends with ], and has no dots"))
        }
    }

    fn pair(&mut self) -> Result<(&'a str, Value), SyntaxFault> {
        let key = self.bare_key()?;
        self.spaces();
        if !self.eat("=") {
            return Err(self.fault("after a key comes =, and it has no dots"));
        }
        self.spaces();
        Ok((key, self.value()?))
    }

    fn bare_key(&mut self) -> Result<&'a str, SyntaxFault> {
        let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
        match self.take_while(plain) {
            "" => Err(self.fault("a name has letters, digits, _ and - only, and no quotes")),
            key => Ok(key),
        }
    }

    fn value(&mut self) -> Result<Value, SyntaxFault> {
        if self.is_at(&['"', '\'']) {
            return self.text().map(Value::Text);
        }
        if self.eat("[") {
            return self.texts().map(Value::Texts);
        }
        let ends = |char: char| matches!(char, ' ' | '\t' | '\r' | '\n' | '#');
        match self.take_while(|char| !ends(char)) {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            word => integer(word).map(Value::Integer).ok_or_else(|| {
                self.fault("a value is a text in quotes, a decimal number, true, false, or an array of texts")
            }),
        }
    }

    /// What follows the `[` of an array.
    fn texts(&mut self) -> Result<Vec<String>, SyntaxFault> {
        let mut texts = Vec::new();
        loop {
            self.blank()?;
            if self.eat("]") {
                return Ok(texts);
            }
            texts.push(self.text()?);
            self.blank()?;
            if !self.eat(",") && !self.is_at(&[']']) {
                return Err(self.fault("an array ends with ], its texts have commas between them"));
            }
        }
    }

    fn text(&mut self) -> Result<String, SyntaxFault> {
        if self.rest.starts_with("\"\"\"") || self.rest.starts_with("'''") {
            return Err(self.fault("a text has one quotation mark on either side, and one line"));
        }
        if self.eat("'") {
            let text = self.take_while(|char| char != '\'' && !is_control(char));
            return if self.eat("'") {
                Ok(text.to_owned())
            } else {
                Err(self.fault(NO_END))
            };
        }
        if !self.eat("\"") {
            return Err(self.fault("an array holds texts in quotes only"));
        }
        let mut text = String::new();
        loop {
            text += self.take_while(|char| !matches!(char, '"' | '\\') && !is_control(char));
            if self.eat("\"") {
                return Ok(text);
            }
            if !self.eat("\\") {
                return Err(self.fault(NO_END));
            }
            text.push(self.escaped()?);
        }
    }

    /// What follows a backslash.
    fn escaped(&mut self) -> Result<char, SyntaxFault> {
        const SHORT: [(&str, char); 7] = [
            ("b", '\u{8}'),
            ("t", '\t'),
            ("n", '\n'),
            ("f", '\u{C}'),
            ("r", '\r'),
            ("\"", '"'),
            ("\\", '\\'),
        ];
        if let Some((_, char)) = SHORT.into_iter().find(|(short, _)| self.eat(short)) {
            return Ok(char);
        }
        let digits = match () {
            () if self.eat("u") => 4,
            () if self.eat("U") => 8,
            () => 0,
        };
        let number = self.rest.get(..digits).filter(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let char = number
            .and_then(|number| u32::from_str_radix(number, 16).ok())
            .and_then(char::from_u32);
        let char = char.ok_or_else(|| {
            self.fault("after \\ comes b, t, n, f, r, \", \\, or the number of a character: \\u1234, \\U12345678")
        })?;
        self.rest = &self.rest[digits..];
        Ok(char)
    }

    /// Spaces, comments and ends of lines, as they may stand in an array.
    fn blank(&mut self) -> Result<(), SyntaxFault> {
        self.spaces();
        while self.is_at(&['#', '\n', '\r']) {
            self.line_end()?;
            self.spaces();
        }
        Ok(())
    }

    /// The rest of a line: nothing, or a comment.
    fn line_end(&mut self) -> Result<(), SyntaxFault> {
        self.spaces();
        if self.eat("#") {
            self.take_while(|char| !is_control(char));
        }
        if !self.rest.is_empty() && !self.eat("\n") && !self.eat("\r\n") {
            return Err(self.fault("only a comment can follow here, without control characters"));
        }
        self.line += 1;
        Ok(())
    }

    fn spaces(&mut self) {
        self.take_while(|char| matches!(char, ' ' | '\t'));
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !is_part(char));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn is_at(&self, chars: &[char]) -> bool {
        self.rest.starts_with(chars)
    }

    fn fault(&self, what: &'static str) -> SyntaxFault {
        SyntaxFault {
            line: self.line,
            what,
        }
    }
}

/// A decimal number as TOML has it: underscores between digits, no zero in front.
fn integer(word: &str) -> Option<i64> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    let groups = || digits.split('_');
    let is_number = groups()
        .all(|group| !group.is_empty() && group.bytes().all(|digit| digit.is_ascii_digit()));
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    (is_number && !is_padded).then(|| word.replace('_', "").parse().ok())?
}

/// What may stand in no text and no comment.
fn is_control(char: char) -> bool {
    char.is_ascii_control() && char != '\t'
}

const ROOT: &str = "";
const NO_END: &str =
    "a text ends with its quotation mark, in the same line, without control characters";

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Tables' names, keys and values.
    type Flat = Vec<(String, String, Value)>;

    /// What the toml crate reads, if all of it is of the kinds that there are here.
    fn with_toml(text: &str) -> Result<Option<Flat>, toml::de::Error> {
        let table: toml::Table = text.parse()?;
        let mut found = Some(Vec::new());
        let mut put = |name: &str, key: &str, value: &toml::Value| {
            let value = match value {
                toml::Value::String(text) => Some(Value::Text(text.clone())),
                toml::Value::Integer(number) => Some(Value::Integer(*number)),
                toml::Value::Boolean(truth) => Some(Value::Boolean(*truth)),
                toml::Value::Array(items) => {
                    let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                    texts.collect::<Option<_>>().map(Value::Texts)
                }
                _ => None,
            };
            match (value, &mut found) {
                (Some(value), Some(found)) => found.push((name.into(), key.into(), value)),
                _ => found = None,
            }
        };
        for (name, value) in &table {
            match value {
                toml::Value::Table(values) => {
                    values.iter().for_each(|(key, value)| put(name, key, value));
                }
                value => put(ROOT, name, value),
            }
        }
        Ok(found.map(|mut found| {
            found.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
            found
        }))
    }

    fn flat(tables: Tables<'_>) -> Flat {
        let flat = tables.into_iter().flat_map(|(name, values)| {
            let named = move |(key, value): (&str, Value)| (name.into(), key.into(), value);
            values.into_iter().map(named)
        });
        flat.collect()
    }

    /// Whatever is read here, the toml crate reads the same way; and nothing panics.
    fn compare(text: &str) -> bool {
        match read(text) {
            Ok(tables) => {
                let wanted = with_toml(text);
                assert_eq!(wanted, Ok(Some(flat(tables))), "{text:?}");
                true
            }
            Err(fault) => {
                assert!(fault.line <= text.split('\n').count() + 1, "{text:?}");
                false
            }
        }
    }

    #[test]
    fn what_is_read_means_what_toml_says() {
        let rows = [
            "",
            "\n\r\n \t\n# ä\t#\r\n",
            "a=1",
            "a = 1 # one\nb\t=\t-17#\nc-_9 = +1_000\n0 = 0\nd = -0",
            "[agent]\nip = \"127.0.0.2\"\r\nport = 9003",
            " [ agent ] # here\n  x = true\n[other]\nx = false\n[empty]",
            "x = 9223372036854775807\ny = -9223372036854775808",
            r#"x = "\b\t\n\f\r\"\\ \u00e4\U0001F600 # ä""#,
            r"x = 'C:\no\escape # ä' # but this",
            "x = \"\"\ny = ''\nz = \"'\"\nw = '\"'",
            "x = []\ny = [ ]\nz = [\n# one\n\"a\" # two\n\t, 'b',\r\n]",
            "x = [\"a\",\"b\"]",
            "x = ['a]', \"b,\",]",
            SAMPLE,
            KEYLIMES_FILE,
        ];
        for text in rows {
            assert!(compare(text), "{text:?}: {:?}", read(text));
        }
    }

    #[test]
    fn what_is_not_read_is_named_with_its_line() {
        let rows: [(&str, usize, &str); 39] = [
            ("[agent", 1, "ends with ]"),
            ("[agent] x = 1", 1, "only a comment"),
            ("\n[]", 2, "a name has"),
            ("\n[a.b]", 2, "no dots"),
            ("\n[[a]]", 2, "a name has"),
            ("\n['a']", 2, "no quotes"),
            ("[a]\n[b]\n[a]", 3, "already"),
            ("a = 1\n[a]", 2, "already"),
            ("[a]\nx = 1\nx = 1", 3, "already"),
            ("x", 1, "comes ="),
            ("x = ", 1, "a value is"),
            ("x = # 1", 1, "a value is"),
            ("x =\n1", 1, "a value is"),
            ("= 1", 1, "a name has"),
            ("\"x\" = 1", 1, "no quotes"),
            ("x.y = 1", 1, "no dots"),
            ("ä = 1", 1, "a name has"),
            ("x = 1.0", 1, "a value is"),
            ("x = 0x10", 1, "a value is"),
            ("x = 01", 1, "a value is"),
            ("x = 1__0", 1, "a value is"),
            ("x = _1", 1, "a value is"),
            ("x = 9223372036854775808", 1, "a value is"),
            ("x = +", 1, "a value is"),
            ("x = 1979-05-27", 1, "a value is"),
            ("x = {}", 1, "a value is"),
            ("x = True", 1, "a value is"),
            ("x = 1 2", 1, "only a comment"),
            ("x = \"a\" \"b\"", 1, "only a comment"),
            ("x = \"\"\"a\"\"\"", 1, "one line"),
            ("x = '''a'''", 1, "one line"),
            ("x = \"a\ny\"", 1, "a text ends"),
            ("x = 'a\u{7F}'", 1, "a text ends"),
            ("x = \"\\x41\"", 1, "after \\ comes"),
            ("x = \"\\uD800\"", 1, "after \\ comes"),
            ("x = \"\\u00ä0\"", 1, "after \\ comes"),
            ("x = [\n1]", 2, "holds texts"),
            ("x = [\n\"a\"\n\"b\"]", 3, "commas"),
            ("# a\rb", 1, "control characters"),
        ];
        for (text, line, what) in rows {
            let fault = read(text).unwrap_err();
            assert_eq!(fault.line, line, "{text:?}: {fault}");
            assert!(fault.what.contains(what), "{text:?}: {fault}");
        }
    }

    /// Texts with a few changes at random, always the same ones.
    #[test]
    fn changed_texts_mean_what_toml_says() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % limit
        };
        const PIECES: &[u8] = b"[]{}=\"'\\#,._-+01eTtrue\n\r\t \0\x7Fnu";
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                match below(4) {
                    0 if bytes.len() > 1 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, PIECES[below(PIECES.len())]),
                    2 => bytes[at] = PIECES[below(PIECES.len())],
                    _ => bytes.truncate(at + 1),
                }
            }
            if let Ok(text) = String::from_utf8(bytes) {
                read += usize::from(compare(&text));
            }
        }
        assert!((2_000..18_000).contains(&read), "{read} of them were read");
    }

    const SAMPLE: &str = "a = 1\n# ä\n[agent]\r\nip = \"127.0.0.1\" # here\nport = 9_002\nx = 'y'\n\
        list = [\"2.1\", 'b',\n # c\n]\non = true\noff = false\nn = -17\nt = \"\\u00e4\\n\\\"\"\n[other]\nip = ''\n";
    /// See its first lines.
    const KEYLIMES_FILE: &str = include_str!("vectors/keylime-agent-0.2.9.conf");
}
