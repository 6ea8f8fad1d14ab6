//! JSON as far as the agent needs it: a flat object read as its bytes arrive, and objects written piece by piece.

use core::fmt::{self, Display, Write};

use super::text::hex_digit;

/// The longest name of a member.
pub const MAX_NAME_BYTES: usize = 64;

/// Receives the members of an object in the order in which they come.
pub trait Fields {
    /// What can be wrong with a value.
    type Error;

    /// A member begins; its name is unescaped.
    ///
    /// # Errors
    /// The receiver's own: a name that came before.
    fn begin(&mut self, name: &str) -> Result<(), Self::Error>;

    /// The next bytes of the member's string, unescaped; whether they are UTF-8 is for the receiver to check.
    ///
    /// # Errors
    /// The receiver's own: a value that is too long, or not what it should be.
    fn text(&mut self, piece: &[u8]) -> Result<(), Self::Error>;

    /// The member ends.
    ///
    /// # Errors
    /// The receiver's own: a value of the wrong kind.
    fn end(&mut self, kind: Kind) -> Result<(), Self::Error>;
}

/// What kind of value a member had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string, maybe empty.
    Text,
    /// `null`.
    Null,
    /// A number, `true` or `false`.
    Other,
}

/// Why bytes are no flat object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError<E> {
    /// The byte at this offset can't stand there.
    Syntax {
        /// Offset from the object's first byte.
        offset: u64,
    },
    /// A value is an array or an object.
    Nested,
    /// A name is longer than [`MAX_NAME_BYTES`], or no UTF-8.
    Name,
    /// The bytes end before the object does.
    Unfinished,
    /// The receiver refuses a value.
    Field(E),
}

/// Reads one flat object, in pieces of any size.
///
/// After an error the reader and what its receiver has got must be thrown away.
#[derive(Clone, Debug, Default)]
pub struct ObjectReader {
    state: State,
    string: StringState,
    name: heapless::Vec<u8, MAX_NAME_BYTES>,
    literal: heapless::Vec<u8, MAX_LITERAL_BYTES>,
    offset: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    FirstName,
    NextName,
    Name,
    Colon,
    Value,
    Text,
    Literal,
    AfterValue,
    Done,
}

/// Where in a string the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StringState {
    #[default]
    Plain,
    Backslash,
    /// Digits of `\uXXXX` so far; `high` is the first half of a surrogate pair.
    Unicode {
        digits: u8,
        value: u16,
        high: Option<u16>,
    },
    /// The second half of a pair has to follow.
    LowBackslash {
        high: u16,
    },
    LowU {
        high: u16,
    },
}

impl ObjectReader {
    /// A reader before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// [`JsonError`]: they don't continue a flat object, or `fields` refuses a value.
    pub fn feed<F: Fields>(
        &mut self,
        chunk: &[u8],
        fields: &mut F,
    ) -> Result<(), JsonError<F::Error>> {
        let mut rest = chunk;
        while let Some((byte, after)) = rest.split_first() {
            let plain = self.plain_run(rest);
            if plain.is_empty() {
                self.step(*byte, fields)?;
                self.offset = self.offset.saturating_add(1);
                rest = after;
            } else {
                fields.text(plain).map_err(JsonError::Field)?;
                let length = u64::try_from(plain.len()).unwrap_or(u64::MAX);
                self.offset = self.offset.saturating_add(length);
                rest = rest.get(plain.len()..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// The bytes have ended.
    ///
    /// # Errors
    /// [`JsonError::Unfinished`].
    pub fn finish<E>(self) -> Result<(), JsonError<E>> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(JsonError::Unfinished),
        }
    }

    /// The bytes that go to the receiver as they stand.
    fn plain_run<'c>(&self, bytes: &'c [u8]) -> &'c [u8] {
        if (self.state, self.string) != (State::Text, StringState::Plain) {
            return &[];
        }
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let length = bytes.iter().position(special).unwrap_or(bytes.len());
        bytes.get(..length).unwrap_or_default()
    }

