//! Archives that must not be unpacked, and what they must not reach.

use agent_core::payload::inflate::{InflateError, Inflater};
use agent_core::payload::zip::{
    ArchiveFault, EntryFault, Field, Limits, PathFault, UnpackError, is_archive, unpack,
};

use crate::forge::{Archive, End, Member, deflate, wide_end, wide_extra};
use crate::recording::{Event, Recording, Refused, directory, file, unpack_all};

/// Two files and a directory, which unpack.
fn good() -> Archive {
    let mut dir = Member::stored("dir/", b"");
    dir.set_mode(0o040_755);
    Archive::of(vec![
        Member::stored("first", b"hello"),
        dir,
        Member::deflated("dir/second", &b"again and ".repeat(20)),
    ])
}

#[test]
fn the_archive_that_all_are_made_from_is_good() {
    let (result, events) = unpack_all(&good().bytes());
    assert!(result.is_ok(), "{result:?}");
    let want = [
        file("first", 0o644, b"hello"),
        directory("dir", 0o755),
        file("dir/second", 0o644, &b"again and ".repeat(20)),
    ];
    assert_eq!(events, want);
}

/// A wrong archive: its name, how it is made from the good one, and its fault.
type Row<F> = (&'static str, fn(&mut Archive), F);

#[test]
fn entries_that_are_refused() {
    use EntryFault as F;
    #[rustfmt::skip]
    let rows: &[Row<EntryFault>] = &[
        ("zip with ../", |zip| zip.members[0].rename(b"../first"), F::Path(PathFault::Escapes)),
        ("zip with ../ inside", |zip| zip.members[0].rename(b"a/../../b"), F::Path(PathFault::Escapes)),
        ("absolute", |zip| zip.members[0].rename(b"/etc/shadow"), F::Path(PathFault::Absolute)),
        ("nul", |zip| zip.members[0].rename(b"a\0b"), F::Path(PathFault::Control)),
        ("backslash", |zip| zip.members[0].rename(b"..\\a"), F::Path(PathFault::Backslash)),
        ("not utf-8", |zip| zip.members[0].rename(b"\xC0\xAE\xC0\xAE/a"), F::Path(PathFault::NotUtf8)),
        ("no name", |zip| zip.members[0].rename(b""), F::Path(PathFault::Empty)),
        ("duplicate", |zip| zip.members[2].rename(b"first"), F::Conflict),
        ("duplicate directory", |zip| zip.members[0] = zip.members[1].clone(), F::Conflict),
        ("file and directory", |zip| zip.members[0].rename(b"dir"), F::Conflict),
        ("file as directory", |zip| zip.members[2].rename(b"first/second"), F::Conflict),
        ("file after what is below it", |zip| {
            zip.members.swap(0, 2);
            zip.members[2].rename(b"dir");
            zip.members.remove(1);
        }, F::Conflict),
        ("symlink", |zip| zip.members[0].set_mode(0o120_777), F::Special { mode: 0o120_777 }),
        ("symlink as directory", |zip| zip.members[1].set_mode(0o120_777), F::Special { mode: 0o120_777 }),
        ("block device", |zip| zip.members[0].set_mode(0o060_600), F::Special { mode: 0o060_600 }),
        ("pipe", |zip| zip.members[0].set_mode(0o010_600), F::Special { mode: 0o010_600 }),
        ("socket", |zip| zip.members[0].set_mode(0o140_600), F::Special { mode: 0o140_600 }),
        ("directory by mode", |zip| zip.members[0].set_mode(0o040_755), F::Kind { mode: 0o040_755 }),
        ("directory by name", |zip| zip.members[1].set_mode(0o100_755), F::Kind { mode: 0o100_755 }),
        ("directory with content", |zip| zip.members[0].rename(b"first/"), F::Kind { mode: 0o100_644 }),
        ("directory with content and mode", |zip| {
            zip.members[0].rename(b"first/");
            zip.members[0].set_mode(0o040_700);
        }, F::DirectoryContent { size: 5 }),
        ("encrypted", |zip| zip.members[0].both(|it| it.flags |= 1), F::Encrypted),
        ("encrypted strongly", |zip| zip.members[0].both(|it| it.flags |= 0x41), F::Encrypted),
        ("patch", |zip| zip.members[0].both(|it| it.flags |= 0x20), F::Flags { flags: 0x20 }),
        ("masked headers", |zip| zip.members[0].both(|it| it.flags |= 0x2000), F::Flags { flags: 0x2000 }),
        ("deflate64", |zip| zip.members[0].both(|it| it.method = 9), F::Method { method: 9 }),
        ("lzma", |zip| zip.members[0].both(|it| it.method = 14), F::Method { method: 14 }),
        ("two sizes", |zip| zip.members[0].both(|it| it.size = 6), F::StoredSize { packed: 5, size: 6 }),
        ("another disk", |zip| zip.members[0].central.disk = 1, F::Disk { disk: 1 }),
        ("no zip64 field", |zip| zip.members[0].both(|it| it.size = u32::MAX), F::NoWideField),
        ("extra field beyond its end", |zip| zip.members[0].both(|it| {
            it.size = u32::MAX;
            it.extra = vec![2, 0, 9, 0, 0];
        }), F::Truncated { need: 9, have: 1 }),
        ("zip64 field too short", |zip| zip.members[0].both(|it| {
            it.size = u32::MAX;
            it.extra = vec![1, 0, 2, 0, 5, 0];
        }), F::Truncated { need: 8, have: 2 }),
        ("behind the directory", |zip| zip.members[0].central.offset = Some(5000), F::Outside { offset: 5000, limit: 319 }),
        ("no header there", |zip| zip.members[0].central.offset = Some(1), F::NoLocalHeader { offset: 1 }),
        ("other name", |zip| zip.members[0].local.name = b"other".to_vec(), F::OtherName),
        ("other name, longer", |zip| zip.members[0].local.name = b"first1".to_vec(), F::OtherName),
        ("other flags", |zip| zip.members[0].local.flags = 1, F::Disagree { field: Field::Flags, local: 1, directory: 0 }),
        ("other method", |zip| zip.members[0].local.method = 8, F::Disagree { field: Field::Method, local: 8, directory: 0 }),
        ("other CRC", |zip| zip.members[0].local.crc = 1, F::Disagree { field: Field::Crc, local: 1, directory: 0x3610_A686 }),
        ("other size", |zip| zip.members[2].local.size = 1, F::Disagree { field: Field::Size, local: 1, directory: 200 }),
        ("other packed size", |zip| zip.members[0].local.packed = 1, F::Disagree { field: Field::Packed, local: 1, directory: 5 }),
        ("sizes left open without a descriptor", |zip| zip.members[0].local.packed = 0, F::Disagree { field: Field::Packed, local: 0, directory: 5 }),
        ("descriptor of another CRC", |zip| open_sizes(zip, |it| it[4] ^= 1),
            F::Disagree { field: Field::Crc, local: 0x3610_A687, directory: 0x3610_A686 }),
        ("descriptor of another size", |zip| open_sizes(zip, |it| it[12] ^= 1),
            F::Disagree { field: Field::Packed, local: 4 << 32 | 5, directory: 5 }),
        ("descriptor cut off", |zip| {
            zip.members.truncate(1);
            open_sizes(zip, |it| it.truncate(12));
        }, F::Truncated { need: 4, have: 0 }),
        ("content beyond the directory", |zip| {
            zip.members.truncate(1);
            zip.members[0].both(|it| (it.packed, it.size) = (6, 6));
        }, F::Truncated { need: 6, have: 5 }),
        ("overlap", |zip| zip.members[1] = same_place(&zip.members[0]), F::Overlap { start: 0, free_from: 40 }),
        ("wrong order", |zip| zip.members[1].central.offset = Some(0), F::OtherName),
    ];
    for (name, change, want) in rows {
        let mut archive = good();
        change(&mut archive);
        let (result, events) = unpack_all(&archive.bytes());
        match result {
            Err(UnpackError::Entry { fault, .. }) => assert_eq!(fault, *want, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(!want.is_content(), "{name}");
        assert_eq!(events, [], "{name}: something reached the sink");
    }
}

/// An entry of the directory alone, which points at the same bytes.
fn same_place(member: &Member) -> Member {
    let mut second = member.clone();
    second.central.offset = Some(0);
    second
}

/// Leaves the first file's sizes and CRC to a descriptor, and changes that.
fn open_sizes(zip: &mut Archive, change: fn(&mut Vec<u8>)) {
    let first = &mut zip.members[0];
    first.both(|it| it.flags |= 8);
    first.descriptor = b"PK\x07\x08".to_vec();
    for field in [first.local.crc, first.local.packed, first.local.size] {
        first.descriptor.extend(field.to_le_bytes());
    }
    (first.local.crc, first.local.packed, first.local.size) = (0, 0, 0);
    change(&mut first.descriptor);
}

#[test]
fn archives_that_are_refused() {
    use ArchiveFault as F;
    #[rustfmt::skip]
    let rows: &[Row<ArchiveFault>] = &[
        ("something after the end", |zip| zip.trailer = b"x".to_vec(), F::NoEnd),
        ("another disk", |zip| zip.disk = 1, F::ManyDisks),
        ("more entries announced", |zip| zip.entries = Some(4), F::Count { announced: 4, found: 3 }),
        ("fewer entries announced", |zip| zip.entries = Some(2), F::Count { announced: 2, found: 3 }),
        ("no entries announced", |zip| zip.entries = Some(0), F::Count { announced: 0, found: 1 }),
        ("many entries announced", |zip| zip.entries = Some(u16::MAX), F::TooMany { have: 65_535, limit: 1024 }),
        ("really many entries", |zip| {
            zip.members = (0..1025).map(|at| Member::stored(&at.to_string(), b"")).collect();
        }, F::TooMany { have: 1025, limit: 1024 }),
        ("directory too long", |zip| zip.directory_size = Some(1000), F::Misplaced { start: 319, size: 1000, end: 476 }),
        ("directory too short", |zip| zip.directory_size = Some(10), F::Misplaced { start: 319, size: 10, end: 476 }),
        ("directory behind the end", |zip| zip.directory_start = Some(u32::MAX), F::Misplaced { start: 0xFFFF_FFFF, size: 157, end: 476 }),
        ("directory elsewhere", |zip| {
            (zip.directory_start, zip.directory_size) = (Some(318), Some(158));
        }, F::NoHeader),
        ("gap before the end", |zip| zip.before_end = Some(|_| vec![0]), F::Misplaced { start: 319, size: 157, end: 477 }),
        ("zip64 end elsewhere", |zip| zip.before_end = Some(|end| {
            wide_end(&End { at: end.at + 1, ..*end })
        }), F::NoWideEnd),
        ("zip64 end far away", |zip| zip.before_end = Some(|end| {
            wide_end(&End { at: u64::MAX, ..*end })
        }), F::NoWideEnd),
        ("zip64 end of other entries", |zip| zip.before_end = Some(|end| {
            wide_end(&End { entries: 2, ..*end })
        }), F::EndsDisagree),
        ("zip64 end of another directory", |zip| {
            zip.directory_start = Some(u32::MAX);
            zip.before_end = Some(|end| wide_end(&End { start: u64::MAX, ..*end }));
        }, F::Misplaced { start: u64::MAX, size: 157, end: 476 }),
        ("more bytes than the limit", |zip| {
            zip.members[2].both(|it| it.size = 8 * 1024 * 1024 - 4);
        }, F::TooLarge { have: 8 * 1024 * 1024 + 1, limit: 8 * 1024 * 1024 }),
        ("more bytes than can be counted", |zip| {
            for at in [0, 2] {
                zip.members[at].both(|it| {
                    (it.method, it.size, it.extra) = (8, u32::MAX, wide_extra(&[u64::MAX - 9]));
                });
            }
        }, F::TooLarge { have: u64::MAX - 9, limit: 8 * 1024 * 1024 }),
    ];
    for (name, change, want) in rows {
        let mut archive = good();
        change(&mut archive);
        let (result, events) = unpack_all(&archive.bytes());
        assert_eq!(result, Err(UnpackError::Archive(*want)), "{name}");
        assert_eq!(events, [], "{name}: something reached the sink");
    }
}

/// An archive within an entry's content: the directory names the inner entry as well.
#[test]
fn entries_inside_of_entries_are_refused() {
    let inner = Member::stored("inner", b"quine");
    let outer = Archive::of(vec![inner.clone()]).bytes();
    let mut second = inner;
    second.central.offset = Some(35);
    let archive = Archive::of(vec![Member::stored("outer", &outer), second]);
    let (result, events) = unpack_all(&archive.bytes());
    let want = EntryFault::Overlap {
        start: 35,
        free_from: 35 + outer.len(),
    };
    assert!(
        matches!(result, Err(UnpackError::Entry { fault, .. }) if fault == want),
        "{result:?}"
    );
    assert_eq!(events, []);
}

#[test]
fn zip_bomb_is_refused() {
    const MIB: u32 = 1024 * 1024;
    let kilobytes_49 = vec![0; 49 * 1024];
    let rows = [
        ("49 KB that unpack to 50 MB", 50 * MIB, Err(true)),
        ("49 KB that unpack to the limit", 8 * MIB, Ok(())),
    ];
    for (name, size, want) in rows {
        let mut bomb = Member::of("zeros", 8, kilobytes_49.clone(), b"");
        bomb.both(|it| it.size = size);
        let (result, events) = unpack_all(&Archive::of(vec![bomb]).bytes());
        match want {
            Err(_) => {
                let fault = ArchiveFault::TooLarge {
                    have: size.into(),
                    limit: 8 * u64::from(MIB),
                };
                assert_eq!(result, Err(UnpackError::Archive(fault)), "{name}");
                assert_eq!(events, [], "{name}");
            }
            // Zeros are no deflate stream; what matters is that the budget let it through.
            Ok(()) => assert!(is_content(&result), "{name}: {result:?}"),
        }
    }
}

#[test]
fn a_small_archive_may_not_grow_without_measure() {
    let archive_bytes = |packed: usize| 100 + packed as u64;
    for (packed, is_bomb) in [
        (0, true),
        (30_000, true),
        (36_600, true),
        (36_601, false),
        (40_000, false),
    ] {
        let mut member = Member::of("x", 8, vec![0; packed], b"");
        member.both(|it| it.size = 8 * 1024 * 1024);
        let archive = Archive::of(vec![member]).bytes();
        assert_eq!(archive.len() as u64, archive_bytes(packed));
        let (result, _) = unpack_all(&archive);
        let limit = archive_bytes(packed) * 200 + 1024 * 1024;
        let bomb = ArchiveFault::Bomb {
            have: 8 * 1024 * 1024,
            limit,
        };
        assert_eq!(
            result == Err(UnpackError::Archive(bomb)),
            is_bomb,
            "{packed}: {result:?}"
        );
    }
}

#[test]
fn limits_are_the_callers() {
    let archive = good().bytes();
    let large = Limits::default();
    let rows = [
        (
            Limits {
                entries: 2,
                ..large
            },
            Err(ArchiveFault::TooMany { have: 3, limit: 2 }),
        ),
        (
            Limits {
                entries: 3,
                ..large
            },
            Ok(()),
        ),
        (
            Limits {
                bytes: 204,
                ..large
            },
            Err(ArchiveFault::TooLarge {
                have: 205,
                limit: 204,
            }),
        ),
        (
            Limits {
                bytes: 205,
                ..large
            },
            Ok(()),
        ),
        (Limits { ratio: 0, ..large }, Ok(())),
    ];
    for (limits, want) in rows {
        let mut sink = Recording::default();
        let result = unpack(&archive, &limits, &mut Inflater::new(), &mut sink);
        assert_eq!(
            result.map(|_| ()),
            want.map_err(UnpackError::Archive),
            "{limits:?}"
        );
        assert_eq!(sink.events.is_empty(), want.is_err(), "{limits:?}");
    }
}

fn is_content<T>(result: &Result<T, UnpackError<Refused>>) -> bool {
    matches!(result, Err(UnpackError::Entry { fault, .. }) if fault.is_content())
}

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

/// Other bytes for the deflated file, under the sizes and CRC that it has.
fn set_packed(zip: &mut Archive, packed: Vec<u8>) {
    let second = &mut zip.members[2];
    let len = packed.len().try_into().unwrap();
    second.both(|it| it.packed = len);
    second.content = packed;
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

#[test]
fn truncated_archives_are_refused() {
    let archive = good().bytes();
    for have in 0..archive.len() {
        let (result, events) = unpack_all(&archive[..have]);
        let want = if have < 4 {
            UnpackError::NotAnArchive
        } else {
            ArchiveFault::NoEnd.into()
        };
        assert_eq!(result, Err(want), "{have}");
        assert_eq!(events, [], "{have}");
    }
}

#[test]
fn plain_files_are_told_from_archives() {
    let rows: &[(&[u8], bool)] = &[
        (b"", false),
        (b"PK", false),
        (b"#!/bin/sh\n", false),
        (b"PKCS12", false),
        (b"prefix PK\x03\x04", false),
        (b"PK\x03\x04", true),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", true),
    ];
    for (payload, want) in rows {
        assert_eq!(is_archive(payload), *want, "{payload:?}");
        let (result, _) = unpack_all(payload);
        assert_eq!(
            result == Err(UnpackError::NotAnArchive),
            !want,
            "{payload:?}"
        );
    }
}

#[test]
fn modes_are_permissions_and_nothing_more() {
    const FAT: u16 = 20;
    const UNIX: u16 = 3 << 8;
    const DARWIN: u16 = 19 << 8;
    #[rustfmt::skip]
    let rows: &[(&str, u16, u32, &str, u32)] = &[
        ("file", UNIX, 0o100_755, "a", 0o755),
        ("setuid", UNIX, 0o104_755, "a", 0o755),
        ("setgid", UNIX, 0o102_755, "a", 0o755),
        ("sticky", UNIX, 0o101_777, "a", 0o777),
        ("all of them", UNIX, 0o107_777, "a", 0o777),
        ("no permission", UNIX, 0o100_000, "a", 0),
        ("no type", UNIX, 0o640, "a", 0o640),
        ("no mode", UNIX, 0, "a", 0o600),
        ("of a Mac", DARWIN, 0o100_750, "a", 0o750),
        ("without modes", FAT, 0, "a", 0o600),
        ("without modes, and yet a link", FAT, 0o120_777, "a", 0o600),
        ("directory", UNIX, 0o040_711, "a/", 0o711),
        ("setgid directory", UNIX, 0o042_775, "a/", 0o775),
        ("directory without mode", UNIX, 0, "a/", 0o700),
        ("directory without modes", FAT, 0, "a/", 0o700),
    ];
    for (row, made_by, mode, name, want) in rows {
        let mut member = Member::stored(name, b"");
        member.central.made_by = *made_by;
        member.set_mode(*mode);
        let (result, events) = unpack_all(&Archive::of(vec![member]).bytes());
        assert!(result.is_ok(), "{row}: {result:?}");
        let have = match &events[..] {
            [Event::Directory(_, mode) | Event::File(_, mode, ..)] => *mode,
            other => panic!("{row}: {other:?}"),
        };
        assert_eq!(have, *want, "{row}");
    }
}

/// What is unusual and yet right.
#[test]
fn unusual_archives_that_unpack() {
    #[rustfmt::skip]
    let rows: &[(&str, fn(&mut Archive))] = &[
        ("comment", |zip| zip.comment = b"hello".to_vec()),
        ("longest comment", |zip| zip.comment = vec![b'c'; 65_535]),
        ("comment with an end record's beginning", |zip| zip.comment = b"PK\x05\x06 and so on".to_vec()),
        ("gap before the directory", |zip| zip.members[2].descriptor = b"gap".to_vec()),
        ("zip64 end", |zip| zip.before_end = Some(wide_end)),
        ("zip64 end alone", |zip| {
            zip.before_end = Some(wide_end);
            (zip.entries, zip.directory_size, zip.directory_start) = (Some(u16::MAX), Some(u32::MAX), Some(u32::MAX));
        }),
        ("zip64 sizes", |zip| zip.members[0].both(|it| {
            (it.packed, it.size, it.extra) = (u32::MAX, u32::MAX, wide_extra(&[5, 5]));
        })),
        ("zip64 offset after another field", |zip| {
            let extra = [&[0x55, 0x54, 1, 0, 9][..], &wide_extra(&[0])].concat();
            (zip.members[0].central.offset, zip.members[0].central.extra) = (Some(u32::MAX), extra);
        }),
        ("padding among the extra fields", |zip| zip.members[0].local.extra = vec![0; 3]),
        ("descriptor", |zip| open_sizes(zip, |_| ())),
        ("descriptor without signature", |zip| open_sizes(zip, |it| drop(it.drain(..4)))),
        ("wide descriptor", |zip| open_sizes(zip, |it| {
            *it = [&it[..12], &[0; 4], &it[12..], &[0; 4]].concat();
        })),
        ("flags that say how hard it was tried", |zip| zip.members[2].both(|it| it.flags = 6)),
        ("flag for UTF-8", |zip| zip.members[2].both(|it| it.flags = 1 << 11)),
    ];
    let (_, want) = unpack_all(&good().bytes());
    for (name, change) in rows {
        let mut archive = good();
        change(&mut archive);
        let (result, events) = unpack_all(&archive.bytes());
        assert!(result.is_ok(), "{name}: {result:?}");
        assert_eq!(events, want, "{name}");
    }
}

/// An archive that says so is empty, and not an error.
#[test]
fn empty_archive() {
    let (result, events) = unpack_all(&Archive::default().bytes());
    assert_eq!((result, events), (Ok(Default::default()), Vec::new()));
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
            let (result, events) = unpack_all(&bad);
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

/// What a log shows of an entry's name can't forge a line of it.
#[test]
fn hostile_names_are_shown_escaped() {
    let rows: &[(&[u8], &str)] = &[
        (
            b"a\nINFO all is well",
            "`a\\nINFO all is well` in the payload's archive has a control character in its path",
        ),
        (
            b"\x1b[2J",
            "`\\u{1b}[2J` in the payload's archive has a control character in its path",
        ),
        (
            b"\xFFx/../y",
            "`\\xffx/../y` in the payload's archive has a path that isn't UTF-8",
        ),
    ];
    for (name, want) in rows {
        let mut archive = good();
        archive.members[0].rename(name);
        let (result, _) = unpack_all(&archive.bytes());
        assert_eq!(result.unwrap_err().to_string(), *want);
    }
    let mut archive = good();
    archive.members[0].rename(&b"../".repeat(100));
    let shown = unpack_all(&archive.bytes()).0.unwrap_err().to_string();
    assert!(
        shown.starts_with(&format!("`{}...`", &"../".repeat(30)[..64])),
        "{shown}"
    );
}

/// The most comparisons of names that the limits allow.
#[test]
fn as_many_entries_as_allowed() {
    let members = (0..1024)
        .map(|at| Member::stored(&format!("{}{at:04}", "n".repeat(251)), b""))
        .collect();
    let (result, events) = unpack_all(&Archive::of(members).bytes());
    assert_eq!(result.unwrap().files, 1024);
    assert_eq!(events.len(), 1024);
}
