//! Where a sealed payload lies from its first byte to its opening: in memory, or in one file that the next boot goes on with.
//!
//! What lies here is ciphertext, and nobody is trusted to leave it alone: each segment is verified as it is opened, at that
//! very moment, whatever was checked before. Of a file never more than a segment is in this process's memory.

mod copy;
mod error;
mod file;

use std::path::Path;

use agent_core::payload::halves::Key;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::segment::{Binding, Segments};
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{
    DIRECTORY_BYTES, Limits, Sealed, Segmented, Summary, unpack_pieces,
};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use sha2::{Digest, Sha256};

use crate::memory::{Vault, wipe_stack};
pub use copy::{CopyFile, MAX_COPY_BYTES};
pub use error::{SpoolError, SpoolUnpackError};
use file::SpoolFile;

/// A sealed payload on its way in.
pub struct Spool {
    segments: Segments,
    have: u64,
    place: Place,
}

enum Place {
    Memory(Vault),
    File(SpoolFile),
}

impl Spool {
    /// A spool in memory, which the whole sealed payload takes. How much that may be is the caller's to say.
    ///
    /// # Errors
    /// [`SpoolError::Memory`].
    pub fn in_memory(segments: Segments) -> Result<Self, SpoolError> {
        let need = segments.sealed_bytes();
        let memory = |reason| SpoolError::Memory { need, reason };
        let bytes = usize::try_from(need).map_err(|_| memory(std::io::ErrorKind::OutOfMemory))?;
        let vault = Vault::new(bytes).map_err(|error| memory(error.kind()))?;
        Ok(Self {
            segments,
            have: 0,
            place: Place::Memory(vault),
        })
    }

    /// A spool in a file of this directory, which is made if it isn't there. What an earlier process got of the same
    /// deposit counts; what lies there of this agent's other deposits is removed.
    ///
    /// # Errors
    /// [`SpoolError::File`], [`SpoolError::Full`].
    pub fn in_directory(
        dir: &Path,
        agent: &Uuid,
        id: PayloadId,
        segments: Segments,
    ) -> Result<Self, SpoolError> {
        let (file, have) = SpoolFile::open(dir, agent, id, segments.sealed_bytes())?;
        Ok(Self {
            segments,
            have,
            place: Place::File(file),
        })
    }

    /// How many bytes are there: the next one that comes is this one.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`SpoolError::TooMuch`], and nothing is added; [`SpoolError::Full`], [`SpoolError::File`]: [`Spool::have`] tells how
    /// far it came.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let limit = self.segments.sealed_bytes();
        let have = self.have.saturating_add(u64_of(bytes.len()));
        if have > limit {
            return Err(SpoolError::TooMuch { have, limit });
        }
        match &mut self.place {
            Place::File(file) => file.write(&mut self.have, bytes),
            Place::Memory(vault) => {
                let start = usize::try_from(self.have).unwrap_or(usize::MAX);
                let room = vault.get_mut(start..).unwrap_or_default();
                for (to, from) in room.iter_mut().zip(bytes) {
                    *to = *from;
                }
                self.have = have;
                Ok(())
            }
        }
    }

    /// Whether all bytes are there and have this SHA-256. With another one nothing of them is kept.
    ///
    /// # Errors
    /// [`SpoolError::Incomplete`]; [`SpoolError::Digest`]; [`SpoolError::File`].
    pub fn check(&mut self, sha256: &[u8; 32]) -> Result<(), SpoolError> {
        self.must_be_complete()?;
        let found = match self.digest() {
            Err(SpoolError::Cut { .. }) => None,
            found => Some(found?),
        };
        if found == Some(*sha256) {
            return Ok(());
        }
        self.empty()?;
        Err(SpoolError::Digest {
            want: *sha256,
            have: found,
        })
    }

    /// Opens segment after segment, in locked memory that is wiped at the end, and unpacks them into the sink.
    ///
    /// # Errors
    /// [`SpoolUnpackError`]. What the sink received counts for nothing then.
    pub fn unpack<S: Sink>(
        &mut self,
        key: &Key,
        binding: &Binding<'_>,
        limits: &Limits,
        sink: &mut S,
    ) -> Result<Summary, SpoolUnpackError<S::Error>> {
        self.must_be_complete()?;
        let segments = self.segments;
        let longest = segments.longest();
        let plain = usize::try_from(segments.plain_bytes()).unwrap_or(usize::MAX);
        let (mut vault, mut room) = (vault(longest)?, vault(plain.min(DIRECTORY_BYTES))?);
        let mut inflater = Box::<Inflater>::default();
        let mut archive = Segmented::new(segments, key, binding, self, &mut vault);
        let unpacked = unpack_pieces(&mut archive, &mut room, limits, &mut inflater, sink);
        drop(archive);
        wipe_stack();
        unpacked.map_err(SpoolUnpackError::Unpack)
    }

    /// Removes what lies here.
    pub fn remove(self) {
        if let Place::File(file) = self.place
            && let Err(error) = file.remove()
        {
            log::warn!("{error}");
        }
    }

    fn must_be_complete(&self) -> Result<(), SpoolError> {
        let (have, need) = (self.have, self.segments.sealed_bytes());
        if have == need {
            Ok(())
        } else {
            Err(SpoolError::Incomplete { have, need })
        }
    }

    fn digest(&mut self) -> Result<[u8; 32], SpoolError> {
        let mut hash = Sha256::new();
        match &mut self.place {
            Place::Memory(vault) => hash.update(&vault[..]),
            Place::File(file) => {
                let (mut at, mut chunk) = (0, vec![0; CHUNK_BYTES]);
                while at < self.have {
                    let left = usize::try_from(self.have.saturating_sub(at)).unwrap_or(usize::MAX);
                    let now = chunk.get_mut(..left.min(CHUNK_BYTES)).unwrap_or_default();
                    file.read(at, now)?;
                    hash.update(&*now);
                    at = at.saturating_add(u64_of(now.len()));
                }
            }
        }
        Ok(hash.finalize().into())
    }

    fn empty(&mut self) -> Result<(), SpoolError> {
        self.have = 0;
        match &mut self.place {
            Place::Memory(_) => Ok(()),
            Place::File(file) => file.empty(),
        }
    }
}

impl Sealed for &mut Spool {
    type Error = SpoolError;

    fn read_at(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SpoolError> {
        match &mut self.place {
            Place::File(file) => file.read(offset, room),
            Place::Memory(vault) => {
                let cut = SpoolError::Cut { at: offset };
                let from = usize::try_from(offset).ok();
                let held = from
                    .and_then(|from| vault.get(from..)?.get(..room.len()))
                    .ok_or(cut)?;
                room.copy_from_slice(held);
                Ok(())
            }
        }
    }
}

/// Locked memory for what is opened.
fn vault(bytes: usize) -> Result<Vault, SpoolError> {
    Vault::new(bytes).map_err(|error| SpoolError::Memory {
        need: u64_of(bytes),
        reason: error.kind(),
    })
}

fn u64_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What is read at a time to be hashed.
const CHUNK_BYTES: usize = 64 * 1024;
