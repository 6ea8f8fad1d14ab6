//! Sealed segments that somebody changes: before they are read, and while they are.

use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::OpenError;
use agent_core::payload::segment::Segments;
use agent_core::payload::zip::{
    ArchiveFault, DIRECTORY_BYTES, Limits, Sealed, SegmentError, Segmented, UnpackError, unpack,
    unpack_pieces,
};

use crate::forge::{Archive, Member, wide_end};
use crate::pieces::{Cut, Deposit, SealedResult, Still, unpack_all};
use crate::recording::{Event, Recording};
use crate::sample::good;

/// Short enough that every header straddles two.
const SHORT: usize = 29;

/// A sealed segment of [`SHORT`].
const SEALED: usize = SHORT + 16;

fn seal_broken<E>(result: &SealedResult<E>) -> Option<u32> {
    match result {
        Err(UnpackError::Source(SegmentError::Seal { number, error })) => {
            assert_eq!(*error, OpenError::Tag);
            Some(*number)
        }
        _ => None,
    }
}

#[test]
fn any_flipped_byte_of_any_segment_is_refused() {
    let deposit = Deposit::new(1);
    let archive = good().bytes();
    let (sealed, segments) = deposit.seal(&archive, SHORT);
    let (_, want) = unpack_all(&archive);
    for at in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 1 << (at % 8);
        let (result, events) = deposit.unpack(segments, Still(&bad));
        let number = (at / SEALED) as u32;
        assert_eq!(seal_broken(&result), Some(number), "byte {at}: {result:?}");
        assert_true_beginning(&events, &want);
    }
}

#[test]
fn segments_elsewhere_are_refused() {
    let (deposit, other) = (Deposit::new(1), Deposit::new(2));
    let archive = good().bytes();
    let (sealed, segments) = deposit.seal(&archive, SHORT);
    let (others, _) = other.seal(&archive, SHORT);
    let same_key = Deposit {
        id: other.id,
        ..Deposit::new(1)
    };
    let (replayed, _) = same_key.seal(&archive, SHORT);
    let (_, want) = unpack_all(&archive);
    let refused = |name: &str, bytes: &[u8], segments| {
        let (result, events) = deposit.unpack(segments, Still(bytes));
        let is_cut = result == Err(UnpackError::Source(SegmentError::Store(Cut)));
        assert!(
            seal_broken(&result).is_some() || is_cut,
            "{name}: {result:?}"
        );
        assert_true_beginning(&events, &want);
    };
    let count = segments.count() as usize;
    for one in 0..count - 1 {
        let mut bytes = sealed.clone();
        let (before, after) = bytes.split_at_mut((one + 1) * SEALED);
        let tail = &mut after[..SEALED.min(sealed.len() - (one + 1) * SEALED)];
        let length = tail.len();
        before[one * SEALED..][..length].swap_with_slice(tail);
        refused("two swapped", &bytes, segments);
        for (name, foreign) in [
            ("another payload's", &others),
            ("another deposit's", &replayed),
        ] {
            let mut bytes = sealed.clone();
            bytes[one * SEALED..][..SEALED].copy_from_slice(&foreign[one * SEALED..][..SEALED]);
            refused(name, &bytes, segments);
        }
        let cut = &sealed[..(one + 1) * SEALED];
        let shorter = Segments::of_size(SHORT, cut.len() as u64).unwrap();
        refused("cut", cut, segments);
        refused("cut, and said so", cut, shorter);
    }
    let extended = [&sealed[..], &sealed[..SEALED]].concat();
    if let Some(longer) = Segments::of_size(SHORT, extended.len() as u64) {
        refused("extended", &extended, longer);
    }
    refused("of another payload", &others, segments);
}

/// What a store does from some read on.
#[derive(Clone, Copy, Debug)]
enum Change {
    Flip,
    Swap,
    Foreign,
    Fail,
}

/// Changes at a read, for good or for that read alone.
struct Changing<'a> {
    sealed: &'a [u8],
    foreign: &'a [u8],
    change: Change,
    at_read: usize,
    is_for_good: bool,
    reads: usize,
}

