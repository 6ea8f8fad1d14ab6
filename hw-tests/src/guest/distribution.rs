//! Initramfs images as a Debian system makes them, with keyhalf's integration in them, and a disk that they boot into.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::guest::kernel::packages;
use crate::process::Program;
use crate::site::Site;

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

    /// Makes an image with this program as the agent, and an empty configuration of it.
    ///
    /// # Errors
    /// The maker fails; its log says why.
    pub fn image(self, site: &Site, agent: &[u8]) -> Result<PathBuf> {
        self.image_with(site, agent, &[("agent.conf", b"[agent]\n")])
    }

    /// As [`Maker::image`], with these files in `/etc/keyhalf`.
    ///
    /// # Errors
    /// As [`Maker::image`].
    pub fn image_with(self, site: &Site, agent: &[u8], files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let name = self.name();
        let configured = site.dir().join(format!("{name}.configured"));
        fs::create_dir_all(configured.join("etc/keyhalf"))?;
        fs::create_dir_all(configured.join("usr/bin"))?;
        for (file, content) in files {
            fs::write(configured.join("etc/keyhalf").join(file), content)?;
        }
        executable(&configured.join("usr/bin/keyhalf-agent"), agent)?;
        let image = site.dir().join(format!("{name}.image"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut build = Command::new("unshare");
        build.args(["--mount", "--propagation", "private"]);
        build.arg(here.join("src/guest/build-image")).arg(name);
        build.arg(here.join("../agent-linux/initramfs"));
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
    let (root, disk) = (site.dir().join("root"), site.dir().join("disk"));
    for dir in [
        "bin", "sbin", "proc", "sys", "dev", "run", "tmp", "etc", "usr", "lib",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    let busybox = fs::read(packages()?.join("busybox/bin/busybox"))?;
    executable(&root.join("bin/busybox"), &busybox)?;
    symlink("busybox", root.join("bin/sh"))?;
    executable(&root.join("sbin/init"), init.as_bytes())?;
    // dracut takes a root without it for a broken one.
    fs::write(root.join("etc/os-release"), "ID=story\n")?;
    fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk);
    let status = make.status()?;
    if !status.success() {
        return Err(format!("mke2fs: {status}").into());
    }
    Ok(disk)
}

fn executable(path: &Path, content: &[u8]) -> Result {
    fs::write(path, content)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

const DISK_BYTES: u64 = 32 << 20;

/// dracut takes 15 seconds where nothing else runs.
const LIMIT: Duration = Duration::from_secs(180);
