//! Archives that are refused before anything reaches the sink.

use agent_core::payload::zip::{
    ArchiveFault, EntryFault, Field, PathFault, UnpackError, is_archive,
};

use crate::forge::{Archive, End, Member, wide_end, wide_extra};
use crate::pieces::unpack_all;
use crate::sample::{Row, good, open_sizes};

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
        free_from: 35 + outer.len() as u64,
    };
    assert!(
        matches!(result, Err(UnpackError::Entry { fault, .. }) if fault == want),
        "{result:?}"
    );
    assert_eq!(events, []);
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

/// Any three names in any order, against the rule written down plainly.
#[test]
fn names_that_cannot_exist_side_by_side() {
    let names = [
        "a", "a/", "a/b", "a/b/", "a/b/c", "a-b", "a.b/c", "ab", "ab/c", "b",
    ];
    let (mut refused, mut taken) = (0, 0);
    for one in names {
        for two in names {
            for three in names {
                let members = [one, two, three].map(|name| {
                    let mut member = Member::stored(name, b"");
                    member.set_mode(if name.ends_with('/') {
                        0o040_755
                    } else {
                        0o100_644
                    });
                    member
                });
                let (result, events) = unpack_all(&Archive::of(members.to_vec()).bytes());
                let is_refused = excludes(one, two) || excludes(one, three) || excludes(two, three);
                assert_eq!(
                    result.is_err(),
                    is_refused,
                    "{one} {two} {three}: {result:?}"
                );
                assert_eq!(events.is_empty(), is_refused, "{one} {two} {three}");
                *(if is_refused { &mut refused } else { &mut taken }) += 1;
            }
        }
    }
    assert!(refused > 100 && taken > 100, "{refused} {taken}");
}

fn excludes(one: &str, other: &str) -> bool {
    let is_below =
        |file: &str, name: &str| !file.ends_with('/') && name.starts_with(&format!("{file}/"));
    one.trim_end_matches('/') == other.trim_end_matches('/')
        || is_below(one, other)
        || is_below(other, one)
}