impl Sealed for Changing<'_> {
    type Error = Cut;

    fn read_at(&mut self, offset: u64, room: &mut [u8]) -> Result<(), Cut> {
        let read = self.reads;
        self.reads += 1;
        let place = offset as usize..offset as usize + room.len();
        let is_changed = read == self.at_read || self.is_for_good && read > self.at_read;
        let from = match self.change {
            Change::Foreign if is_changed => self.foreign,
            _ => self.sealed,
        };
        room.copy_from_slice(from.get(place).ok_or(Cut)?);
        match self.change {
            Change::Flip if is_changed => room[read % room.len()] ^= 1,
            Change::Swap if is_changed => room.reverse(),
            // Half of it has come.
            Change::Fail if is_changed => return Err(Cut),
            _ => {}
        }
        Ok(())
    }
}

/// Each moment: while the directory is read, while headers are checked, between that and writing, while files are written.
#[test]
fn a_store_that_changes_at_any_moment_never_yields_a_wrong_byte() {
    let (deposit, other) = (Deposit::new(1), Deposit::new(2));
    let mut archive = good();
    archive.members[0] = Member::stored("first", &(0..200).collect::<Vec<u8>>());
    let archive = archive.bytes();
    let mut changed = good();
    changed.members[0] = Member::stored("first", &[7; 200]);
    let (sealed, segments) = deposit.seal(&archive, SHORT);
    let (foreign, others) = other.seal(&changed.bytes(), SHORT);
    assert_eq!(segments, others);
    let (_, want) = unpack_all(&archive);
    for change in [Change::Flip, Change::Swap, Change::Foreign, Change::Fail] {
        for is_for_good in [false, true] {
            let (mut at_read, mut is_partial) = (0, false);
            loop {
                let store = Changing {
                    sealed: &sealed,
                    foreign: &foreign,
                    change,
                    at_read,
                    is_for_good,
                    reads: 0,
                };
                let (result, events) = deposit.unpack(segments, store);
                assert_true_beginning(&events, &want);
                if result.is_ok() {
                    break;
                }
                let is_seal = seal_broken(&result).is_some();
                let is_store = result == Err(UnpackError::Source(SegmentError::Store(Cut)));
                assert!(is_seal || is_store, "{change:?} at {at_read}: {result:?}");
                is_partial |= !events.is_empty();
                at_read += 1;
            }
            // The end, the headers, the content: more reads than segments, and changes in each part were seen.
            assert!(
                at_read > segments.count() as usize && is_partial,
                "{at_read}"
            );
        }
    }
}

/// Every byte that reached the sink is the right one.
fn assert_true_beginning(have: &[Event], want: &[Event]) {
    assert!(have.len() <= want.len());
    for pair in have.iter().zip(want) {
        match pair {
            (Event::File(a, b, c, have, is_complete), Event::File(d, e, f, want, _)) => {
                assert_eq!((a, b, c), (d, e, f));
                assert!(want.starts_with(have), "{a} has wrong bytes");
                assert!(!is_complete || have == want);
            }
            (have, want) => assert_eq!(have, want),
        }
    }
}

/// Reading goes forward: no segment is opened over and over.
#[test]
fn each_segment_is_opened_three_times_at_most() {
    struct Counting<'a>(Still<'a>, &'a mut usize);
    impl Sealed for Counting<'_> {
        type Error = Cut;
        fn read_at(&mut self, offset: u64, room: &mut [u8]) -> Result<(), Cut> {
            *self.1 += 1;
            self.0.read_at(offset, room)
        }
    }
    let deposit = Deposit::new(1);
    let noise = |at: usize| (at * at / 3) as u8;
    let members = (0..20)
        .map(|file| {
            let content: Vec<_> = (0..5000).map(|at| noise(file * 5000 + at)).collect();
            Member::deflated(&format!("file{file}"), &content)
        })
        .collect();
    let (sealed, segments) = deposit.seal(&Archive::of(members).bytes(), 1000);
    let mut reads = 0;
    let (result, _) = deposit.unpack(segments, Counting(Still(&sealed), &mut reads));
    assert_eq!(result.map(|all| all.files), Ok(20));
    let count = segments.count() as usize;
    assert!(reads >= count && reads <= 3 * count, "{reads} of {count}");
}

