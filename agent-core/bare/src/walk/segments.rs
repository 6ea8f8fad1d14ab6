//! The payload once more, sealed in short segments.

use agent_core::payload::seal::TAG_BYTES;
use agent_core::payload::segment::{self, Binding, Segments};
use agent_core::payload::zip::{
    Limits, Sealed, SegmentError, Segmented, Summary, UnpackError, unpack_pieces,
};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;

use super::files::{self, Files, Unexpected};
use crate::world::{SEGMENT_BYTES, UUID, World, halves, put};

pub fn seal(world: &mut World<'_>) -> Option<()> {
    let (_, _, key) = halves()?;
    let agent = Uuid::parse(UUID)?;
    let segments = segments()?;
    let binding = binding(&agent, segments);
    world.sealed.clear();
    for (number, plain) in (0..).zip(files::ARCHIVE.chunks(SEGMENT_BYTES)) {
        let body = world.vault.get_mut(..plain.len())?;
        body.iter_mut()
            .zip(plain)
            .for_each(|(to, from)| *to = *from);
        let tag = segment::seal(&key, &binding, number, body).ok()?;
        world.sealed.extend_from_slice(body).ok()?;
        world.sealed.extend_from_slice(&tag).ok()?;
    }
    (u64::try_from(world.sealed.len()) == Ok(segments.sealed_bytes())).then_some(())
}

pub fn unpack(world: &mut World<'_>) -> Option<()> {
    let mut files = Files::default();
    let summary = unpack_sealed(world, &mut files).ok()?;
    (files.are_all() && (summary.files, summary.directories) == (2, 1)).then_some(())
}

pub fn unpack_tampered(world: &mut World<'_>) -> Option<()> {
    *world.sealed.get_mut(SEGMENT_BYTES)? ^= 1;
    let error = unpack_sealed(world, &mut Files::default()).err()?;
    put(&mut world.body, &error)?;
    let is_wiped = world.vault.iter().chain(&world.room).all(|byte| *byte == 0);
    match error {
        UnpackError::Source(SegmentError::Seal { .. }) => is_wiped.then_some(()),
        _ => None,
    }
}

type Unpacked = Result<Summary, UnpackError<Unexpected, SegmentError<Cut>>>;

fn unpack_sealed(world: &mut World<'_>, files: &mut Files) -> Unpacked {
    let (Some((_, _, key)), Some(agent), Some(segments)) =
        (halves(), Uuid::parse(UUID), segments())
    else {
        return Err(UnpackError::NotAnArchive);
    };
    let binding = binding(&agent, segments);
    let store = Stored(&world.sealed);
    let mut archive = Segmented::new(segments, &key, &binding, store, &mut world.vault);
    let (room, inflater) = (&mut world.room, &mut world.inflater);
    unpack_pieces(&mut archive, room, &Limits::default(), inflater, files)
}

fn segments() -> Option<Segments> {
    let count = files::ARCHIVE.len().div_ceil(SEGMENT_BYTES);
    let sealed = count
        .checked_mul(TAG_BYTES)?
        .checked_add(files::ARCHIVE.len())?;
    Segments::of_size(SEGMENT_BYTES, u64::try_from(sealed).ok()?)
}

fn binding(agent: &Uuid, segments: Segments) -> Binding<'_> {
    Binding {
        agent,
        payload_id: PayloadId([1; 8]),
        count: segments.count(),
    }
}

/// Segments in memory.
struct Stored<'a>(&'a [u8]);

/// There are no such bytes.
struct Cut;

impl core::fmt::Display for Cut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("cut")
    }
}

impl Sealed for Stored<'_> {
    type Error = Cut;

    fn read_at(&mut self, offset: u64, room: &mut [u8]) -> Result<(), Cut> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..));
        let from = from.and_then(|from| from.get(..room.len())).ok_or(Cut)?;
        room.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}
