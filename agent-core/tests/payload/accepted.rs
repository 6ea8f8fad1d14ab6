//! What is unusual and yet right.

use crate::forge::{Archive, Member, wide_end, wide_extra};
use crate::pieces::unpack_all;
use crate::recording::{Event, directory, file};
use crate::sample::{Change, good, open_sizes};

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
    let rows: &[(&str, Change)] = &[
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