    fn step<F: Fields>(&mut self, byte: u8, fields: &mut F) -> Result<(), JsonError<F::Error>> {
        match self.state {
            State::Name | State::Text => return self.step_string(byte, fields),
            State::Literal => return self.step_literal(byte, fields),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => return Ok(()),
            _ => {}
        }
        self.state = match (self.state, byte) {
            (State::Start, b'{') => State::FirstName,
            (State::FirstName | State::NextName, b'"') => {
                self.name.clear();
                State::Name
            }
            (State::FirstName | State::AfterValue, b'}') => State::Done,
            (State::Colon, b':') => State::Value,
            (State::Value, b'"') => State::Text,
            (State::Value, b'{' | b'[') => return Err(JsonError::Nested),
            (State::Value, _) => {
                self.literal.clear();
                self.state = State::Literal;
                return self.step_literal(byte, fields);
            }
            (State::AfterValue, b',') => State::NextName,
            _ => return Err(self.syntax()),
        };
        Ok(())
    }

    fn step_literal<F: Fields>(
        &mut self,
        byte: u8,
        fields: &mut F,
    ) -> Result<(), JsonError<F::Error>> {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') {
            return self.literal.push(byte).map_err(|_| self.syntax());
        }
        let kind = match self.literal.as_slice() {
            b"null" => Kind::Null,
            b"true" | b"false" => Kind::Other,
            number if is_number(number) => Kind::Other,
            _ => return Err(self.syntax()),
        };
        fields.end(kind).map_err(JsonError::Field)?;
        self.state = State::AfterValue;
        self.step(byte, fields)
    }

    fn step_string<F: Fields>(
        &mut self,
        byte: u8,
        fields: &mut F,
    ) -> Result<(), JsonError<F::Error>> {
        self.string = match (self.string, byte) {
            (StringState::Plain, b'"') => return self.end_string(fields),
            (StringState::Plain, b'\\') => StringState::Backslash,
            (StringState::Plain, 0x20..) => {
                self.put(&[byte], fields)?;
                StringState::Plain
            }
            (StringState::Backslash, b'u') => StringState::Unicode {
                digits: 0,
                value: 0,
                high: None,
            },
            (StringState::Backslash, _) => {
                let unescaped = unescape(byte).ok_or_else(|| self.syntax())?;
                self.put(&[unescaped], fields)?;
                StringState::Plain
            }
            (
                StringState::Unicode {
                    digits,
                    value,
                    high,
                },
                _,
            ) => {
                let digit = hex_digit(byte).ok_or_else(|| self.syntax())?;
                let value = value << 4 | u16::from(digit);
                if digits < 3 {
                    StringState::Unicode {
                        digits: digits.saturating_add(1),
                        value,
                        high,
                    }
                } else {
                    self.unicode(value, high, fields)?
                }
            }
            (StringState::LowBackslash { high }, b'\\') => StringState::LowU { high },
            (StringState::LowU { high }, b'u') => StringState::Unicode {
                digits: 0,
                value: 0,
                high: Some(high),
            },
            _ => return Err(self.syntax()),
        };
        Ok(())
    }

    /// Four digits of `\uXXXX` are there.
    fn unicode<F: Fields>(
        &mut self,
        value: u16,
        high: Option<u16>,
        fields: &mut F,
    ) -> Result<StringState, JsonError<F::Error>> {
        if high.is_none() && matches!(value, 0xD800..0xDC00) {
            return Ok(StringState::LowBackslash { high: value });
        }
        let units = high.into_iter().chain(core::iter::once(value));
        for unit in char::decode_utf16(units) {
            let letter = unit.map_err(|_| self.syntax())?;
            self.put(letter.encode_utf8(&mut [0; 4]).as_bytes(), fields)?;
        }
        Ok(StringState::Plain)
    }

    fn put<F: Fields>(&mut self, piece: &[u8], fields: &mut F) -> Result<(), JsonError<F::Error>> {
        if self.state == State::Name {
            self.name
                .extend_from_slice(piece)
                .map_err(|_| JsonError::Name)
        } else {
            fields.text(piece).map_err(JsonError::Field)
        }
    }

    fn end_string<F: Fields>(&mut self, fields: &mut F) -> Result<(), JsonError<F::Error>> {
        if self.state == State::Name {
            let name = core::str::from_utf8(&self.name).map_err(|_| JsonError::Name)?;
            fields.begin(name).map_err(JsonError::Field)?;
            self.state = State::Colon;
        } else {
            fields.end(Kind::Text).map_err(JsonError::Field)?;
            self.state = State::AfterValue;
        }
        Ok(())
    }

    const fn syntax<E>(&self) -> JsonError<E> {
        JsonError::Syntax {
            offset: self.offset,
        }
    }
}

