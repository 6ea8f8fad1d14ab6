//! Why an archive can't be read.

use std::io;

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It can't be read or unpacked.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is packed in a way that isn't unpacked here.
    #[error(
        "it is packed with {with}, which isn't unpacked here: `{tool}` does it, and --tree or --initrd takes what comes out"
    )]
    Packed {
        /// The format.
        with: &'static str,
        /// What unpacks it.
        tool: &'static str,
    },
    /// Something else than was expected.
    #[error("at byte {offset} it has no {what}")]
    Expected {
        /// What should be there.
        what: &'static str,
        /// Where, in what it unpacks to.
        offset: u64,
    },
    /// A number that isn't one.
    #[error("at byte {offset} the {field} is no number")]
    Number {
        /// Which one.
        field: &'static str,
        /// Where, in what it unpacks to.
        offset: u64,
    },
    /// A name that is longer than names are.
    #[error("at byte {offset} a name has {have} bytes, and names have up to {limit}")]
    Name {
        /// Where, in what it unpacks to.
        offset: u64,
        /// Its length.
        have: u64,
        /// The limit.
        limit: usize,
    },
    /// It has no part that a package has.
    #[error("it has no {0}")]
    Missing(&'static str),
}
