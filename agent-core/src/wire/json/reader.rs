//! Reading a flat object as its bytes arrive.

use super::number::is_number;
use super::{Fields, JsonError, Kind, MAX_NAME_BYTES};
use crate::wire::text::hex_digit;

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

/// The longest number that is taken.
const MAX_LITERAL_BYTES: usize = 32;
