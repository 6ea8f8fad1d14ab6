//! What a fenced thread can't do, on a kernel that has Landlock.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/namespace.rs"]
mod namespace;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use agent_core::payload::sink::Sink;
use agent_linux::fence::Fence;
use agent_linux::landing::Zone;
use tempfile::TempDir;

/// A Keylime directory with a file in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        fs::write(place.path("file"), "old").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Runs in a thread of its own, which has no way out of its fence, and tells what became of that.
fn fenced<T: Send + 'static>(
    up: impl FnOnce() -> Fence + Send + 'static,
    then: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = thread::spawn(move || {
        assert_eq!(up(), Fence::Up);
        then()
    });
    thread.join().unwrap()
}

fn is_denied<T>(done: io::Result<T>) -> bool {
    done.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
#[cfg_attr(no_landlock, ignore = "this kernel has no Landlock")]
fn fenced_threads_touch_no_file() {
    let place = Place::new();
    let (file, new, renamed) = (place.path("file"), place.path("new"), place.path("renamed"));
    let directory = place.0.path().to_owned();
    let mut open = File::create(place.path("open")).unwrap();
    fenced(Fence::around_everything, move || {
        assert!(is_denied(File::open("/etc/passwd")), "read");
        assert!(is_denied(fs::read_dir("/")), "list");
        assert!(is_denied(fs::write(&file, "new")), "write");
        assert!(is_denied(fs::write(new, "new")), "make");
        assert!(is_denied(fs::create_dir(&renamed)), "make a directory");
        assert!(is_denied(fs::rename(&file, renamed)), "rename");
        assert!(is_denied(fs::remove_file(file)), "remove");
        assert!(
            is_denied(fs::read(directory.join("file"))),
            "read in the Keylime directory"
        );
        assert!(is_denied(Command::new("/bin/true").status()), "run");
        // What a thread that the fenced one starts can do is no more, and what was open before stays open.
        let heir = thread::spawn(|| is_denied(File::open("/etc/passwd")));
        assert!(heir.join().unwrap());
        open.write_all(b"log").unwrap();
    });
    // The process itself isn't fenced: scripts are started from other threads.
    assert!(File::open("/etc/passwd").is_ok());
    assert!(Command::new("/bin/true").status().unwrap().success());
    assert_eq!(fs::read(place.path("file")).unwrap(), b"old");
}

#[test]
#[cfg_attr(no_landlock, ignore = "this kernel has no Landlock")]
fn unpacking_touches_the_landing_zone_alone() {
    if !namespace::is_in_namespace("unpacking_touches_the_landing_zone_alone") {
        return;
    }
    let place = Place::new();
    let mut zone = Zone::open(place.0.path(), 1 << 20).unwrap();
    let put = |zone: &mut Zone, text: &[u8]| {
        let mut unpacking = zone.begin().unwrap();
        unpacking.directory("deep/", 0o755).unwrap();
        unpacking.file("deep/file", 0o600, 3).unwrap();
        unpacking.data(text).unwrap();
        unpacking.end().unwrap();
        unpacking.commit().unwrap();
    };
    put(&mut zone, b"old");
    let beside = place.path("beside");
    let unzipped = fenced(
        || Fence::Up,
        move || {
            assert_eq!(zone.fence(), Fence::Up);
            put(&mut zone, b"new");
            assert!(is_denied(File::open("/etc/passwd")));
            assert!(is_denied(fs::write(beside, "x")));
            zone.unzipped()
        },
    );
    assert_eq!(fs::read(unzipped.join("deep/file")).unwrap(), b"new");
    let _ = Command::new("umount")
        .arg("-l")
        .arg(place.path("secure"))
        .output();
}

#[test]
#[cfg_attr(no_landlock, ignore = "this kernel has no Landlock")]
fn names_are_found_through_the_fence() {
    use std::net::ToSocketAddrs;
    fenced(Fence::but_name_resolution, || {
        assert!(("localhost", 80).to_socket_addrs().is_ok());
        assert!(is_denied(File::open("/etc/passwd")));
        let hosts = Path::new("/etc/hosts");
        assert!(File::open(hosts).is_ok());
        assert!(is_denied(File::options().append(true).open(hosts)));
    });
}
