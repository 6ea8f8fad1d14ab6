//! Archives that are made to harm, as files: each is refused for what it is.

use std::fs;
use std::path::Path;

use agent_core::payload::inflate::InflateError;
use agent_core::payload::zip::{ArchiveFault, EntryFault, PathFault, UnpackError};

use crate::pieces::unpack_all;
use crate::recording::{Event, file};

const MIB: u64 = 1024 * 1024;

#[test]
fn each_file_is_refused_for_what_it_is() {
    use EntryFault as F;
    use PathFault as P;
    let rows = [
        (
            "bomb-count",
            archive(ArchiveFault::TooMany {
                have: 0xFFFE,
                limit: 1024,
            }),
        ),
        (
            "bomb-large",
            archive(ArchiveFault::TooLarge {
                have: 8 * MIB + 1,
                limit: 8 * MIB,
            }),
        ),
        (
            "bomb-lying-size",
            Want::Entry(F::Stream(InflateError::Long { limit: 10 })),
        ),
        ("bomb-nested", Want::Unpacks),
        (
            "bomb-parts",
            archive(ArchiveFault::Bomb {
                have: 6 * 300 * 1024,
                limit: 2440 * 200 + MIB,
            }),
        ),
        (
            "bomb-quoted",
            Want::Entry(F::Overlap {
                start: 36,
                free_from: 287,
            }),
        ),
        (
            "bomb-ratio",
            archive(ArchiveFault::Bomb {
                have: 4 * MIB,
                limit: 4188 * 200 + MIB,
            }),
        ),
        ("bomb-same-place", Want::Entry(F::OtherName)),
        (
            "bomb-wide",
            archive(ArchiveFault::TooLarge {
                have: 1 << 63,
                limit: 8 * MIB,
            }),
        ),
        ("slip-absolute", Want::Entry(F::Path(P::Absolute))),
        ("slip-backslash", Want::Entry(F::Path(P::Backslash))),
        ("slip-deep", Want::Entry(F::Path(P::Escapes))),
        ("slip-device", Want::Entry(F::Special { mode: 0o020_666 })),
        ("slip-directory", Want::Entry(F::Path(P::Escapes))),
        ("slip-dot", Want::Entry(F::Path(P::Escapes))),
        ("slip-double-slash", Want::Entry(F::Path(P::EmptyComponent))),
        ("slip-drive", Want::Entry(F::Path(P::Backslash))),
        ("slip-end", Want::Entry(F::Path(P::Escapes))),
        ("slip-file-as-directory", Want::Entry(F::Conflict)),
        ("slip-link", Want::Entry(F::Special { mode: 0o120_777 })),
        (
            "slip-link-file",
            Want::Entry(F::Special { mode: 0o120_777 }),
        ),
        ("slip-local-header", Want::Entry(F::OtherName)),
        ("slip-newline", Want::Entry(F::Path(P::Control))),
        ("slip-nul", Want::Entry(F::Path(P::Control))),
        ("slip-overlong", Want::Entry(F::Path(P::NotUtf8))),
        ("slip-parent", Want::Entry(F::Path(P::Escapes))),
        ("slip-twice", Want::Entry(F::Conflict)),
    ];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/hostile");
    for (name, want) in &rows {
        let bytes = fs::read(directory.join(name).with_extension("zip")).unwrap();
        let (result, events) = unpack_all(&bytes);
        match (want, result) {
            (Want::Archive(want), Err(UnpackError::Archive(fault))) => {
                assert_eq!((fault, &events[..]), (*want, &[][..]), "{name}");
            }
            (Want::Entry(want), Err(UnpackError::Entry { fault, .. })) => {
                assert_eq!(fault, *want, "{name}");
                let is_told_before = !fault.is_content();
                assert_eq!(events.is_empty(), is_told_before, "{name}");
                assert!(!events.iter().any(is_complete), "{name}");
            }
            (Want::Unpacks, Ok(_)) => {
                let [Event::File(path, mode, _, content, _)] = &events[..] else {
                    panic!("{name}: {events:?}");
                };
                // What is inside of the inner archive is nobody's business.
                assert_eq!(events, [file(path, *mode, content)], "{name}");
            }
            (want, have) => panic!("{name}: {have:?}, and not {want:?}"),
        }
    }
    let files = fs::read_dir(directory).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "zip")
    });
    assert_eq!(files.count(), rows.len(), "a file without a row");
}

#[derive(Debug)]
enum Want {
    Archive(ArchiveFault),
    Entry(EntryFault),
    Unpacks,
}

const fn archive(fault: ArchiveFault) -> Want {
    Want::Archive(fault)
}

fn is_complete(event: &Event) -> bool {
    matches!(event, Event::File(.., true))
}
