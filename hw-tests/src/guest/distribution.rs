//! Initramfs images as a Debian system makes them, with keyhalf's integration in them, and a disk that they boot into.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::guest::kernel::packages;
use crate::node::Build;
use crate::process::Program;
use crate::site::{Site, programs};

/// What makes the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// dracut, with its own init.
    Dracut,
    /// dracut, with systemd in the image.
    DracutSystemd,
    /// initramfs-tools, with busybox.
    InitramfsTools,
}

impl Maker {
    fn name(self) -> &'static str {
        match self {
            Self::Dracut => "dracut",
            Self::DracutSystemd => "dracut-systemd",
            Self::InitramfsTools => "initramfs-tools",
        }
    }

    /// Makes an image in a system that has this program as its agent, and these files in `/etc`.
    ///
    /// # Errors
    /// The maker fails; its log says why.
    pub fn image(self, site: &Site, agent: &[u8], files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let name = self.name();
        let configured = site.dir().join(format!("{name}.configured"));
        fs::create_dir_all(configured.join("etc/keyhalf"))?;
        fs::create_dir_all(configured.join("usr/bin"))?;
        for (file, content) in files {
            fs::write(configured.join("etc").join(file), content)?;
        }
        executable(&configured.join("usr/bin/keyhalf-agent"), agent)?;
        let image = site.dir().join(format!("{name}.image"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut build = Command::new("unshare");
        build.args(["--mount", "--propagation", "private"]);
        build.arg(here.join("src/guest/build-image")).arg(name);
        build.arg(programs()?.join(Build::Usual.program()));
        build.arg(&configured).arg(&image);
        let mut build = Program::start(build, site.log(&format!("the maker of {name}'s image")))?;
        match build.wait(LIMIT)? {
            status if status.success() => Ok(image),
            status => Err(format!("{name} makes no image: {status}").into()),
        }
    }
}

/// A disk with a file system whose init is this shell script.
///
/// # Errors
/// mke2fs fails.
pub fn disk(site: &Site, init: &str) -> Result<PathBuf> {
    let root = site.dir().join("root");
    for dir in [&["bin", "sbin", "etc", "usr", "lib"][..], &MOUNTS].concat() {
        fs::create_dir_all(root.join(dir))?;
    }
    let busybox = fs::read(packages()?.join("busybox/bin/busybox"))?;
    executable(&root.join("bin/busybox"), &busybox)?;
    symlink("busybox", root.join("bin/sh"))?;
    executable(&root.join("sbin/init"), init.as_bytes())?;
    // dracut takes a root without it for a broken one.
    fs::write(root.join("etc/os-release"), "ID=story\n")?;
    filled_from(site, &root, DISK_BYTES)
}

/// A disk with Debian's system, whose init is systemd, with these files in it.
///
/// # Errors
/// The system can't be copied; mke2fs fails.
pub fn system_disk(site: &Site, files: &[(&str, &str)]) -> Result<PathBuf> {
    let (root, system) = (site.dir().join("root"), packages()?.join("system"));
    for dir in MOUNTS {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::create_dir_all(root.join("usr"))?;
    let mut copy = Command::new("sh");
    // Without documentation, and what makes an initramfs.
    copy.args(["-c", "cp -a bin sbin lib lib64 etc \"$0\" && cd usr && cp -a bin sbin lib lib64 \"$0/usr\" && rm -r \"$0/usr/lib/dracut\""]);
    run(copy.arg(&root).current_dir(system))?;
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(path, content)?;
    }
    filled_from(site, &root, SYSTEM_BYTES)
}

fn filled_from(site: &Site, root: &Path, bytes: u64) -> Result<PathBuf> {
    let disk = site.dir().join("disk");
    fs::File::create(&disk)?.set_len(bytes)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"]).arg(root).arg(&disk);
    run(&mut make)?;
    Ok(disk)
}

fn run(command: &mut Command) -> Result {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{}: {status}", command.get_program().display()).into()),
    }
}

fn executable(path: &Path, content: &[u8]) -> Result {
    fs::write(path, content)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// Directories where a running system mounts what it needs.
const MOUNTS: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

const DISK_BYTES: u64 = 32 << 20;
const SYSTEM_BYTES: u64 = 320 << 20;

/// dracut takes 15 seconds where nothing else runs.
const LIMIT: Duration = Duration::from_secs(180);
