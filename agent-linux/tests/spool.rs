//! Spools: what they hold and what they refuse, and that nobody who changes one gets a byte unpacked.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/sealed.rs"]
mod sealed;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use agent_core::payload::seal::OpenError;
use agent_core::payload::segment::{SEALED_SEGMENT_BYTES, Segments};
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{Limits, SegmentError, UnpackError};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use agent_linux::landing::{SpoolLandingError, Zone};
use agent_linux::spool::{Spool, SpoolError, SpoolUnpackError};
use namespace::is_in_namespace;
use sealed::Deposit;
use tempfile::TempDir;

const NAME: &str = "node.0505050505050505.sealed";

/// A little more than three segments.
fn deposit() -> Deposit {
    Deposit::new(4, 800_000)
}

fn in_directory(dir: &Path, deposit: &Deposit) -> Spool {
    Spool::in_directory(dir, &deposit.agent, deposit.id, deposit.segments()).unwrap()
}

/// Both kinds, empty.
fn both(dir: &Path, deposit: &Deposit) -> [Spool; 2] {
    let memory = Spool::in_memory(deposit.segments()).unwrap();
    [memory, in_directory(dir, deposit)]
}

fn limits() -> Limits {
    Limits::default()
}

/// Collects what it is told.
#[derive(Default)]
struct Files(Vec<Vec<u8>>);

impl Sink for Files {
    type Error = SpoolError;

    fn directory(&mut self, _: &str, _: u32) -> Result<(), SpoolError> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: u32, _: u64) -> Result<(), SpoolError> {
        self.0.push(Vec::new());
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.0.last_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }
}

