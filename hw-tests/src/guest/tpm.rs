//! A software TPM behind QEMU's TPM device: its state stays from boot to boot, as a real one's does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::process::{LIMIT, Log, Program, until};
use crate::site::{Site, fresh_address};
use crate::swtpm::manufacture;

/// A TPM with an endorsement certificate, switched off.
#[derive(Debug)]
pub struct GuestTpm {
    dir: PathBuf,
    log: Arc<Log>,
}

/// A TPM that waits for QEMU, and ends with it.
#[derive(Debug)]
pub struct Powered {
    socket: PathBuf,
    program: Program,
}

impl GuestTpm {
    /// A new TPM, of the same manufacturer as all others.
    ///
    /// # Errors
    /// swtpm_setup fails.
    pub fn fresh(site: &Site) -> Result<Self> {
        let name = fresh_address();
        let dir = site.dir().join(format!("tpm-{name}"));
        fs::create_dir_all(&dir)?;
        manufacture(&dir, &["--create-ek-cert"])?;
        Ok(Self::at(site, dir))
    }

    /// The TPM whose state is in `dir`.
    pub fn at(site: &Site, dir: PathBuf) -> Self {
        let log = site.log(&format!("swtpm {}", dir.display()));
        Self { dir, log }
    }

    /// Where its state is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Switches it on.
    ///
    /// # Errors
    /// swtpm doesn't start.
    pub fn power_on(&self) -> Result<Powered> {
        let socket = self.dir.join("control");
        let _from_before = fs::remove_file(&socket);
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--terminate", "--tpmstate"]);
        swtpm.arg(format!("dir={}", self.dir.display()));
        swtpm.arg("--ctrl");
        swtpm.arg(format!("type=unixio,path={}", socket.display()));
        let mut program = Program::start(swtpm, Arc::clone(&self.log))?;
        until(LIMIT, "TPM", || match program.wait(Duration::ZERO) {
            Ok(ended) => Some(Err(format!("swtpm ended with {ended}"))),
            Err(_still_runs) => socket.exists().then_some(Ok(())),
        })??;
        Ok(Powered { socket, program })
    }
}

impl Powered {
    /// What QEMU connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until it has written its state and ended, after QEMU has.
    ///
    /// # Errors
    /// It goes on.
    pub fn wait_for_end(mut self) -> Result {
        self.program.wait(LIMIT)?;
        Ok(())
    }
}