const fn unescape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

fn is_number(literal: &[u8]) -> bool {
    // Rust's grammar is wider in "inf" and "nan" (no digit first) and "1." (harmless: no number is used here).
    let digit_first = matches!(literal, [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..]);
    let text = core::str::from_utf8(literal).unwrap_or_default();
    digit_first && text.parse::<f64>().is_ok()
}

/// The longest number that is taken.
const MAX_LITERAL_BYTES: usize = 32;

/// Writes an object, member by member.
///
/// Every error is the writer's: no room.
pub struct ObjectWriter<'w, W: Write + ?Sized> {
    out: &'w mut W,
    empty: bool,
}

impl<'w, W: Write + ?Sized> ObjectWriter<'w, W> {
    /// Begins an object.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(out: &'w mut W) -> Result<Self, fmt::Error> {
        out.write_char('{')?;
        Ok(Self { out, empty: true })
    }

    /// A member with a string.
    ///
    /// # Errors
    /// The writer's.
    pub fn text(&mut self, name: &str, value: impl Display) -> fmt::Result {
        self.name(name)?;
        write_string(self.out, value)
    }

    /// A member with a string, or `null`.
    ///
    /// # Errors
    /// The writer's.
    pub fn text_or_null(&mut self, name: &str, value: Option<impl Display>) -> fmt::Result {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    /// A member with an integer.
    ///
    /// # Errors
    /// The writer's.
    pub fn number(&mut self, name: &str, value: impl Into<i128>) -> fmt::Result {
        self.name(name)?;
        write!(self.out, "{}", value.into())
    }

    /// A member with `true` or `false`.
    ///
    /// # Errors
    /// The writer's.
    pub fn flag(&mut self, name: &str, value: bool) -> fmt::Result {
        self.name(name)?;
        write!(self.out, "{value}")
    }

    /// A member with `null`.
    ///
    /// # Errors
    /// The writer's.
    pub fn null(&mut self, name: &str) -> fmt::Result {
        self.name(name)?;
        self.out.write_str("null")
    }

    /// A member with an array of strings.
    ///
    /// # Errors
    /// The writer's.
    pub fn texts(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = impl Display>,
    ) -> fmt::Result {
        self.name(name)?;
        self.out.write_char('[')?;
        for (n, value) in values.into_iter().enumerate() {
            if n > 0 {
                self.out.write_char(',')?;
            }
            write_string(self.out, value)?;
        }
        self.out.write_char(']')
    }

    /// A member with an object.
    ///
    /// # Errors
    /// The writer's.
    pub fn object(&mut self, name: &str) -> Result<ObjectWriter<'_, W>, fmt::Error> {
        self.name(name)?;
        ObjectWriter::begin(self.out)
    }

    /// Ends the object.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(self) -> fmt::Result {
        self.out.write_char('}')
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if !core::mem::take(&mut self.empty) {
            self.out.write_char(',')?;
        }
        write_string(self.out, name)?;
        self.out.write_char(':')
    }
}

fn write_string<W: Write + ?Sized>(out: &mut W, value: impl Display) -> fmt::Result {
    out.write_char('"')?;
    write!(Escaper(out), "{value}")?;
    out.write_char('"')
}

/// Escapes what is written through it.
struct Escaper<'w, W: Write + ?Sized>(&'w mut W);

impl<W: Write + ?Sized> Write for Escaper<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let special = |letter: char| matches!(letter, '"' | '\\' | '\0'..' ' | '\x7F');
        for piece in text.split_inclusive(special) {
            let last = piece.chars().next_back().filter(|letter| special(*letter));
            let plain = piece.strip_suffix(special).unwrap_or(piece);
            self.0.write_str(plain)?;
            match last {
                None => {}
                Some('\n') => self.0.write_str("\\n")?,
                Some(letter @ ('"' | '\\')) => write!(self.0, "\\{letter}")?,
                Some(letter) => write!(self.0, "\\u{:04x}", u32::from(letter))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
