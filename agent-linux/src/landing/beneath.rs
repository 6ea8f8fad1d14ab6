//! Opens what lies beneath a directory, whatever links somebody may have put there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens a path beneath `root`: no component of it is a symlink, `..` or absolute. What is created gets mode 0600.
///
/// # Errors
/// The kernel's; [`Errno::LOOP`], [`Errno::NOTDIR`] or [`Errno::XDEV`] for a path that would lead elsewhere.
pub(super) fn open(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match fs::openat2(root, path, flags, mode_for(flags), rules) {
        // Before Linux 5.6, and in emulators of processes.
        Err(Errno::NOSYS) => open_by_parts(root, path, flags),
        result => result,
    }
}

/// The same with one call for each component, each of which is opened without following a link.
fn open_by_parts(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut held: Option<OwnedFd> = None;
    for part in above.split('/').filter(|_| !above.is_empty()) {
        let here = held.as_ref().map_or(root.as_fd(), OwnedFd::as_fd);
        held = Some(open_part(here, part, way)?);
    }
    open_part(
        held.as_ref().map_or(root.as_fd(), OwnedFd::as_fd),
        name,
        flags,
    )
}

fn open_part(directory: BorrowedFd<'_>, part: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    if matches!(part, "" | "." | "..") {
        return Err(Errno::XDEV);
    }
    fs::openat(directory, part, flags, mode_for(flags))
}

fn mode_for(flags: OFlags) -> Mode {
    if flags.contains(OFlags::CREATE) {
        Mode::RUSR | Mode::WUSR
    } else {
        Mode::empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn both_ways_stay_beneath() {
        let place = tempfile::TempDir::new().unwrap();
        let inside = place.path().join("root");
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        for file in ["root/file", "root/a/b/file", "outside"] {
            std::fs::write(place.path().join(file), "").unwrap();
        }
        symlink("..", inside.join("up")).unwrap();
        symlink("file", inside.join("link")).unwrap();
        let root = fs::open(&inside, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let rows = [
            ("file", true),
            ("a/b/file", true),
            ("../outside", false),
            ("a/../../outside", false),
            ("/etc/passwd", false),
            ("up/outside", false),
            ("link", false),
            ("a//b/file/", false),
            ("", false),
        ];
        for (path, wanted) in rows {
            let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            assert_eq!(open(&root, path, read).is_ok(), wanted, "{path}");
            assert_eq!(
                open_by_parts(&root, path, read).is_ok(),
                wanted,
                "by parts: {path}"
            );
        }
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        assert!(open_by_parts(&root, "a/new", create | OFlags::NOFOLLOW).is_ok());
        assert_eq!(open(&root, "a/new", create).err(), Some(Errno::EXIST));
    }
}
