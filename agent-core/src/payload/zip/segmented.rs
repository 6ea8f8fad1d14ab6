//! An archive that is sealed in segments, of which one at a time lies open.

use core::fmt;

use zeroize::Zeroize;

use super::archive::Archive;
use crate::payload::halves::Key;
use crate::payload::seal::OpenError;
use crate::payload::segment::{self, Binding, Segments};

/// Where sealed bytes lie; whoever holds them may change them at any moment.
pub trait Sealed {
    /// Why bytes can't be read.
    type Error;

    /// Reads exactly as many bytes as there is room for.
    ///
    /// # Errors
    /// The store's own.
    fn read_at(&mut self, offset: u64, room: &mut [u8]) -> Result<(), Self::Error>;
}

/// A sealed payload whose segments are opened one at a time, in lent memory.
///
/// A segment is fetched as a whole, its whole tag verified, decrypted in place, and only then bytes of it are lent. It is
/// fetched and verified anew each time that another one was open in between, so nothing is ever read that wasn't
/// authenticated at that very moment. Dropped, it leaves the memory wiped.
pub struct Segmented<'a, S> {
    segments: Segments,
    key: &'a Key,
    binding: &'a Binding<'a>,
    store: S,
    vault: &'a mut [u8],
    /// The segment that lies open, and how many bytes it has.
    open: Option<(u32, usize)>,
    /// So many bytes of the vault were used.
    used: usize,
}

impl<'a, S: Sealed> Segmented<'a, S> {
    /// A sealed payload in a store. The vault has to hold the longest segment, sealed:
    /// [`SEALED_SEGMENT_BYTES`](segment::SEALED_SEGMENT_BYTES), or the whole payload if that is less.
    pub const fn new(
        segments: Segments,
        key: &'a Key,
        binding: &'a Binding<'a>,
        store: S,
        vault: &'a mut [u8],
    ) -> Self {
        Self {
            segments,
            key,
            binding,
            store,
            vault,
            open: None,
            used: 0,
        }
    }

    /// Has a segment lie open, and says how many bytes it has.
    fn load(&mut self, number: u32) -> Result<usize, SegmentError<S::Error>> {
        if let Some((_, bytes)) = self.open.filter(|(open, _)| *open == number) {
            return Ok(bytes);
        }
        self.open = None;
        let Some((start, need)) = self.segments.place(number) else {
            return Ok(0);
        };
        let have = self.vault.len();
        let room = self
            .vault
            .get_mut(..need)
            .ok_or(SegmentError::Vault { need, have })?;
        self.used = self.used.max(need);
        self.store
            .read_at(start, room)
            .map_err(SegmentError::Store)?;
        let opened = segment::open(self.key, self.binding, number, room)
            .map_err(|error| SegmentError::Seal { number, error })?;
        let bytes = opened.len();
        self.open = Some((number, bytes));
        Ok(bytes)
    }
}

impl<S: Sealed> Archive for Segmented<'_, S> {
    type Error = SegmentError<S::Error>;

    fn size(&self) -> u64 {
        self.segments.plain_bytes()
    }

    fn piece(&mut self, at: u64) -> Result<&[u8], Self::Error> {
        let Some((number, offset)) = self.segments.holding(at) else {
            return Ok(&[]);
        };
        let bytes = self.load(number)?;
        Ok(self.vault.get(offset..bytes).unwrap_or_default())
    }
}

impl<S> Drop for Segmented<'_, S> {
    fn drop(&mut self) {
        if let Some(used) = self.vault.get_mut(..self.used) {
            used.zeroize();
        }
    }
}

/// Why a segment can't be read; `E` is the store's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentError<E> {
    /// It can't be fetched.
    Store(E),
    /// It doesn't open.
    Seal {
        /// Which one, from 0.
        number: u32,
        /// Why not.
        error: OpenError,
    },
    /// The lent memory doesn't hold it.
    Vault {
        /// Its sealed bytes.
        need: usize,
        /// What was lent.
        have: usize,
    },
}

impl<E: fmt::Display> fmt::Display for SegmentError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Seal { number, error } => write!(f, "segment {number}: {error}"),
            Self::Vault { need, have } => {
                write!(f, "a segment takes {need} bytes of memory, {have} are lent")
            }
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for SegmentError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Seal { error, .. } => Some(error),
            Self::Vault { .. } => None,
        }
    }
}
