//! A machine's file system: its own `/root` and `/var/lib/keylime`, and mounts that stay when a program dies.
//!
//! A mount namespace that an idle process holds open. Programs enter it; when the [`Machine`] is dropped the holder's
//! standard input closes, it ends, and the mounts go with it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::site::{self, Site};

/// Where a machine finds the programs under test, whatever lies over `/root`.
pub const PROGRAMS: &str = "/mnt/bin";

/// Keylime's directory, on every machine.
pub const KEYLIME: &str = "/var/lib/keylime";

/// Where an agent that calls its verifier unpacks.
pub const LANDING: &str = "/run/keyhalf";

/// One machine.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    holder: Child,
    network: Wires,
}

/// To which network a machine belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wires {
    /// To that of all scenarios.
    Shared,
    /// To one of its own.
    Own,
}

impl Machine {
    /// A machine with an empty `/root`, `/run` and `/var/lib/keylime`.
    ///
    /// # Errors
    /// The namespace can't be made.
    pub fn new(site: &Site, name: &str) -> Result<Self> {
        Self::make(site, name, Wires::Shared)
    }

    /// The same with a network of its own, in which no device is up: [`Network::host`](crate::network::Network::host) connects
    /// it.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn with_network(site: &Site, name: &str) -> Result<Self> {
        Self::make(site, name, Wires::Own)
    }

    fn make(site: &Site, name: &str, network: Wires) -> Result<Self> {
        let dir = site.dir().join(name);
        for part in ["keylime", "root", "work"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let set_up = r#"set -e
            mount --bind "$1" "$4"
            mount -t tmpfs -o mode=0755 tmpfs /var/lib
            mkdir /var/lib/keylime
            mount -t tmpfs -o mode=0755 tmpfs /run
            mount --bind "$2/keylime" "$3"
            mount --bind "$2/root" /root
            echo ready
            exec cat"#;
        let mut holder = Command::new("unshare");
        if network == Wires::Own {
            holder.arg("--net");
        }
        let mut holder = holder
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                set_up,
                "machine",
            ])
            .args([
                site::programs()?.as_os_str(),
                dir.as_os_str(),
                OsStr::new(KEYLIME),
                OsStr::new(PROGRAMS),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        if let Some(pipe) = holder.stdout.take() {
            BufReader::new(pipe).read_line(&mut said)?;
        }
        if said != "ready\n" {
            return Err(format!("machine {name}: its mounts failed").into());
        }
        Ok(Self {
            dir,
            holder,
            network,
        })
    }

    /// A command on this machine, with a clean environment. `program` is one of ours, or any that `PATH` finds.
    pub fn command(&self, program: &str) -> Command {
        let ours = Path::new(PROGRAMS).join(program);
        let ours_exists = site::programs().is_ok_and(|dir| dir.join(program).exists());
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        if self.network == Wires::Own {
            command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        }
        command.arg("--").args(["env", "--chdir"]).arg(self.work());
        command.arg(if ours_exists {
            ours.as_os_str()
        } else {
            OsStr::new(program)
        });
        command.env_clear();
        command
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root");
        command
    }

    /// The process whose namespaces are the machine's.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// Its `/root`, as seen from outside.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Its `/var/lib/keylime`, as seen from outside: what lies in mounts below it is in [`Machine::inside`].
    pub fn keylime(&self) -> PathBuf {
        self.dir.join("keylime")
    }

    /// Where its programs start.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// A path of this machine, its mounts included, as seen from outside.
    pub fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Forgets what a boot forgets: `/run` with all that is mounted in it.
    ///
    /// # Errors
    /// It is in use.
    pub fn forget(&self) -> Result {
        let script = "umount -R /run && mount -t tmpfs -o mode=0755 tmpfs /run";
        match self.command("sh").args(["-c", script]).status()? {
            status if status.success() => Ok(()),
            status => Err(format!("/run can't be emptied: {status}").into()),
        }
    }

    /// The landing zone's unpacked payload, as seen from outside.
    pub fn unzipped(&self) -> PathBuf {
        self.inside(KEYLIME).join("secure/unzipped")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ended = self.holder.wait();
    }
}
