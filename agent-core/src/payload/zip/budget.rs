//! What an archive may cost, and what it does.

use super::entry::{Entry, Kind};
use super::fault::ArchiveFault;
use crate::wire::limits;

/// What an archive may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files and directories; more than [`limits::MAX_ENTRIES`] are never taken.
    pub entries: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of all files for each byte of the archive, beyond [`limits::RATIO_FREE_BYTES`].
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: limits::MAX_ENTRIES,
            bytes: limits::MAX_UNPACKED_BYTES,
            ratio: limits::MAX_RATIO,
        }
    }
}

impl Limits {
    /// Whether so many entries may be announced, and how many that is.
    pub(super) fn entries(&self, announced: u64) -> Result<usize, ArchiveFault> {
        let limit = self.entries.min(limits::MAX_ENTRIES);
        usize::try_from(announced)
            .ok()
            .filter(|announced| *announced <= limit)
            .ok_or(ArchiveFault::TooMany {
                have: announced,
                limit,
            })
    }

    /// Whether the files that were counted so far fit.
    pub(super) const fn bytes(&self, so_far: &Summary) -> Result<(), ArchiveFault> {
        let (have, limit) = (so_far.bytes, self.bytes);
        if have > limit {
            Err(ArchiveFault::TooLarge { have, limit })
        } else {
            Ok(())
        }
    }

    /// Whether an archive of this size may hold all that.
    pub(super) const fn ratio(&self, packed: u64, whole: &Summary) -> Result<(), ArchiveFault> {
        let limit = packed
            .saturating_mul(self.ratio)
            .saturating_add(limits::RATIO_FREE_BYTES);
        let have = whole.bytes;
        if have > limit {
            Err(ArchiveFault::Bomb { have, limit })
        } else {
            Ok(())
        }
    }
}

/// What an archive held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files.
    pub files: usize,
    /// Directories that have an entry of their own.
    pub directories: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Summary {
    pub(super) const fn count(&mut self, entry: &Entry<'_>) {
        match entry.kind {
            Kind::File => self.files = self.files.saturating_add(1),
            Kind::Directory => self.directories = self.directories.saturating_add(1),
        }
        self.bytes = self.bytes.saturating_add(entry.size);
    }

    /// Files and directories.
    pub(super) const fn entries(&self) -> usize {
        self.files.saturating_add(self.directories)
    }
}
