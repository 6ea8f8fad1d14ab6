//! Our own initramfs: busybox, the kernel's modules, an init script, and the static agent.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::guest::cpio::Archive;
use crate::guest::kernel::{Kernel, packages};

/// An initramfs that can still be added to.
#[derive(Clone, Debug)]
pub struct Initramfs {
    archive: Archive,
}

impl Initramfs {
    /// One that starts and waits for commands: no agent in it.
    ///
    /// # Errors
    /// Its programs aren't unpacked.
    pub fn minimal(kernel: &Kernel) -> Result<Self> {
        let mut archive = Archive::default();
        archive.written_now()?;
        for dir in ["/proc", "/sys", "/run", "/root", "/tmp", "/var/lib/keylime"] {
            archive.directory(dir, 0o755)?;
        }
        archive.device("/dev/console", 0o600, (5, 1))?;
        archive.device("/dev/null", 0o666, (1, 3))?;
        let home = packages()?;
        for (path, package) in [
            ("/bin/busybox", "busybox/bin/busybox"),
            // The documented payload's script asks for it by name.
            ("/bin/bash", "bash/bin/bash-static"),
            ("/bin/report", "report"),
        ] {
            archive.file(path, 0o755, read(&home.join(package))?)?;
        }
        archive.file("/init", 0o755, INIT.into())?;
        archive.file("/bin/goodbye", 0o755, GOODBYE.into())?;
        archive.link("/bin/sh", "busybox")?;
        let mut names = String::new();
        for module in kernel.modules() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("/lib/modules/{name}"), 0o644, read(module)?)?;
            names.push_str(&name);
            names.push('\n');
        }
        archive.file("/etc/guest/modules", 0o644, names.into())?;
        archive.file("/etc/passwd", 0o644, PASSWD.into())?;
        Ok(Self { archive })
    }

    /// With the static agent, which init starts with these arguments.
    ///
    /// # Errors
    /// The agent's file can't be read; an argument has a quote in it.
    pub fn agent(&mut self, program: &Path, arguments: &[&str]) -> Result {
        self.archive
            .file("/bin/keyhalf-agent", 0o755, read(program)?)?;
        let mut script = "#!/bin/sh\nexec keyhalf-agent".to_owned();
        for argument in arguments {
            if argument.contains('\'') {
                return Err(format!("the guest's shell can't be given {argument:?}").into());
            }
            script.push_str(&format!(" '{argument}'"));
        }
        script.push('\n');
        self.archive.file("/etc/guest/agent", 0o755, script.into())
    }

    /// With the static agent and `keyhalf-boot`, the script of the integrations, which init starts.
    ///
    /// # Errors
    /// The agent's file can't be read.
    pub fn early_boot(&mut self, program: &Path) -> Result {
        self.archive
            .file("/bin/keyhalf-agent", 0o755, read(program)?)?;
        self.archive
            .file("/bin/keyhalf-boot", 0o755, EARLY_BOOT.into())?;
        let script =
            "#!/bin/sh\nkeyhalf-boot\nread -r code </run/keyhalf-boot/code\nexit \"$code\"\n";
        self.archive.file("/etc/guest/agent", 0o755, script.into())
    }

    /// With a program that init runs before the agent.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn before_the_agent(&mut self, program: Vec<u8>) -> Result {
        self.file(BEFORE, 0o755, program)
    }

    /// With a file of one's choice.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) -> Result {
        self.archive.file(path, mode, content)
    }

    /// What the kernel unpacks.
    ///
    /// # Errors
    /// As [`Archive::bytes`].
    pub fn archive(&self) -> Result<Vec<u8>> {
        self.archive.bytes()
    }
}

/// Where init finds the program that it runs before the agent.
pub const BEFORE: &str = "/etc/guest/before";

const EARLY_BOOT: &str = include_str!("../../../agent-linux/initramfs/keyhalf-boot");
const INIT: &str = include_str!("init");
const GOODBYE: &str = include_str!("goodbye");
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()).into())
}