#[test]
fn a_directory_beyond_the_room_is_refused() {
    let mut archive = good();
    archive.before_end = Some(wide_end);
    let archive = archive.bytes();
    let deposit = Deposit::new(1);
    let (sealed, segments) = deposit.seal(&archive, SHORT);
    let binding = deposit.binding(segments);
    // From the directory on; 98 bytes of it are the end records.
    let needed = 157 + 98;
    for room in 0..archive.len() {
        let mut sink = Recording::default();
        let mut vault = vec![0; segments.longest()];
        let store = Still(&sealed);
        let mut pieces = Segmented::new(segments, &deposit.key, &binding, store, &mut vault);
        let result = unpack_pieces(
            &mut pieces,
            &mut vec![0; room],
            &Limits::default(),
            &mut Inflater::new(),
            &mut sink,
        );
        let want = match room {
            0..22 => Err(UnpackError::Archive(ArchiveFault::NoEnd)),
            // Without the locator in sight the narrow end record counts, and the directory doesn't end there.
            22..42 => Err(UnpackError::Archive(ArchiveFault::Misplaced {
                start: 319,
                size: 157,
                end: 552,
            })),
            _ if room < needed => Err(UnpackError::Archive(ArchiveFault::DirectoryTooLarge {
                have: if room < 98 { 98 } else { needed as u64 },
                limit: room as u64,
            })),
            _ => Ok(()),
        };
        assert_eq!(result.map(drop), want, "{room}");
        assert_eq!(sink.events.is_empty(), want.is_err(), "{room}");
    }
}

/// As many files as are allowed, with long names, fit the room that is recommended.
#[test]
fn the_recommended_room_is_enough() {
    let members = (0..1024)
        .map(|at| Member::stored(&format!("{}{at:04}", "n".repeat(200)), b""))
        .collect();
    let archive = Archive::of(members).bytes();
    let deposit = Deposit::new(1);
    let (sealed, segments) = deposit.seal(&archive, DIRECTORY_BYTES);
    let (result, _) = deposit.unpack(segments, Still(&sealed));
    assert_eq!(result.map(|all| all.files), Ok(1024));
}

#[test]
fn a_vault_that_is_too_small_is_refused() {
    let deposit = Deposit::new(1);
    let (sealed, segments) = deposit.seal(&good().bytes(), SHORT);
    let binding = deposit.binding(segments);
    let (need, have) = (SEALED, SEALED - 1);
    let mut vault = vec![0; have];
    let store = Still(&sealed);
    let mut pieces = Segmented::new(segments, &deposit.key, &binding, store, &mut vault);
    let mut sink = Recording::default();
    let result = unpack_pieces(
        &mut pieces,
        &mut vec![0; DIRECTORY_BYTES],
        &Limits::default(),
        &mut Inflater::new(),
        &mut sink,
    );
    let want = SegmentError::Vault { need, have };
    assert_eq!(result, Err(UnpackError::Source(want)));
}

/// Segments as they are in use.
#[test]
fn a_payload_of_several_whole_segments() {
    let content: Vec<u8> = (0..3 << 20).map(|at: u32| (at % 251) as u8).collect();
    let mut archive = good();
    archive.members[0] = Member::stored("first", &content);
    let archive = archive.bytes();
    let deposit = Deposit::new(1);
    let (sealed, segments) = deposit.seal(&archive, 1 << 20);
    assert_eq!(Segments::of_sealed(sealed.len() as u64), Some(segments));
    let mut whole = Recording::default();
    let want = unpack(
        &archive,
        &Limits::default(),
        &mut Inflater::new(),
        &mut whole,
    );
    let (result, events) = deposit.unpack(segments, Still(&sealed));
    assert_eq!(result.ok(), want.ok());
    assert!(events == whole.events);
}
