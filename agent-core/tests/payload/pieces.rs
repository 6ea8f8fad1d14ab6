//! Archives that come in pieces, plain or sealed, so short that everything straddles several.

use std::convert::Infallible;

use agent_core::payload::halves::Key;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::segment::{Binding, Segments, seal};
use agent_core::payload::zip::{
    Archive, DIRECTORY_BYTES, Limits, Sealed, SegmentError, Segmented, Summary, UnpackError,
    unpack_pieces,
};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;

use crate::recording::{Event, Recording, Refused, unpack_whole};

/// Plain pieces of so many bytes.
struct Chunked<'a>(&'a [u8], usize);

impl Archive for Chunked<'_> {
    type Error = Infallible;

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn piece(&mut self, at: u64) -> Result<&[u8], Infallible> {
        let (at, Self(bytes, size)) = (at as usize, self);
        let end = (at / *size + 1) * *size;
        Ok(bytes.get(at..end.min(bytes.len())).unwrap_or_default())
    }
}

/// What an archive gives under the default limits, and what the sink saw: in one piece, and the same in short ones, plain and
/// sealed.
pub(crate) fn unpack_all(archive: &[u8]) -> (Result<Summary, UnpackError<Refused>>, Vec<Event>) {
    let (result, events) = unpack_whole(archive);
    let bytes = archive.len();
    for size in [1, 7, 61, 4099].map(|size| size.max(bytes >> 14)) {
        let have = unpack_chunked(archive, size);
        assert_same(&format!("pieces of {size}"), have, (&result, &events));
    }
    // An empty payload is never sealed. Large ones take their time.
    for size in [bytes / 11 + 1, bytes / 40 + 1] {
        if bytes == 0 || size > 4096 && size < bytes / 11 {
            continue;
        }
        let have = unpack_sealed(archive, size);
        assert_same(&format!("segments of {size}"), have, (&result, &events));
    }
    (result, events)
}

/// What an archive gives in plain pieces.
pub(crate) fn unpack_chunked(
    archive: &[u8],
    size: usize,
) -> (Result<Summary, UnpackError<Refused>>, Vec<Event>) {
    let mut sink = Recording::default();
    let result = unpack_pieces(
        &mut Chunked(archive, size),
        &mut vec![0; DIRECTORY_BYTES],
        &Limits::default(),
        &mut Inflater::new(),
        &mut sink,
    );
    (result, sink.events)
}

/// The same outcome, and the same events but for how much of a broken file came before its fault was seen.
pub(crate) fn assert_same<A: std::fmt::Debug + PartialEq>(
    way: &str,
    have: (A, Vec<Event>),
    want: (&A, &[Event]),
) {
    assert_eq!(have.0, *want.0, "{way}");
    assert_eq!(have.1.len(), want.1.len(), "{way}");
    for (have, want) in have.1.iter().zip(want.1) {
        match (have, want) {
            (Event::File(a, b, c, _, false), Event::File(d, e, f, _, false)) => {
                assert_eq!((a, b, c), (d, e, f), "{way}");
            }
            (have, want) => assert!(have == want, "{way}: {have:?}, and not {want:?}"),
        }
    }
}

/// Who a sealed payload is for.
pub(crate) struct Deposit {
    pub(crate) key: Key,
    pub(crate) agent: Uuid,
    pub(crate) id: PayloadId,
}

impl Deposit {
    pub(crate) fn new(key: u8) -> Self {
        Self {
            key: Key::from_slice(&[key; 32]).unwrap(),
            agent: Uuid::parse("node").unwrap(),
            id: PayloadId([key; 8]),
        }
    }

    pub(crate) fn binding(&self, segments: Segments) -> Binding<'_> {
        Binding {
            agent: &self.agent,
            payload_id: self.id,
            count: segments.count(),
        }
    }

    /// Seals an archive in segments of so many bytes.
    pub(crate) fn seal(&self, archive: &[u8], segment_bytes: usize) -> (Vec<u8>, Segments) {
        let tags = archive.len().div_ceil(segment_bytes) * 16;
        let segments = Segments::of_size(segment_bytes, (archive.len() + tags) as u64).unwrap();
        let mut sealed = Vec::new();
        for (number, plain) in archive.chunks(segment_bytes).enumerate() {
            let mut body = plain.to_vec();
            let binding = self.binding(segments);
            let tag = seal(&self.key, &binding, number as u32, &mut body).unwrap();
            sealed.extend(body);
            sealed.extend(tag);
        }
        (sealed, segments)
    }

    /// What a sealed payload gives from a store, and what the sink saw.
    pub(crate) fn unpack<S: Sealed>(
        &self,
        segments: Segments,
        store: S,
    ) -> (SealedResult<S::Error>, Vec<Event>) {
        let binding = self.binding(segments);
        let mut vault = vec![0; segments.longest()];
        let mut room = vec![0; DIRECTORY_BYTES];
        let mut sink = Recording::default();
        let mut inflater = Box::new(Inflater::new());
        let mut archive = Segmented::new(segments, &self.key, &binding, store, &mut vault);
        let result = unpack_pieces(
            &mut archive,
            &mut room,
            &Limits::default(),
            &mut inflater,
            &mut sink,
        );
        drop(archive);
        assert!(vault.iter().all(|byte| *byte == 0), "the vault isn't wiped");
        assert!(room.iter().all(|byte| *byte == 0), "the room isn't wiped");
        (result, sink.events)
    }
}

pub(crate) type SealedResult<E> = Result<Summary, UnpackError<Refused, SegmentError<E>>>;

/// A store whose bytes stay as they are.
pub(crate) struct Still<'a>(pub(crate) &'a [u8]);

/// The store ends before what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut;

impl Sealed for Still<'_> {
    type Error = Cut;

    fn read_at(&mut self, offset: u64, room: &mut [u8]) -> Result<(), Cut> {
        let start = offset as usize;
        let bytes = self.0.get(start..start + room.len()).ok_or(Cut)?;
        room.copy_from_slice(bytes);
        Ok(())
    }
}

/// What an archive gives once it was sealed in segments of so many bytes. The store and the seal are in order.
pub(crate) fn unpack_sealed(
    archive: &[u8],
    segment_bytes: usize,
) -> (Result<Summary, UnpackError<Refused>>, Vec<Event>) {
    let deposit = Deposit::new(1);
    let (sealed, segments) = deposit.seal(archive, segment_bytes);
    let (result, events) = deposit.unpack(segments, Still(&sealed));
    let result = result.map_err(|error| match error {
        UnpackError::NotAnArchive => UnpackError::NotAnArchive,
        UnpackError::Archive(fault) => UnpackError::Archive(fault),
        UnpackError::Entry { name, fault } => UnpackError::Entry { name, fault },
        UnpackError::Sink(refused) => UnpackError::Sink(refused),
        other => panic!("{other:?}"),
    });
    (result, events)
}
