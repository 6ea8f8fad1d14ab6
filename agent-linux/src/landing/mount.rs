//! The tmpfs itself: mounted once, and trusted only after a look.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
    mount_remount, move_mount,
};

use super::error::Occupant;
use super::{LandingError, Owner, SECURE};

/// Opens the zone's root; mounts the tmpfs first if there is only an empty directory or nothing.
pub(super) fn open_or_mount(
    parent: &OwnedFd,
    path: &Path,
    size: u64,
    owner: Owner,
) -> Result<OwnedFd, LandingError> {
    let write = |errno| LandingError::Write {
        path: path.to_owned(),
        errno,
    };
    match fs::mkdirat(parent, SECURE, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(write(errno)),
    }
    let found = open_root(parent, path)?;
    if is_mounted(parent, &found).map_err(write)? {
        inspect(&found, path, owner)?;
        resize(&found, size).map_err(|errno| LandingError::Mount {
            path: path.to_owned(),
            errno,
        })?;
        return Ok(found);
    }
    if !is_empty(&found).map_err(write)? {
        return Err(occupied(path, Occupant::FullDirectory));
    }
    mount(&found, size).map_err(|errno| LandingError::Mount {
        path: path.to_owned(),
        errno,
    })?;
    let root = open_root(parent, path)?;
    inspect(&root, path, owner)?;
    Ok(root)
}

fn open_root(parent: &OwnedFd, path: &Path) -> Result<OwnedFd, LandingError> {
    let stat = fs::statat(parent, SECURE, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| {
        LandingError::Write {
            path: path.to_owned(),
            errno,
        }
    })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(occupied(path, Occupant::NotADirectory));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, SECURE, flags, Mode::empty()).map_err(|errno| LandingError::Write {
        path: path.to_owned(),
        errno,
    })
}

/// Whether a file system of its own stands there. A bind mount of the parent's own file system isn't seen as one; it is then
/// an empty directory to mount over, or a full one to refuse.
fn is_mounted(parent: &OwnedFd, root: &OwnedFd) -> Result<bool, Errno> {
    Ok(fs::fstat(parent)?.st_dev != fs::fstat(root)?.st_dev)
}

fn is_empty(root: &OwnedFd) -> Result<bool, Errno> {
    for entry in Dir::read_from(root)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the file system is one that the agent would have mounted.
fn inspect(root: &OwnedFd, path: &Path, owner: Owner) -> Result<(), LandingError> {
    let write = |errno| LandingError::Write {
        path: path.to_owned(),
        errno,
    };
    if fs::fstatfs(root).map_err(write)?.f_type != TMPFS_MAGIC {
        return Err(occupied(path, Occupant::OtherFileSystem));
    }
    let stat = fs::fstat(root).map_err(write)?;
    if !owner.is_ours(stat.st_uid) || stat.st_mode & 0o7777 != 0o700 {
        return Err(occupied(path, Occupant::OpenToOthers));
    }
    let wanted = StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
    if !fs::fstatvfs(root).map_err(write)?.f_flag.contains(wanted) {
        return Err(occupied(path, Occupant::LooseFlags));
    }
    Ok(())
}

/// Gives an agent's earlier tmpfs the size that is configured now.
fn resize(root: &OwnedFd, size: u64) -> Result<(), Errno> {
    let stat = fs::fstatvfs(root)?;
    if stat.f_blocks.checked_mul(stat.f_frsize) == Some(size) {
        return Ok(());
    }
    let context = match fspick(root, "", rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH) {
        Err(Errno::NOSYS) => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            return mount_remount(path_of(root), flags, format!("size={size}"));
        }
        context => context?,
    };
    fsconfig_set_string(&context, "size", size.to_string())?;
    fsconfig_reconfigure(&context)
}

fn mount(place: &OwnedFd, size: u64) -> Result<(), Errno> {
    match attach(place, size, true) {
        // Before Linux 6.4, and in a user namespace, there is no noswap.
        Err(Errno::INVAL | Errno::PERM) => {
            attach(place, size, false)?;
            log::warn!(
                "this kernel offers no tmpfs without swap: an unpacked payload could be swapped out to disk"
            );
            Ok(())
        }
        result => result,
    }
}

fn attach(place: &OwnedFd, size: u64, without_swap: bool) -> Result<(), Errno> {
    match new_tmpfs(size, without_swap) {
        Ok(tmpfs) => move_mount(
            &tmpfs,
            "",
            place,
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        ),
        Err(Errno::NOSYS) => attach_in_one_call(place, size, without_swap),
        Err(errno) => Err(errno),
    }
}

/// What there was before Linux 5.2, and what emulators of processes have. The path leads to the handle and nowhere else.
fn attach_in_one_call(place: &OwnedFd, size: u64, without_swap: bool) -> Result<(), Errno> {
    let noswap = if without_swap { ",noswap" } else { "" };
    let options = format!("size={size},nr_inodes={MAX_INODES},mode=0700{noswap}");
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(
        "keyhalf",
        path_of(place),
        "tmpfs",
        flags,
        options.as_c_str(),
    )
}

fn path_of(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

/// A tmpfs that isn't visible anywhere yet.
fn new_tmpfs(size: u64, without_swap: bool) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "keyhalf")?;
    fsconfig_set_string(&context, "size", size.to_string())?;
    fsconfig_set_string(&context, "nr_inodes", MAX_INODES)?;
    fsconfig_set_string(&context, "mode", "0700")?;
    if without_swap {
        fsconfig_set_flag(&context, "noswap")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn occupied(path: &Path, by: Occupant) -> LandingError {
    LandingError::Occupied {
        path: path.to_owned(),
        by,
    }
}

/// Source: linux/magic.h.
const TMPFS_MAGIC: fs::FsWord = 0x0102_1994;

/// Files and directories in the zone, those of the script included: their inodes lie in the kernel's memory, beside the size.
const MAX_INODES: &str = "16384";
