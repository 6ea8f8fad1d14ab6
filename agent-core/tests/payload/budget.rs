//! What an archive may cost.

use agent_core::payload::inflate::Inflater;
use agent_core::payload::zip::{ArchiveFault, Limits, UnpackError, unpack};

use crate::forge::{Archive, Member};
use crate::pieces::unpack_all;
use crate::recording::{Recording, Refused};
use crate::sample::good;

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
