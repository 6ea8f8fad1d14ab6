//! The landing zone on a real kernel: its mount, and payloads that land whole or not at all.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/namespace.rs"]
mod namespace;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use agent_core::payload::sink::Sink;
use agent_linux::landing::{LandingError, Occupant, Unpacking, Zone};
use namespace::is_in_namespace;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A Keylime directory that only its user can write to.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn secure(&self) -> PathBuf {
        self.path().join("secure")
    }

    fn zone(&self) -> Zone {
        Zone::open(self.path(), MIB).unwrap()
    }

    /// What is mounted there, as the kernel tells it.
    fn mounts(&self) -> Vec<String> {
        let secure = self.secure().canonicalize().unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = table
            .lines()
            .filter(|line| line.split(' ').nth(4) == secure.to_str());
        here.map(str::to_owned).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.secure())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.secure()).output();
    }
}

fn mount(words: &[&str], place: &Path) {
    fs::create_dir_all(place).unwrap();
    assert!(
        Command::new("mount")
            .args(words)
            .arg(place)
            .status()
            .unwrap()
            .success(),
        "{words:?}"
    );
}

fn put(
    unpacking: &mut Unpacking<'_>,
    path: &str,
    mode: u32,
    contents: &[u8],
) -> Result<(), LandingError> {
    unpacking.file(path, mode, contents.len().try_into().unwrap())?;
    unpacking.data(contents)?;
    unpacking.end()
}

