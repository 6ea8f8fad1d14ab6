//! Where an archive's bytes come from: one piece of memory, or pieces that are fetched as they are wanted.

use core::convert::Infallible;

/// An archive that is read at any place, a piece at a time.
///
/// What a piece says counts for that moment only: the reader asks again, and whoever lends pieces vouches for each anew.
pub trait Archive {
    /// Why a piece can't be had.
    type Error;

    /// All bytes of the archive.
    fn size(&self) -> u64;

    /// The bytes from `at` on, as many as are at hand, at least one; none if `at` isn't before the end.
    ///
    /// # Errors
    /// The source's own.
    fn piece(&mut self, at: u64) -> Result<&[u8], Self::Error>;
}

/// An archive in one piece of memory.
pub(super) struct InMemory<'a>(pub(super) &'a [u8]);

impl Archive for InMemory<'_> {
    type Error = Infallible;

    fn size(&self) -> u64 {
        u64_of(self.0.len())
    }

    fn piece(&mut self, at: u64) -> Result<&[u8], Infallible> {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..));
        Ok(rest.unwrap_or_default())
    }
}

/// No target has a `usize` beyond 64 bits.
pub(super) fn u64_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// For sizes that are told: what memory can't hold is as good as the most.
pub(super) fn usize_of(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
