//! JSON as far as the agent needs it: a flat object read as its bytes arrive, a nested one that is in memory, and objects
//! written piece by piece.

mod document;
mod number;
mod reader;
mod writer;

pub use document::{DocumentError, MAX_DEPTH, Value};
pub use reader::ObjectReader;
pub(crate) use writer::Escaper;
pub use writer::{ArrayWriter, ObjectWriter};

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

#[cfg(test)]
mod tests;
