//! Machines that really boot: a kernel, an initramfs with the static agent in it, and a TPM, in QEMU.
//!
//! A story makes a [`Guest`], lets it [`Guest::boot`] as often as it likes, and talks to the [`Boot`]: it waits for what the
//! console says, runs commands in the guest, and lets it end. Servers that a guest shall reach are at addresses of
//! [`network::reachable_address`]; its agent is at [`Guest::ip`], as a [`crate::node::Node`]'s.
//!
//! | module | what it stands for |
//! | --- | --- |
//! | [`kernel`] | Debian's kernel with the modules that a guest loads |
//! | [`cpio`], [`initramfs`] | what the kernel unpacks at its start: the archive, and ours |
//! | [`distribution`] | images as dracut and initramfs-tools make them |
//! | [`luks`] | an encrypted disk |
//! | [`tpm`] | a software TPM behind QEMU's TPM device |
//! | [`efi`] | what UEFI firmware boots from: partition and boot entry |
//! | [`network`] | where a guest and the servers meet |
//! | [`boot`] | one run of QEMU, from power-on to its end |
//!
//! `./hw-tests/test qemu` unpacks what is needed. Machines are emulated, so that all of it works anywhere and at the same
//! speed; with `KEYHALF_KVM=1` the processor's own virtualization is used.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::node::Build;
use crate::servers::{Servers, VERIFIER_PORT, ca_file};
use crate::site::{Site, fresh_address, programs};

pub mod boot;
pub mod cpio;
pub mod distribution;
pub mod efi;
pub mod initramfs;
pub mod kernel;
pub mod luks;
pub mod network;
pub mod tpm;

use boot::{Boot, Firmware, Power};
use efi::{Files, Partition, Start};
use initramfs::Initramfs;
use kernel::Kernel;
use tpm::GuestTpm;

/// A machine that can be booted.
#[derive(Debug)]
pub struct Guest<'site> {
    site: &'site Site,
    dir: PathBuf,
    address: Ipv4Addr,
    kernel: Kernel,
    initramfs: Initramfs,
    tpm: GuestTpm,
    firmware: Firmware,
    command_line: String,
    start: Option<Start>,
    clock: Option<String>,
    image: Option<PathBuf>,
    disk: Option<PathBuf>,
    disk_keeps: bool,
    limit: Duration,
}

impl<'site> Guest<'site> {
    /// A machine with our minimal initramfs and nothing to do.
    ///
    /// # Errors
    /// Kernel or programs of the guest aren't there.
    pub fn new(site: &'site Site, tpm: GuestTpm) -> Result<Self> {
        let address = fresh_address();
        let dir = site.dir().join(format!("guest-{address}"));
        std::fs::create_dir_all(&dir)?;
        let kernel = Kernel::unpacked()?;
        let initramfs = Initramfs::minimal(&kernel)?;
        Ok(Self {
            site,
            dir,
            address,
            kernel,
            initramfs,
            tpm,
            firmware: Firmware::Bios,
            command_line: COMMAND_LINE.to_owned(),
            start: None,
            clock: None,
            image: None,
            disk: None,
            disk_keeps: false,
            limit: Firmware::Bios.limit(),
        })
    }

    /// A machine whose agent listens for verifier and tenant, with these options beside its own.
    ///
    /// # Errors
    /// As [`Guest::new`]; the static agent isn't built.
    pub fn serving(servers: &impl Servers<'site>, tpm: GuestTpm, options: &[&str]) -> Result<Self> {
        let mut guest = Self::new(servers.site(), tpm)?;
        let (contact, registrar) = (guest.ip(), servers.registrar().to_string());
        let own = [
            ["--ip", network::GUEST],
            ["--contact-ip", &contact],
            ["--registrar-ip", &registrar],
            ["--trusted-client-ca", ANCHOR],
        ];
        let arguments = [&["serve"], own.as_flattened(), options].concat();
        let anchor = std::fs::read(ca_file(servers.machine(), "cacert.crt"))?;
        let agent = programs()?.join(Build::Static.program());
        guest.initramfs.file(ANCHOR, 0o644, anchor)?;
        guest.initramfs.agent(&agent, &arguments)?;
        Ok(guest)
    }

    /// A machine that gets its secret by `keyhalf-boot` and `provision`. Its image trusts the servers' CA and the tenant whose
    /// certificate is in the file `signer`; the kernel's command line says where the verifier is.
    ///
    /// # Errors
    /// As [`Guest::serving`]; no file `signer`.
    pub fn provisioning(
        servers: &impl Servers<'site>,
        signer: &Path,
        tpm: GuestTpm,
    ) -> Result<Self> {
        let mut guest = Self::new(servers.site(), tpm)?;
        for (name, content) in configuration(servers, signer)? {
            guest
                .initramfs
                .file(&format!("/etc/{name}"), 0o644, content)?;
        }
        let agent = programs()?.join(Build::Static.program());
        guest.initramfs.early_boot(&agent)?;
        guest.append(&verifier_word(servers.verifier()));
        Ok(guest)
    }

    /// With this firmware.
    #[must_use]
    pub fn with_firmware(self, firmware: Firmware) -> Self {
        Self {
            firmware,
            limit: firmware.limit(),
            ..self
        }
    }

