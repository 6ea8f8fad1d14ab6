//! What only content shows, and what becomes of the files before it.

use agent_core::payload::inflate::{InflateError, Inflater};
use agent_core::payload::zip::{EntryFault, Limits, UnpackError, unpack};

use crate::forge::{Member, deflate, wide_end};
use crate::pieces::{assert_same, unpack_all, unpack_chunked};
use crate::recording::{Event, Recording, Refused, unpack_whole};
use crate::sample::{Row, good, open_sizes, set_packed};

/// What only content shows: the entry is named, and its end is never told.
#[test]
fn content_that_is_refused() {
    use EntryFault as F;
    use InflateError as I;
    // One fixed block with a match that reaches one byte back, and its end.
    const REACHES_BACK: [u8; 3] = [0x03, 0x02, 0x00];
    #[rustfmt::skip]
    let rows: &[Row<EntryFault>] = &[
        ("wrong CRC, deflated", |zip| zip.members[2].both(|it| it.crc = 7), F::Crc { want: 7, have: 0x9574_A81F }),
        ("stream ends early", |zip| set_packed(zip, deflate(b"")), F::Stream(I::Short { missing: 200 })),
        ("stream goes on", |zip| set_packed(zip, deflate(&[b'x'; 201])), F::Stream(I::Long { limit: 200 })),
        ("stream goes on and on", |zip| set_packed(zip, deflate(&[b'x'; 60_000])), F::Stream(I::Long { limit: 200 })),
        ("bytes after the stream", |zip| {
            let packed = [&deflate(&b"again and ".repeat(20))[..], b"xyz"].concat();
            set_packed(zip, packed);
        }, F::Stream(I::Trailing { unread: 3 })),
        ("no bytes", |zip| set_packed(zip, Vec::new()), F::Stream(I::Broken)),
        ("cut off", |zip| set_packed(zip, deflate(&b"again and ".repeat(20))[..100].to_vec()), F::Stream(I::Broken)),
        ("reserved block", |zip| set_packed(zip, vec![0x07; 20]), F::Stream(I::Broken)),
        ("length and its complement", |zip| set_packed(zip, vec![1, 5, 0, 0, 0]), F::Stream(I::Broken)),
        ("match before the start", |zip| set_packed(zip, REACHES_BACK.to_vec()), F::Stream(I::Broken)),
        ("match into the file before", |zip| {
            zip.members[0] = Member::of("first", 8, deflate(&[b'#'; 40_000]), &[b'#'; 40_000]);
            set_packed(zip, REACHES_BACK.to_vec());
        }, F::Stream(I::Broken)),
        ("no blocks end", |zip| set_packed(zip, [0, 0, 0, 0xFF, 0xFF].repeat(5000)), F::Stream(I::Broken)),
    ];
    for (name, change, want) in rows {
        let mut archive = good();
        change(&mut archive);
        let (result, events) = unpack_all(&archive.bytes());
        match result {
            Err(UnpackError::Entry { name: entry, fault }) => {
                assert_eq!(
                    (entry.to_string().as_str(), fault),
                    ("dir/second", *want),
                    "{name}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(want.is_content(), "{name}");
        assert!(
            matches!(events.last(), Some(Event::File(_, _, _, _, false))),
            "{name}"
        );
    }
}

#[test]
fn wrong_crc_of_a_stored_file() {
    let mut archive = good();
    archive.members[0].content = b"hellO".to_vec();
    let (result, events) = unpack_all(&archive.bytes());
    let have = crc32fast::hash(b"hellO");
    assert!(
        matches!(result, Err(UnpackError::Entry { fault: EntryFault::Crc { want: 0x3610_A686, have: it }, .. }) if it == have),
        "{result:?}"
    );
    assert_eq!(events.len(), 1, "the second file was begun");
}

/// The core's part of it: after an error nothing more is told, so that the shell never hears of an end.
#[test]
fn partial_unpack_leaves_nothing() {
    let archive = good().bytes();
    let mut calls = 0;
    loop {
        let mut sink = Recording {
            refuse_call: Some(calls + 1),
            ..Recording::default()
        };
        let result = unpack(
            &archive,
            &Limits::default(),
            &mut Inflater::new(),
            &mut sink,
        );
        if result.is_ok() {
            break;
        }
        calls += 1;
        assert_eq!(result, Err(UnpackError::Sink(Refused)), "call {calls}");
        assert_eq!(sink.calls, calls, "called again after it refused");
    }
    assert_eq!(calls, 7, "file, data, end, directory, file, data, end");
}

/// An inflater that failed, or was interrupted, works for the next archive.
#[test]
fn inflater_is_as_new_after_a_failure() {
    let mut inflater = Inflater::new();
    let mut broken = good();
    set_packed(
        &mut broken,
        deflate(&b"again and ".repeat(20))[..100].to_vec(),
    );
    for (archive, is_good) in [
        (broken.bytes(), false),
        (good().bytes(), true),
        (broken.bytes(), false),
        (good().bytes(), true),
    ] {
        let mut sink = Recording::default();
        let result = unpack(&archive, &Limits::default(), &mut inflater, &mut sink);
        assert_eq!(result.is_ok(), is_good);
    }
}

/// Whatever one byte becomes, nothing panics, and what unpacks has the right content.
#[test]
fn every_changed_byte_is_refused_or_harmless() {
    let mut archive = good();
    open_sizes(&mut archive, |_| ());
    archive.before_end = Some(wide_end);
    let good = archive.bytes();
    let (_, want) = unpack_all(&good);
    let mut refused = 0;
    for at in 0..good.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 0xFF] {
            let mut bad = good.clone();
            bad[at] ^= change;
            let (result, events) = unpack_whole(&bad);
            let in_pieces = unpack_chunked(&bad, 1 + at % 40);
            assert_same("in pieces", in_pieces, (&result, &events));
            match result {
                Ok(_) => assert!(
                    same_content(&events, &want),
                    "byte {at} ^ {change}: {events:?}"
                ),
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(
        refused > good.len() * 5,
        "{refused} of {} refused",
        good.len() * 9
    );
}

/// Modes apart, which nothing in an archive vouches for.
fn same_content(have: &[Event], want: &[Event]) -> bool {
    have.len() == want.len()
        && have.iter().zip(want).all(|pair| match pair {
            (Event::Directory(have, _), Event::Directory(want, _)) => have == want,
            (Event::File(path, _, _, content, _), Event::File(want_path, _, _, want, _)) => {
                (path, content) == (want_path, want)
            }
            _ => false,
        })
}