#[test]
fn landing_zone_flags() {
    if !is_in_namespace("landing_zone_flags") {
        return;
    }
    let place = Place::new();
    let zone = place.zone();
    let mounts = place.mounts();
    let [line] = mounts.as_slice() else {
        panic!("{mounts:?}")
    };
    let options = line.split(' ').nth(5).unwrap();
    assert!(
        options.contains("nosuid") && options.contains("nodev") && line.contains(" - tmpfs "),
        "{line}"
    );
    assert!(
        line.contains("size=1024k") && line.contains("mode=700"),
        "{line}"
    );
    assert_eq!(fs::metadata(place.secure()).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(zone.unzipped(), place.secure().join("unzipped"));
}

/// What was warned of.
struct Warnings(Mutex<Vec<String>>);

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn noswap_is_there_or_its_absence_is_said_once() {
    if !is_in_namespace("noswap_is_there_or_its_absence_is_said_once") {
        return;
    }
    static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let place = Place::new();
    drop(place.zone());
    drop(place.zone());
    let has_noswap = place.mounts().concat().contains("noswap");
    let warnings = WARNINGS.0.lock().unwrap();
    assert!(warnings.iter().all(|text| text.contains("swap")));
    assert_eq!(warnings.len(), usize::from(!has_noswap), "{warnings:?}");
}

#[test]
fn opened_again_it_is_the_same() {
    if !is_in_namespace("opened_again_it_is_the_same") {
        return;
    }
    let place = Place::new();
    let mut zone = place.zone();
    let mut first = zone.begin().unwrap();
    put(&mut first, "kept", 0o600, b"kept").unwrap();
    first.commit().unwrap();
    drop(zone);
    let zone = Zone::open(place.path(), 2 * MIB).unwrap();
    assert_eq!(fs::read(zone.unzipped().join("kept")).unwrap(), b"kept");
    let mounts = place.mounts();
    assert!(
        matches!(mounts.as_slice(), [line] if line.contains("size=2048k")),
        "{mounts:?}"
    );
}

#[test]
fn what_stands_there_is_refused() {
    if !is_in_namespace("what_stands_there_is_refused") {
        return;
    }
    type Row = (&'static str, fn(&Path), Option<Occupant>);
    let rows: [Row; 8] = [
        ("nothing", |_| {}, None),
        (
            "an empty directory",
            |secure| fs::create_dir(secure).unwrap(),
            None,
        ),
        (
            "a file",
            |secure| fs::write(secure, "x").unwrap(),
            Some(Occupant::NotADirectory),
        ),
        (
            "a link",
            |secure| symlink("/tmp", secure).unwrap(),
            Some(Occupant::NotADirectory),
        ),
        (
            "a full directory",
            |secure| {
                fs::create_dir(secure).unwrap();
                fs::write(secure.join("x"), "x").unwrap();
            },
            Some(Occupant::FullDirectory),
        ),
        (
            "another file system",
            |secure| mount(&["--rbind", "/proc"], secure),
            Some(Occupant::OtherFileSystem),
        ),
        (
            "a tmpfs for everyone",
            |secure| {
                mount(
                    &["-t", "tmpfs", "-o", "nosuid,nodev,mode=0755", "x"],
                    secure,
                )
            },
            Some(Occupant::OpenToOthers),
        ),
        (
            "a tmpfs with setuid programs",
            |secure| mount(&["-t", "tmpfs", "-o", "mode=0700", "x"], secure),
            Some(Occupant::LooseFlags),
        ),
    ];
    for (name, prepare, occupant) in rows {
        let place = Place::new();
        prepare(&place.secure());
        let wanted = occupant.map(|by| LandingError::Occupied {
            path: place.secure(),
            by,
        });
        assert_eq!(Zone::open(place.path(), MIB).err(), wanted, "{name}");
    }
}

#[test]
fn a_directory_that_others_write_to_is_refused() {
    if !is_in_namespace("a_directory_that_others_write_to_is_refused") {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
    let error = Zone::open(place.path(), MIB).err().unwrap();
    assert!(
        matches!(error, LandingError::Exposed { mode: 0o777, .. }),
        "{error}"
    );
    assert!(!place.secure().exists());
}

#[test]
fn modes_come_from_the_archive_but_no_setuid() {
    if !is_in_namespace("modes_come_from_the_archive_but_no_setuid") {
        return;
    }
    let place = Place::new();
    let mut zone = place.zone();
    let mut unpacking = zone.begin().unwrap();
    unpacking.directory("shut/", 0o555).unwrap();
    put(&mut unpacking, "shut/setuid", 0o6755, b"x").unwrap();
    put(&mut unpacking, "no/entry/for/these", 0o640, b"deep").unwrap();
    unpacking.directory("no/entry", 0o750).unwrap();
    put(&mut unpacking, "empty", 0o444, b"").unwrap();
    unpacking.commit().unwrap();
    let rows = [
        ("shut", 0o40755),
        ("shut/setuid", 0o100755),
        ("no", 0o40700),
        ("no/entry", 0o40750),
        ("no/entry/for", 0o40700),
        ("no/entry/for/these", 0o100640),
        ("empty", 0o100444),
        ("", 0o40700),
    ];
    for (path, mode) in rows {
        let found = fs::metadata(zone.unzipped().join(path)).unwrap().mode();
        assert_eq!(found, mode, "{path}: {found:o}");
    }
    assert_eq!(
        fs::read(zone.unzipped().join("no/entry/for/these")).unwrap(),
        b"deep"
    );
}

#[test]
fn partial_unpack_leaves_nothing() {
    if !is_in_namespace("partial_unpack_leaves_nothing") {
        return;
    }
    let place = Place::new();
    let mut zone = place.zone();
    let mut whole = zone.begin().unwrap();
    put(&mut whole, "name", 0o600, b"old").unwrap();
    whole.commit().unwrap();
    let mut partial = zone.begin().unwrap();
    put(&mut partial, "name", 0o600, b"new").unwrap();
    partial.file("half", 0o600, 100).unwrap();
    partial.data(b"half of it").unwrap();
    drop(partial);
    assert_eq!(place.names(), ["unzipped"]);
    assert_eq!(fs::read(zone.unzipped().join("name")).unwrap(), b"old");
    let mut next = zone.begin().unwrap();
    put(&mut next, "other", 0o600, b"new").unwrap();
    next.commit().unwrap();
    assert_eq!(place.names(), ["unzipped"]);
    assert!(
        !zone.unzipped().join("name").exists(),
        "of the old payload nothing is left"
    );
}

#[test]
fn full_landing_zone_leaves_nothing() {
    if !is_in_namespace("full_landing_zone_leaves_nothing") {
        return;
    }
    let place = Place::new();
    let mut zone = place.zone();
    for (name, step) in [
        (
            "declared too large",
            (|zone| zone.file("big", 0o600, 2 * MIB))
                as fn(&mut Unpacking<'_>) -> Result<(), LandingError>,
        ),
        ("grows too large", |zone| {
            zone.file("big", 0o600, 1)?;
            (0..3).try_for_each(|_| zone.data(&vec![1; 512 * 1024]))
        }),
        ("too many", |zone| {
            (0..20_000).try_for_each(|n| put(zone, &format!("{n}"), 0o600, b""))
        }),
    ] {
        let mut unpacking = zone.begin().unwrap();
        let error = step(&mut unpacking).unwrap_err();
        assert!(
            matches!(error, LandingError::NoRoom { size: MIB, .. }),
            "{name}: {error}"
        );
        assert!(
            error.to_string().contains("--secure-size"),
            "{name}: {error}"
        );
        drop(unpacking);
        assert_eq!(place.names(), Vec::<String>::new(), "{name}");
    }
    let mut next = zone.begin().unwrap();
    put(&mut next, "fits", 0o600, &vec![1; 900 * 1024]).unwrap();
    next.commit().unwrap();
}

/// The archive reader lets none of these through; the sink doesn't either.
#[test]
fn paths_stay_beneath() {
    if !is_in_namespace("paths_stay_beneath") {
        return;
    }
    let place = Place::new();
    let mut zone = place.zone();
    let mut unpacking = zone.begin().unwrap();
    put(&mut unpacking, "file", 0o600, b"x").unwrap();
    unpacking.directory("directory", 0o700).unwrap();
    symlink("/tmp", place.secure().join(".unpacking/link")).unwrap();
    for path in [
        "../x",
        "/tmp/x",
        "directory/../../x",
        "link/x",
        "link",
        "file/x",
        "file",
        "",
        ".",
    ] {
        assert!(put(&mut unpacking, path, 0o600, b"x").is_err(), "{path:?}");
    }
    for path in ["..", "/tmp/y", "link", "link/y", "file"] {
        assert!(unpacking.directory(path, 0o700).is_err(), "{path:?}");
    }
    assert_eq!(unpacking.data(b"x"), Err(LandingError::NoFile));
    assert_eq!(unpacking.end(), Err(LandingError::NoFile));
    drop(unpacking);
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn leftovers_of_a_killed_agent_go() {
    if !is_in_namespace("leftovers_of_a_killed_agent_go") {
        return;
    }
    let place = Place::new();
    drop(place.zone());
    fs::create_dir_all(place.secure().join(".unpacking/deep")).unwrap();
    fs::write(place.secure().join(".unpacking/deep/secret"), "x").unwrap();
    symlink("/", place.secure().join(".unpacking/root")).unwrap();
    let _zone = place.zone();
    assert_eq!(place.names(), Vec::<String>::new());
}
