//! What UEFI firmware boots from: an EFI system partition, and the boot entry that names an image on it.
//!
//! QEMU shows a directory as a FAT disk. The entry is written into a copy of OVMF's empty variables, as an installer's
//! `efibootmgr` has it written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// What the firmware starts, and what that finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The kernel, which reads the initramfs by itself: its load options name it.
    Kernel,
    /// systemd-boot, which hands the kernel its initramfs.
    Loader,
    /// A unified kernel image.
    Unified,
}

/// The files of a boot.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// What it unpacks.
    pub initramfs: &'a Path,
    /// What it is told.
    pub command_line: &'a str,
}

/// An EFI system partition with all that a boot needs.
#[derive(Clone, Debug)]
pub struct Partition {
    dir: PathBuf,
    entry: Entry,
}

/// A boot entry: an image on the partition, and what it is told.
#[derive(Clone, Debug)]
struct Entry {
    image: &'static str,
    options: String,
}

impl Partition {
    /// Writes a partition into a directory, in the place of what was there.
    ///
    /// # Errors
    /// A file can't be written; the boot loader's package isn't installed.
    pub fn write(dir: PathBuf, start: Start, files: Files<'_>) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let entry = match start {
            Start::Unified => {
                unify(&dir, files)?;
                Entry::of(UNIFIED, "")
            }
            Start::Kernel | Start::Loader => {
                fs::copy(files.kernel, dir.join(KERNEL))?;
                fs::copy(files.initramfs, dir.join(INITRAMFS))?;
                let command_line = files.command_line;
                if start == Start::Loader {
                    loader(&dir, command_line)?;
                    Entry::of(LOADER, "")
                } else {
                    Entry::of(KERNEL, &format!("{command_line} initrd=\\{INITRAMFS}"))
                }
            }
        };
        Ok(Self { dir, entry })
    }

    /// Where one of its files is.
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The command line that the kernel gets from the boot entry.
    pub fn load_options(&self) -> &str {
        &self.entry.options
    }

    /// The options of QEMU that show it as a disk.
    pub(super) fn drive(&self) -> [String; 2] {
        let drive = format!(
            "file=fat:{},format=raw,if=virtio,read-only=on",
            self.dir.display()
        );
        ["-drive".to_owned(), drive]
    }

    /// Writes the firmware's variables: a new machine's, and the boot entry.
    pub(super) fn write_variables(&self, empty: &Path, to: &Path) -> Result {
        let mut variables = fs::read(empty)?;
        let added = [
            variable("Boot0000", &self.entry.load_option()),
            variable("BootOrder", &[0, 0]),
        ]
        .concat();
        let room = variables.get_mut(FIRST_VARIABLE..FIRST_VARIABLE + added.len());
        let room = room.filter(|room| room.iter().all(|byte| *byte == ERASED));
        room.ok_or("the firmware's variables aren't empty")?
            .copy_from_slice(&added);
        Ok(fs::write(to, variables)?)
    }
}

impl Entry {
    fn of(image: &'static str, options: &str) -> Self {
        let options = options.to_owned();
        Self { image, options }
    }

    /// An `EFI_LOAD_OPTION`: active, a name, a device path of the file's path alone, the load options.
    fn load_option(&self) -> Vec<u8> {
        let path = utf_16(&format!("\\{}\0", self.image));
        let length = |size: usize| u16::try_from(size).unwrap_or(u16::MAX).to_le_bytes();
        let node = [&[4, 4][..], &length(4 + path.len()), &path].concat();
        let device_path = [&node[..], &[0x7f, 0xff, 4, 0]].concat();
        [
            &1_u32.to_le_bytes()[..],
            &length(device_path.len()),
            &utf_16("guest\0"),
            &device_path,
            &utf_16(&self.options),
        ]
        .concat()
    }
}

/// An authenticated variable as EDK II stores it: kept, and for boot services and the system.
fn variable(name: &str, data: &[u8]) -> Vec<u8> {
    let name = utf_16(&format!("{name}\0"));
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut variable = [
        &[0xaa, 0x55, 0x3f, 0][..],
        &7_u32.to_le_bytes(),
        // A count, a time and a key, for variables that are signed.
        &[0; 8 + 16 + 4],
        &size(&name),
        &size(data),
        &GLOBAL,
        &name,
        data,
    ]
    .concat();
    variable.resize(variable.len().next_multiple_of(4), ERASED);
    variable
}

/// systemd-boot with one entry.
fn loader(dir: &Path, command_line: &str) -> Result {
    let systemd_boot = Path::new(SYSTEMD).join("systemd-bootx64.efi");
    fs::copy(systemd_boot, dir.join(LOADER))?;
    let entries = dir.join("loader/entries");
    fs::create_dir_all(&entries)?;
    let entry =
        format!("title guest\nlinux /{KERNEL}\ninitrd /{INITRAMFS}\noptions {command_line}\n");
    Ok(fs::write(entries.join("guest.conf"), entry)?)
}

/// A unified kernel image, made with objcopy as `systemd-stub(7)` of Debian 12 shows it.
fn unify(dir: &Path, files: Files<'_>) -> Result {
    let stub = Path::new(SYSTEMD).join("linuxx64.efi.stub");
    let (release, command_line) = (dir.join("release"), dir.join("cmdline"));
    fs::write(&release, "ID=guest\nVERSION_ID=1\n")?;
    fs::write(&command_line, files.command_line)?;
    let mut objcopy = Command::new("objcopy");
    let mut address = FIRST_SECTION;
    for (name, content) in [
        (".osrel", release.as_path()),
        (".cmdline", &command_line),
        (".linux", files.kernel),
        (".initrd", files.initramfs),
    ] {
        objcopy.arg("--add-section");
        objcopy.arg(format!("{name}={}", content.display()));
        objcopy.arg("--change-section-vma");
        objcopy.arg(format!("{name}={address:#x}"));
        address += fs::metadata(content)?.len().next_multiple_of(PAGE);
    }
    let status = objcopy.arg(stub).arg(dir.join(UNIFIED)).status()?;
    fs::remove_file(release)?;
    fs::remove_file(command_line)?;
    if !status.success() {
        return Err(format!("objcopy: {status}").into());
    }
    without_time(&dir.join(UNIFIED))
}

/// objcopy writes the time into an image's header; the same files shall be the same image.
fn without_time(image: &Path) -> Result {
    let mut bytes = fs::read(image)?;
    let header = bytes.get(0x3c..0x40).ok_or("no DOS header")?;
    let header = usize::try_from(u32::from_le_bytes(header.try_into()?))?;
    let time = bytes.get_mut(header + 8..header + 12);
    time.ok_or("no PE header")?.fill(0);
    Ok(fs::write(image, bytes)?)
}

fn utf_16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The kernel's name on the partition.
pub const KERNEL: &str = "linux.efi";
/// The initramfs's name on the partition.
pub const INITRAMFS: &str = "initrd.img";
/// systemd-boot's name on the partition.
pub const LOADER: &str = "loader.efi";
/// A unified kernel image's name on the partition.
pub const UNIFIED: &str = "unified.efi";

/// Where the package systemd-boot-efi has its programs.
const SYSTEMD: &str = "/usr/lib/systemd/boot/efi";

/// Behind the headers of the firmware volume (72 bytes) and of the variable store in it (28 bytes).
const FIRST_VARIABLE: usize = 100;

/// What flash holds where nothing was written.
const ERASED: u8 = 0xff;

/// `EFI_GLOBAL_VARIABLE`, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];

/// Behind all of the stub's own sections.
const FIRST_SECTION: u64 = 0x10_0000;
const PAGE: u64 = 0x1000;
