//! What the integration adds to an initramfs: the files of an image made with it that one made without hasn't.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hw_tests::Result;
use hw_tests::node::Build;
use hw_tests::process::Program;
use hw_tests::site::{Site, programs};

use crate::figure::{Budget, Figure};

/// What makes images, as `build-image` knows them.
const MAKERS: [&str; 3] = ["dracut", "dracut-systemd", "initramfs-tools"];

/// What may be there beside the agent.
const ALLOWANCE_BYTES: f64 = 32.0 * 1024.0;

/// Bytes that the module and the hook add, by maker; the most of them counts.
///
/// # Errors
/// A maker fails, or makes what isn't an archive.
pub(crate) fn added(site: &Site) -> Result<Vec<Figure>> {
    let program = programs()?.join(Build::Static.program());
    let agent = fs::read(&program)?;
    let configured = configured(site, &agent)?;
    let installers = [programs()?.join(Build::Usual.program()), none(site)?];
    let (mut most, mut each) = (0, Vec::new());
    for maker in MAKERS {
        let [with, without] =
            installers
                .each_ref()
                .map(|installer| -> Result<BTreeMap<String, u64>> {
                    files(&image(site, maker, installer, &configured)?)
                });
        let (with, without) = (with?, without?);
        let more: BTreeMap<_, _> = with
            .iter()
            .map(|(path, &size)| {
                (
                    path,
                    size - without.get(path).map_or(0, |&had| had.min(size)),
                )
            })
            .filter(|(_, more)| *more > 0)
            .collect();
        for (path, size) in &more {
            eprintln!("{maker} adds {path}: {size}");
        }
        let bytes: u64 = more.values().sum();
        let modules = more
            .iter()
            .filter(|(path, _)| path.contains("lib/modules/"));
        let modules: u64 = modules.map(|(_, size)| size).sum();
        most = most.max(bytes);
        each.push(format!(
            "{maker} {bytes}, {modules} of them the kernel's modules"
        ));
    }
    Ok(vec![Figure {
        name: "initramfs_added_bytes",
        value: most as f64,
        unit: "bytes",
        budget: Budget::AtMost(agent.len() as f64 + ALLOWANCE_BYTES),
        how: format!(
            "files, uncompressed, that Debian 12's makers put into an image with the integration and not into one with the \
             network alone; the most of: {}; at most the static agent ({} bytes) and 32 KiB",
            each.join("; "),
            agent.len()
        ),
    }])
}

/// The agent and an empty configuration, as a system has them.
fn configured(site: &Site, agent: &[u8]) -> Result<PathBuf> {
    let root = site.dir().join("configured");
    fs::create_dir_all(root.join("etc/keyhalf"))?;
    fs::create_dir_all(root.join("usr/bin"))?;
    fs::write(root.join("etc/keyhalf/agent.conf"), "[agent]\n")?;
    executable(&root.join("usr/bin/keyhalf-agent"), agent)?;
    Ok(root)
}

fn executable(path: &Path, content: &[u8]) -> Result {
    fs::write(path, content)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// Installs an integration that does nothing but want the network too.
fn none(site: &Site) -> Result<PathBuf> {
    let program = site.dir().join("none");
    executable(&program, INSTALLS_NONE.as_bytes())?;
    Ok(program)
}

/// Called as the agent is: `install-initramfs --root SYSTEM --dracut` or `--initramfs-tools`.
const INSTALLS_NONE: &str = "#!/bin/sh
set -e
[ \"$4\" = --dracut ] || exit 0
module=$3/usr/lib/dracut/modules.d/95keyhalf
mkdir -p \"$module\"
cat >\"$module/module-setup.sh\" <<END
check() {
    return 0
}
depends() {
    echo network
}
install() {
    dracut_need_initqueue
}
END
";

fn image(site: &Site, maker: &str, installer: &Path, configured: &Path) -> Result<PathBuf> {
    let image = site.dir().join("image");
    let mut build = Command::new("unshare");
    build.args(["--mount", "--propagation", "private"]);
    build.arg(here().join("src/guest/build-image")).arg(maker);
    build.args([installer, configured, &image]);
    let log = site.log(&format!("the maker of {maker}'s image"));
    match Program::start(build, log)?.wait(LIMIT)? {
        status if status.success() => Ok(image),
        status => Err(format!("{maker} makes no image: {status}").into()),
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of an image, and their sizes.
fn files(image: &Path) -> Result<BTreeMap<String, u64>> {
    // As initramfs-tools is told to compress it; dracut is told not to.
    let unpacked = Command::new("gzip").args(["-dcf"]).arg(image).output()?;
    if !unpacked.status.success() {
        return Err(format!("gzip: {}", unpacked.status).into());
    }
    let (archive, mut at) = (unpacked.stdout, 0);
    let mut found = BTreeMap::new();
    // One archive may follow another, with zeros between them.
    let next = |at| Some(at + archive.get(at..)?.iter().position(|&byte| byte != 0)?);
    while let Some(start) = next(at) {
        at = start;
        let entry = archive.get(at..).unwrap_or_default();
        let head = entry.get(..HEAD).ok_or("an archive that is cut off")?;
        if !head.starts_with(MAGIC) {
            return Err(format!("no entry of an archive at {at}").into());
        }
        let number = |field: usize| -> Result<usize> {
            let digits = head.get(6 + 8 * field..14 + 8 * field).unwrap_or_default();
            Ok(usize::from_str_radix(std::str::from_utf8(digits)?, 16)?)
        };
        let (size, name_size) = (number(6)?, number(11)?);
        let name = entry.get(HEAD..HEAD + name_size).unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let name = name.trim_end_matches('\0').trim_start_matches("./");
        if name != "TRAILER!!!" {
            found.insert(name.to_owned(), size as u64);
        }
        at += (HEAD + name_size).next_multiple_of(4) + size.next_multiple_of(4);
    }
    Ok(found)
}

const MAGIC: &[u8] = b"07070";
/// Six digits of magic, thirteen fields of eight.
const HEAD: usize = 6 + 13 * 8;

/// dracut takes 15 seconds where nothing else runs.
const LIMIT: Duration = Duration::from_secs(300);