    /// With UEFI firmware that boots from a partition, instead of what QEMU hands over. Such boots take longer.
    #[must_use]
    pub fn with_partition(self, start: Start) -> Self {
        Self {
            start: Some(start),
            limit: PARTITION_LIMIT,
            ..self.with_firmware(Firmware::Uefi)
        }
    }

    /// With a distribution's initramfs instead of ours, and a disk to go on to. Such boots take longer.
    #[must_use]
    pub fn with_image(self, image: PathBuf, disk: PathBuf) -> Self {
        Self {
            image: Some(image),
            disk: Some(disk),
            limit: DISTRIBUTION_LIMIT,
            ..self
        }
    }

    /// With a disk that keeps what is written to it.
    #[must_use]
    pub fn keeping_its_disk(self) -> Self {
        Self {
            disk_keeps: true,
            ..self
        }
    }

    /// With these words at the end of the kernel's command line.
    pub fn append(&mut self, words: &str) {
        self.command_line = format!("{} {words}", self.command_line);
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Another command line.
    pub fn use_command_line(&mut self, words: &str) {
        words.clone_into(&mut self.command_line);
    }

    /// Another kernel: this file.
    pub fn use_kernel(&mut self, image: PathBuf) {
        self.kernel.replace_image(image);
    }

    /// Its kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Its clock shows this when it is switched on, as QEMU is told: `1970-01-01T00:00:00`.
    pub fn set_clock(&mut self, time: &str) {
        self.clock = Some(time.to_owned());
    }

    /// What its kernel unpacks.
    pub fn initramfs(&mut self) -> &mut Initramfs {
        &mut self.initramfs
    }

    /// Another TPM takes the place of the one that it has.
    pub fn use_tpm(&mut self, tpm: GuestTpm) -> GuestTpm {
        std::mem::replace(&mut self.tpm, tpm)
    }

    /// Its TPM.
    pub fn tpm(&self) -> &GuestTpm {
        &self.tpm
    }

    /// The address where the host finds its agent.
    pub fn ip(&self) -> String {
        self.address.to_string()
    }

    /// What it will boot from, if that is a partition: written anew, as an update does.
    ///
    /// # Errors
    /// As [`Partition::write`].
    pub fn partition(&self) -> Result<Option<Partition>> {
        let Some(start) = self.start else {
            return Ok(None);
        };
        let files = Files {
            kernel: self.kernel.image(),
            initramfs: &self.unpacked()?,
            command_line: &self.command_line,
        };
        Partition::write(self.dir.join("partition"), start, files).map(Some)
    }

    /// The file that the kernel unpacks.
    fn unpacked(&self) -> Result<PathBuf> {
        if let Some(image) = &self.image {
            return Ok(image.clone());
        }
        let ours = self.dir.join("initramfs");
        std::fs::write(&ours, self.initramfs.archive()?)?;
        Ok(ours)
    }

    /// Switches it on.
    ///
    /// # Errors
    /// The TPM or QEMU doesn't start.
    pub fn boot(&self) -> Result<Boot> {
        let (initramfs, partition) = (self.unpacked()?, self.partition()?);
        Boot::start(
            self.site,
            Power {
                dir: &self.dir,
                kernel: self.kernel.image(),
                initramfs: &initramfs,
                command_line: &self.command_line,
                partition: partition.as_ref(),
                clock: self.clock.as_deref(),
                disk: self.disk.as_deref(),
                disk_keeps: self.disk_keeps,
                memory_mib: MEMORY_MIB,
                firmware: self.firmware,
                limit: self.limit,
                forward: &network::forward(self.address),
                tpm: &self.tpm,
            },
        )
    }
}

/// Files of `/etc` in an image that calls these servers, and trusts the tenant whose certificate is in `signer`.
///
/// # Errors
/// A certificate can't be read.
pub fn configuration<'site>(
    servers: &impl Servers<'site>,
    signer: &Path,
) -> Result<[(&'static str, Vec<u8>); 3]> {
    let authority = ca_file(servers.machine(), "cacert.crt");
    let registrar = servers.registrar();
    let configured = format!("[agent]\nregistrar_ip = \"{registrar}\"\n");
    Ok([
        ("keyhalf/agent.conf", configured.into_bytes()),
        ("keyhalf/verifier-ca.pem", std::fs::read(authority)?),
        ("keyhalf/tenant-signer.pem", std::fs::read(signer)?),
    ])
}

/// The word of the kernel's command line that says where the verifier is.
pub fn verifier_word(verifier: Ipv4Addr) -> String {
    format!("keyhalf.verifier=https://{verifier}:{VERIFIER_PORT}")
}

/// Where the agent in a guest has the certificate by which it knows the servers.
pub const ANCHOR: &str = "/etc/keyhalf/cacert.crt";

/// The console is the first serial port; a kernel that panics resets, and QEMU ends then.
pub const COMMAND_LINE: &str = "console=ttyS0 panic=-1";

/// A distribution's initramfs starts udev, and waits for devices.
const DISTRIBUTION_LIMIT: Duration = Duration::from_secs(240);

/// Firmware reads the kernel from a disk, and hashes it more than once, before it says anything.
const PARTITION_LIMIT: Duration = Duration::from_secs(240);

/// Main memory of a guest.
pub const MEMORY_MIB: u32 = 512;
