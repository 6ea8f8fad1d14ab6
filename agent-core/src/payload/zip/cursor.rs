//! Reading what stands beside an entry's content, wherever the pieces meet.

use super::archive::{Archive, u64_of, usize_of};
use super::fault::EntryFault;
use crate::wire::bytes::Truncated;

/// A part of an archive, read from its start to its end; every read is checked.
pub(super) struct Cursor<'a, A> {
    archive: &'a mut A,
    at: u64,
    end: u64,
}

/// Why something can't be read: what stands there, or whoever had to lend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread<E> {
    Fault(EntryFault),
    Source(E),
}

impl<E> From<EntryFault> for Unread<E> {
    fn from(fault: EntryFault) -> Self {
        Self::Fault(fault)
    }
}

impl<E> From<Truncated> for Unread<E> {
    fn from(truncated: Truncated) -> Self {
        Self::Fault(truncated.into())
    }
}

impl<'a, A: Archive> Cursor<'a, A> {
    /// The archive from `at` up to `end`.
    pub(super) const fn new(archive: &'a mut A, at: u64, end: u64) -> Self {
        Self { archive, at, end }
    }

    /// Another part of the same archive.
    pub(super) const fn part(&mut self, at: u64, end: u64) -> Cursor<'_, A> {
        Cursor::new(self.archive, at, end)
    }

    /// Where the next byte stands in the archive.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Goes back to a place where this cursor has been.
    pub(super) const fn back_to(&mut self, at: u64) {
        self.at = at;
    }

    /// Bytes that haven't been read yet.
    pub(super) const fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Passes over bytes without reading them.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Truncated> {
        let left = self.left();
        if left < bytes {
            return Err(truncated(bytes, left));
        }
        self.at = self.at.saturating_add(bytes);
        Ok(())
    }

    /// Reads as many bytes as there is room for.
    pub(super) fn fill(&mut self, mut room: &mut [u8]) -> Result<(), Unread<A::Error>> {
        let (need, left) = (u64_of(room.len()), self.left());
        if left < need {
            return Err(truncated(need, left).into());
        }
        while !room.is_empty() {
            let piece = self.archive.piece(self.at).map_err(Unread::Source)?;
            if piece.is_empty() {
                return Err(truncated(u64_of(room.len()), 0).into());
            }
            let bytes = piece.len().min(room.len());
            let (now, later) = room.split_at_mut_checked(bytes).unwrap_or_default();
            now.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            self.at = self.at.saturating_add(u64_of(bytes));
            room = later;
        }
        Ok(())
    }

    /// Hands over the next bytes piece by piece.
    pub(super) fn each<E: From<Unread<A::Error>>>(
        &mut self,
        bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = bytes;
        while left > 0 {
            let piece = self.archive.piece(self.at).map_err(Unread::Source)?;
            let wanted = piece.len().min(usize_of(left));
            let Some(now) = piece.get(..wanted).filter(|_| wanted > 0) else {
                return Err(Unread::from(truncated(left, 0)).into());
            };
            take(now)?;
            left = left.saturating_sub(u64_of(wanted));
            self.at = self.at.saturating_add(u64_of(wanted));
        }
        Ok(())
    }

    /// Whether all that is left is this; reads as far as it is.
    pub(super) fn is(&mut self, mut wanted: &[u8]) -> Result<bool, Unread<A::Error>> {
        if self.left() != u64_of(wanted.len()) {
            return Ok(false);
        }
        while !wanted.is_empty() {
            let piece = self.archive.piece(self.at).map_err(Unread::Source)?;
            let bytes = piece.len().min(wanted.len());
            let (Some(have), Some((now, later))) =
                (piece.get(..bytes), wanted.split_at_checked(bytes))
            else {
                return Ok(false);
            };
            if bytes == 0 || have != now {
                return Ok(false);
            }
            self.at = self.at.saturating_add(u64_of(bytes));
            wanted = later;
        }
        Ok(true)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unread<A::Error>> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    pub(super) fn u16_le(&mut self) -> Result<u16, Unread<A::Error>> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32_le(&mut self) -> Result<u32, Unread<A::Error>> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64_le(&mut self) -> Result<u64, Unread<A::Error>> {
        self.array().map(u64::from_le_bytes)
    }
}

fn truncated(need: u64, have: u64) -> Truncated {
    Truncated {
        need: usize_of(need),
        have: usize_of(have),
    }
}
