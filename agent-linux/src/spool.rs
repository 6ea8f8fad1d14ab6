//! Where the sealed bytes of a payload wait until they are opened.

use std::fmt;
use std::path::Path;

use agent_core::payload::halves::Key;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::segment::{self, Binding, Segments};
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{self, Limits, Summary, UnpackError};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Sealed bytes, as far as they have come.
pub struct Spool {
    segments: Segments,
    bytes: Vec<u8>,
}

/// Why sealed bytes can't be kept.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolError {
    /// More came than there are.
    TooMany,
    /// They don't fit their digest.
    Digest,
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "more sealed bytes came than there are",
            Self::Digest => "the sealed bytes don't fit their digest",
        })
    }
}

impl std::error::Error for SpoolError {}

/// Why sealed bytes don't become files.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolUnpackError<E> {
    /// A segment doesn't open.
    Segment {
        /// Which.
        number: u32,
    },
    /// The archive.
    Unpack(UnpackError<E>),
}

impl<E: fmt::Display> fmt::Display for SpoolUnpackError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { number } => write!(f, "segment {number} doesn't open"),
            Self::Unpack(error) => error.fmt(f),
        }
    }
}

impl Spool {
    /// Keeps them in memory.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn in_memory(segments: Segments) -> Result<Self, SpoolError> {
        Ok(Self {
            segments,
            bytes: Vec::new(),
        })
    }

    /// Keeps them in a directory, and goes on with what is there.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn in_directory(
        _dir: &Path,
        _agent: &Uuid,
        _id: PayloadId,
        segments: Segments,
    ) -> Result<Self, SpoolError> {
        Self::in_memory(segments)
    }

    /// How many have come.
    #[must_use]
    pub fn have(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// Takes the next.
    ///
    /// # Errors
    /// [`SpoolError::TooMany`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.have().saturating_add(more) > self.segments.sealed_bytes() {
            return Err(SpoolError::TooMany);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether they fit their digest.
    ///
    /// # Errors
    /// [`SpoolError::Digest`].
    pub fn check(&mut self, sha256: &[u8; 32]) -> Result<(), SpoolError> {
        match <[u8; 32]>::from(Sha256::digest(&self.bytes)) == *sha256 {
            true => Ok(()),
            false => Err(SpoolError::Digest),
        }
    }

    /// Opens and unpacks them.
    ///
    /// # Errors
    /// [`SpoolUnpackError`].
    pub fn unpack<S: Sink>(
        &mut self,
        key: &Key,
        binding: &Binding<'_>,
        limits: &Limits,
        sink: &mut S,
    ) -> Result<Summary, SpoolUnpackError<S::Error>> {
        let mut archive = Zeroizing::new(Vec::new());
        for (number, sealed) in (0..).zip(self.bytes.chunks_mut(segment::SEALED_SEGMENT_BYTES)) {
            let plain = segment::open(key, binding, number, sealed)
                .map_err(|_| SpoolUnpackError::Segment { number })?;
            archive.extend_from_slice(plain);
        }
        let mut inflater = Box::<Inflater>::default();
        zip::unpack(&archive, limits, &mut inflater, sink).map_err(SpoolUnpackError::Unpack)
    }

    /// Throws them away.
    pub fn remove(self) {}
}
