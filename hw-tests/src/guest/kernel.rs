//! A kernel for guests: Debian's for clouds, unpacked and never installed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// A kernel image, and the modules that a guest loads.
#[derive(Clone, Debug)]
pub struct Kernel {
    image: PathBuf,
    modules: Vec<PathBuf>,
    files: BTreeMap<String, PathBuf>,
    built_in: String,
}

/// The directory that `./hw-tests/test qemu` has unpacked packages to, one directory for each.
///
/// # Errors
/// It hasn't.
pub fn packages() -> Result<PathBuf> {
    let home = env::var_os("KEYHALF_GUEST");
    let home = home.ok_or("what guests boot isn't unpacked: run ./hw-tests/test qemu [NAME]")?;
    Ok(home.into())
}

impl Kernel {
    /// The unpacked one.
    ///
    /// # Errors
    /// It isn't unpacked, or a module is neither there nor built in.
    pub fn unpacked() -> Result<Self> {
        let home = packages()?.join("kernel");
        let boot = fs::read_dir(home.join("boot"))?.flatten();
        let image = boot
            .map(|entry| entry.path())
            .find(|path| file_name(path).starts_with("vmlinuz-"))
            .ok_or("no vmlinuz in the kernel's package")?;
        let release = file_name(&image)["vmlinuz-".len()..].to_owned();
        let tree = home.join("lib/modules").join(release);
        let mut files = BTreeMap::new();
        collect(&tree, &mut files)?;
        let mut kernel = Self {
            image,
            modules: Vec::new(),
            files,
            built_in: fs::read_to_string(tree.join("modules.builtin"))?,
        };
        for name in MODULES {
            kernel.modules.extend(kernel.module(name)?);
        }
        Ok(kernel)
    }

    /// The file of a module, or `None` if it is built in.
    ///
    /// # Errors
    /// The kernel hasn't it.
    pub fn module(&self, name: &str) -> Result<Option<PathBuf>> {
        let file = format!("{name}.ko");
        match self.files.get(&file) {
            Some(path) => Ok(Some(path.clone())),
            None if self
                .built_in
                .lines()
                .any(|line| file_name(Path::new(line)) == file) =>
            {
                Ok(None)
            }
            None => Err(format!("{} has no {file}", self.image.display()).into()),
        }
    }

    /// The file that QEMU loads.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// QEMU loads this file instead; the modules stay.
    pub fn replace_image(&mut self, image: PathBuf) {
        self.image = image;
    }

    /// Modules for a guest's devices, in the order in which they can be loaded.
    pub fn modules(&self) -> &[PathBuf] {
        &self.modules
    }
}

/// Each after those that it needs: the virtio bus, then its network card.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

fn collect(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result {
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, found)?;
        } else {
            found.insert(file_name(&path), path);
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into()
}
