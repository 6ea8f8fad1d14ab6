//! Writing objects piece by piece.

use core::fmt::{self, Display, Write};

use heapless::string::StringView;

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

    /// A member with an array.
    ///
    /// # Errors
    /// The writer's.
    pub fn array(&mut self, name: &str) -> Result<ArrayWriter<'_, W>, fmt::Error> {
        self.name(name)?;
        ArrayWriter::begin(self.out)
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

/// Writes an array, value by value.
///
/// Every error is the writer's: no room.
pub struct ArrayWriter<'w, W: Write + ?Sized> {
    out: &'w mut W,
    empty: bool,
}

impl<'w, W: Write + ?Sized> ArrayWriter<'w, W> {
    fn begin(out: &'w mut W) -> Result<Self, fmt::Error> {
        out.write_char('[')?;
        Ok(Self { out, empty: true })
    }

    /// An object.
    ///
    /// # Errors
    /// The writer's.
    pub fn object(&mut self) -> Result<ObjectWriter<'_, W>, fmt::Error> {
        self.separate()?;
        ObjectWriter::begin(self.out)
    }

    /// An integer.
    ///
    /// # Errors
    /// The writer's.
    pub fn number(&mut self, value: impl Into<i128>) -> fmt::Result {
        self.separate()?;
        write!(self.out, "{}", value.into())
    }

    /// Ends the array.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(self) -> fmt::Result {
        self.out.write_char(']')
    }

    fn separate(&mut self) -> fmt::Result {
        if !core::mem::take(&mut self.empty) {
            self.out.write_char(',')?;
        }
        Ok(())
    }
}

impl ArrayWriter<'_, StringView> {
    /// An object, if it can be written and so many bytes are left then; otherwise the array is as it was. Whether it is there.
    pub(crate) fn object_if_fits(
        &mut self,
        spare: usize,
        members: impl FnOnce(&mut ObjectWriter<'_, StringView>) -> fmt::Result,
    ) -> bool {
        let (length, empty) = (self.out.len(), self.empty);
        let written = self.object().and_then(|mut object| {
            members(&mut object)?;
            object.end()
        });
        let left = self.out.capacity().saturating_sub(self.out.len());
        let fits = written.is_ok() && left >= spare;
        if !fits {
            // Letter by letter: cutting it at once could panic between two bytes of one.
            while self.out.len() > length && self.out.pop().is_some() {}
            self.empty = empty;
        }
        fits
    }
}

fn write_string<W: Write + ?Sized>(out: &mut W, value: impl Display) -> fmt::Result {
    out.write_char('"')?;
    write!(Escaper(out), "{value}")?;
    out.write_char('"')
}

/// Escapes what is written through it.
pub(crate) struct Escaper<'w, W: Write + ?Sized>(pub(crate) &'w mut W);

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