#[test]
fn what_is_spooled_unpacks() {
    let (place, deposit) = (TempDir::new().unwrap(), deposit());
    let (sealed, hash) = deposit.sealed();
    let binding = deposit.binding(deposit.segments());
    for mut spool in both(place.path(), &deposit) {
        let incomplete = SpoolError::Incomplete {
            have: 0,
            need: sealed.len() as u64,
        };
        assert_eq!(spool.check(&hash), Err(incomplete.clone()));
        let early = spool.unpack(&deposit.key, &binding, &limits(), &mut Files::default());
        assert_eq!(early, Err(SpoolUnpackError::Spool(incomplete)));
        for part in sealed.chunks(100_000) {
            spool.append(part).unwrap();
        }
        let (have, limit) = (sealed.len() as u64 + 1, sealed.len() as u64);
        assert_eq!(spool.append(b"x"), Err(SpoolError::TooMuch { have, limit }));
        spool.check(&hash).unwrap();
        let mut files = Files::default();
        let summary = spool
            .unpack(&deposit.key, &binding, &limits(), &mut files)
            .unwrap();
        assert_eq!((summary.files, summary.bytes), (4, 3_200_000));
        for (at, file) in files.0.iter().enumerate() {
            assert!(*file == deposit.content(at), "{at}");
        }
        spool.remove();
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_broken_fetch_goes_on_where_it_stopped() {
    let (place, deposit) = (TempDir::new().unwrap(), deposit());
    let (sealed, hash) = deposit.sealed();
    let mut sent = 0;
    while sent < sealed.len() {
        let mut spool = in_directory(place.path(), &deposit);
        assert_eq!(spool.have(), sent as u64);
        let part = &sealed[sent..sealed.len().min(sent + 1_000_000)];
        spool.append(part).unwrap();
        sent += part.len();
    }
    in_directory(place.path(), &deposit).check(&hash).unwrap();
    let file = fs::metadata(place.path().join(NAME)).unwrap();
    assert_eq!(file.mode() & 0o7777, 0o600);
}

#[test]
fn another_digest_empties_the_spool() {
    let (place, deposit) = (TempDir::new().unwrap(), deposit());
    let (sealed, hash) = deposit.sealed();
    for mut spool in both(place.path(), &deposit) {
        spool.append(&sealed).unwrap();
        let want = [9; 32];
        let have = Some(hash);
        assert_eq!(spool.check(&want), Err(SpoolError::Digest { want, have }));
        assert_eq!(spool.have(), 0);
        spool.append(&sealed).unwrap();
        spool.check(&hash).unwrap();
    }
    let mut cut = in_directory(place.path(), &deposit);
    File::options()
        .write(true)
        .open(place.path().join(NAME))
        .unwrap()
        .set_len(5)
        .unwrap();
    let digest = SpoolError::Digest {
        want: hash,
        have: None,
    };
    assert_eq!(cut.check(&hash), Err(digest));
    assert_eq!(cut.have(), 0);
}

/// What stands in the file's place before it is opened: only an own file that isn't too long is gone on with.
#[test]
fn what_is_not_our_own_file_is_started_anew() {
    type Row = (&'static str, fn(&Path), u64);
    let rows: [Row; 9] = [
        ("nothing", |_| {}, 0),
        ("ours", |file| write(file, 1000), 1000),
        ("longer", |file| write(file, 5_000_000), 0),
        (
            "open to others",
            |file| {
                write(file, 1000);
                fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
            },
            0,
        ),
        (
            "with a second name",
            |file| {
                write(file, 1000);
                fs::hard_link(file, file.with_file_name("victim")).unwrap();
            },
            0,
        ),
        (
            "a link to a file",
            |file| {
                write(&file.with_file_name("victim"), 1000);
                symlink("victim", file).unwrap();
            },
            0,
        ),
        (
            "a link to nothing",
            |file| symlink("nowhere", file).unwrap(),
            0,
        ),
        ("a directory", |file| fs::create_dir(file).unwrap(), 0),
        (
            "a pipe",
            |file| assert!(Command::new("mkfifo").arg(file).status().unwrap().success()),
            0,
        ),
    ];
    let deposit = deposit();
    for (name, prepare, have) in rows {
        let place = TempDir::new().unwrap();
        let (file, victim) = (place.path().join(NAME), place.path().join("victim"));
        prepare(&file);
        let mut spool = in_directory(place.path(), &deposit);
        assert_eq!(spool.have(), have, "{name}");
        spool.append(b"new").unwrap();
        let found = fs::symlink_metadata(&file).unwrap();
        assert!(found.is_file(), "{name}");
        assert_eq!(
            (found.mode() & 0o7777, found.len()),
            (0o600, have + 3),
            "{name}"
        );
        if victim.exists() {
            assert_eq!(fs::read(victim).unwrap(), vec![1; 1000], "{name}");
        }
        assert!(!place.path().join("nowhere").exists(), "{name}");
    }
}

fn write(file: &Path, bytes: usize) {
    fs::write(file, vec![1; bytes]).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_another_deposit_left_is_removed() {
    let (place, deposit) = (TempDir::new().unwrap(), deposit());
    drop(in_directory(place.path(), &deposit));
    let others = [
        "other.0505050505050505.sealed",
        "node.x.0505050505050505.sealed",
        "node.sealed",
        "node.05.sealed",
    ];
    for name in others {
        write(&place.path().join(name), 1);
    }
    let id = PayloadId([6; 8]);
    let agent = Uuid::parse("node").unwrap();
    let segments = Segments::of_plain(1).unwrap();
    let _next = Spool::in_directory(place.path(), &agent, id, segments).unwrap();
    let mut names: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut want = others.map(str::to_owned).to_vec();
    want.push("node.0606060606060606.sealed".to_owned());
    want.sort();
    assert_eq!(names, want);
}

#[test]
fn a_full_disk_is_said() {
    if !is_in_namespace("a_full_disk_is_said") {
        return;
    }
    let place = TempDir::new().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "x"])
        .arg(place.path())
        .status();
    assert!(mounted.unwrap().success());
    let deposit = deposit();
    let mut spool = in_directory(place.path(), &deposit);
    let error = spool.append(&vec![1; 2_000_000]).unwrap_err();
    assert!(matches!(error, SpoolError::Full { .. }), "{error}");
    // What found room counts.
    assert_eq!(spool.have(), 1 << 20);
    drop(spool);
    let _ = Command::new("umount").arg("-l").arg(place.path()).output();
}

/// A sink for whose files the spool is changed when so many parts have come.
struct Meddler {
    file: PathBuf,
    at: usize,
    parts: usize,
    change: fn(&File, usize),
    files: Files,
}

impl Sink for Meddler {
    type Error = SpoolError;

    fn directory(&mut self, _: &str, _: u32) -> Result<(), SpoolError> {
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, size: u64) -> Result<(), SpoolError> {
        self.files.file(path, mode, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if self.parts == self.at {
            let options = File::options().read(true).write(true).open(&self.file);
            (self.change)(&options.unwrap(), self.at);
        }
        self.parts += 1;
        self.files.data(bytes)
    }

    fn end(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }
}

/// Between any two parts of any file, after its digest was found right.
#[test]
fn a_spool_changed_at_any_moment_never_yields_a_wrong_byte() {
    let (place, deposit) = (TempDir::new().unwrap(), deposit());
    let (sealed, hash) = deposit.sealed();
    let binding = deposit.binding(deposit.segments());
    type Row = (&'static str, fn(&File, usize));
    let changes: [Row; 3] = [
        ("flipped everywhere", |file, at| {
            for segment in 0..4 {
                let place = (segment * SEALED_SEGMENT_BYTES + at) as u64;
                let mut byte = [0];
                file.read_exact_at(&mut byte, place).unwrap();
                file.write_all_at(&[byte[0] ^ 1], place).unwrap();
            }
        }),
        ("the next segment in each one's place", |file, _| {
            let mut segments = vec![0; 2 * SEALED_SEGMENT_BYTES];
            file.read_exact_at(&mut segments, SEALED_SEGMENT_BYTES as u64)
                .unwrap();
            segments.rotate_left(SEALED_SEGMENT_BYTES);
            file.write_all_at(&segments, SEALED_SEGMENT_BYTES as u64)
                .unwrap();
        }),
        ("cut", |file, _| file.set_len(1_000_000).unwrap()),
    ];
    for (name, change) in changes {
        for at in [0, 24, 33, 50, 63] {
            let file = place.path().join(NAME);
            // What the last round left.
            let _ = fs::remove_file(&file);
            let mut spool = in_directory(place.path(), &deposit);
            spool.append(&sealed).unwrap();
            spool.check(&hash).unwrap();
            let mut sink = Meddler {
                file,
                at,
                parts: 0,
                change,
                files: Files::default(),
            };
            let result = spool.unpack(&deposit.key, &binding, &limits(), &mut sink);
            let is_refused = matches!(
                result,
                Err(SpoolUnpackError::Unpack(UnpackError::Source(
                    SegmentError::Seal {
                        error: OpenError::Tag,
                        ..
                    } | SegmentError::Store(SpoolError::Cut { .. })
                )))
            );
            assert!(is_refused, "{name} at {at} of {}: {result:?}", sink.parts);
            for (number, file) in sink.files.0.iter().enumerate() {
                assert!(deposit.content(number).starts_with(file), "{name} at {at}");
            }
        }
    }
}

#[test]
fn a_spool_lands_whole_or_not_at_all() {
    if !is_in_namespace("a_spool_lands_whole_or_not_at_all") {
        return;
    }
    let (place, deposit) = (TempDir::new().unwrap(), deposit());
    let (mut sealed, hash) = deposit.sealed();
    let binding = deposit.binding(deposit.segments());
    let directory = place.path().join("run/keyhalf");
    let mut zone = Zone::open(&directory, Zone::size_for(&limits())).unwrap();
    let spools = place.path().join("spool");
    let mut spool = in_directory(&spools, &deposit);
    spool.append(&sealed).unwrap();
    spool.check(&hash).unwrap();
    let summary = zone
        .land(&mut spool, &deposit.key, &binding, &limits())
        .unwrap();
    assert_eq!(summary.files, 4);
    let holds_all = |zone: &Zone| {
        for at in 0..4 {
            let file = fs::read(zone.unzipped().join(format!("file{at}"))).unwrap();
            assert!(file == deposit.content(at), "{at}");
        }
        assert_eq!(fs::read_dir(zone.path()).unwrap().count(), 1);
    };
    holds_all(&zone);
    // In the third segment: files were written when it shows.
    let late = 2 * SEALED_SEGMENT_BYTES + 5;
    sealed[late] ^= 1;
    fs::write(spools.join(NAME), &sealed).unwrap();
    let error = zone
        .land(&mut spool, &deposit.key, &binding, &limits())
        .unwrap_err();
    assert!(
        matches!(
            error,
            SpoolLandingError::Unpack(SpoolUnpackError::Unpack(UnpackError::Source(
                SegmentError::Seal { number: 2, .. }
            )))
        ),
        "{error}"
    );
    holds_all(&zone);
    // This thread isn't fenced.
    spool.remove();
    assert!(!spools.join(NAME).exists());
    let _ = Command::new("umount").arg("-l").arg(zone.path()).output();
}
