//! A TPM 2.0 of its own for each node, with seeds and an endorsement certificate that no other has.
//!
//! All of them come from one manufacturer, whose CA certificates are what a tenant has in its trust store.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::bus::{self, Bus, Tally};
use crate::process::{LIMIT, Program, until};
use crate::site::{Site, fresh_address};

/// The port of the TSS for a software TPM's commands; its control channel is the next one.
pub const PORT: u16 = 2321;

/// A software TPM.
#[derive(Debug)]
pub struct Swtpm {
    dir: PathBuf,
    address: Ipv4Addr,
    bus: Bus,
    running: Mutex<Option<Program>>,
    site_log: std::sync::Arc<crate::process::Log>,
}

impl Swtpm {
    /// A new TPM, switched on.
    ///
    /// # Errors
    /// swtpm_setup or swtpm fails.
    pub fn fresh(site: &Site) -> Result<Self> {
        Self::fresh_at(site, fresh_address())
    }

    /// As [`Swtpm::fresh`], reached at an address of one's choice.
    ///
    /// # Errors
    /// As [`Swtpm::fresh`].
    pub fn fresh_at(site: &Site, address: Ipv4Addr) -> Result<Self> {
        Self::new(site, address, &["--create-ek-cert"])
    }

    /// A new TPM without an endorsement certificate, switched on.
    ///
    /// # Errors
    /// As [`Swtpm::fresh`].
    pub fn without_certificate(site: &Site) -> Result<Self> {
        Self::new(site, fresh_address(), &[])
    }

    fn new(site: &Site, address: Ipv4Addr, extras: &[&str]) -> Result<Self> {
        let dir = site.dir().join(format!("tpm-{address}"));
        fs::create_dir_all(&dir)?;
        manufacture(&dir, extras)?;
        let bus = Bus::new(TcpListener::bind((address, PORT))?);
        let tpm = Self {
            dir,
            address,
            bus,
            running: Mutex::new(None),
            site_log: site.log(&format!("swtpm {address}")),
        };
        tpm.power_on()?;
        Ok(tpm)
    }

    /// How a TSS reaches it.
    pub fn tcti(&self) -> String {
        format!("swtpm:host={},port={PORT}", self.address)
    }

    /// Switches it on, as its machine's power button would; PCRs are as after a reset.
    ///
    /// # Errors
    /// swtpm doesn't start.
    pub fn power_on(&self) -> Result {
        self.start("startup-clear")
    }

    /// Lets its machine sleep and wake: `TPM2_Shutdown` that keeps the state, power off, power on with that state.
    ///
    /// # Errors
    /// The TPM refuses, or doesn't start again.
    pub fn suspend_and_resume(&self) -> Result {
        self.shut_down(1)?;
        self.cut_power()?;
        self.start("startup-state")
    }

    /// Lets its machine restart after it was shut down to sleep: `TPM2_Shutdown` that keeps the state, then a start that drops it.
    /// The TPM counts a restart, no reset.
    ///
    /// # Errors
    /// As [`Swtpm::suspend_and_resume`].
    pub fn restart(&self) -> Result {
        self.shut_down(1)?;
        self.cut_power()?;
        self.power_on()
    }

    fn start(&self, startup: &str) -> Result {
        let socket = self.dir.join("socket");
        let _from_before = fs::remove_file(&socket);
        let mut swtpm = Command::new("swtpm");
        let flags = format!("not-need-init,{startup}");
        swtpm.args(["socket", "--tpm2", "--flags", &flags]);
        swtpm
            .arg("--tpmstate")
            .arg(format!("dir={}", self.dir.display()));
        swtpm
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()));
        swtpm.arg("--ctrl").arg(format!(
            "type=tcp,bindaddr={},port={}",
            self.address,
            PORT + 1
        ));
        let mut program = Program::start(swtpm, self.site_log.clone())?;
        let wire = until(LIMIT, "TPM", || {
            match program.wait(std::time::Duration::ZERO) {
                Ok(ended) => Some(Err(format!("swtpm ended with {ended}"))),
                Err(_still_runs) => UnixStream::connect(&socket).ok().map(Ok),
            }
        })??;
        self.bus.attach(Some(wire));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(program);
        Ok(())
    }

    /// Cuts its power: no `TPM2_Shutdown`.
    ///
    /// # Errors
    /// swtpm can't be ended.
    pub fn cut_power(&self) -> Result {
        self.bus.attach(None);
        let program = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        program.map_or(Ok(()), Program::kill)
    }

    /// Boots its machine again in good order: `TPM2_Shutdown`, power off, power on.
    ///
    /// # Errors
    /// The TPM refuses, or doesn't start again.
    pub fn reboot(&self) -> Result {
        self.shut_down(0)?;
        self.cut_power()?;
        self.power_on()
    }

    /// `TPM2_Shutdown`: `TPM_SU_CLEAR` is 0, `TPM_SU_STATE` 1.
    fn shut_down(&self, kind: u8) -> Result {
        // TPM_ST_NO_SESSIONS, 12 bytes, the command, its argument.
        let shutdown = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, kind];
        match bus::code_of(&self.bus.transact(&shutdown)?) {
            0 => Ok(()),
            code => Err(format!("TPM2_Shutdown: {code:#x}").into()),
        }
    }

    /// Extends a PCR in both banks with the digest of some event, as firmware does when it measures something else.
    ///
    /// # Errors
    /// The TPM refuses.
    pub fn extend(&self, pcr: u32, event: u8) -> Result {
        for (bank, size) in [(0x000b_u16, 32), (0x000c, 48)] {
            let mut command = vec![0x80, 0x02, 0, 0, 0, 0];
            command.extend(bus::code::PCR_EXTEND.to_be_bytes());
            command.extend(pcr.to_be_bytes());
            command.extend(EMPTY_PASSWORD);
            command.extend(1_u32.to_be_bytes());
            command.extend(bank.to_be_bytes());
            command.extend(vec![event; size]);
            let length = u32::try_from(command.len())?.to_be_bytes();
            command[2..6].copy_from_slice(&length);
            match bus::code_of(&self.bus.transact(&command)?) {
                0 => {}
                code => {
                    return Err(
                        format!("extending PCR {pcr} of bank {bank:#06x}: {code:#x}").into(),
                    );
                }
            }
        }
        Ok(())
    }

    /// What it was asked so far.
    pub fn tally(&self) -> Tally {
        self.bus.tally()
    }

    /// Runs a program of tpm2-tools against it and returns what that printed.
    ///
    /// # Errors
    /// The program fails.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.dir)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Where [`Swtpm::tool`] reads and writes files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// An authorisation area: its size, `TPM_RS_PW`, empty nonce, no attributes, empty password.
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// Makes the state of a new TPM in `dir`.
pub(crate) fn manufacture(dir: &Path, extras: &[&str]) -> Result {
    // One at a time: the first makes the manufacturer's CA that the others use.
    static FACTORY: Mutex<()> = Mutex::new(());
    let _one_at_a_time = FACTORY.lock().unwrap_or_else(PoisonError::into_inner);
    let factory = factory()?;
    let output = Command::new("swtpm_setup")
        .args(["--tpm2", "--pcr-banks", "sha256,sha384"])
        .args(extras)
        .arg("--tpmstate")
        .arg(dir)
        .arg("--config")
        .arg(factory.join("setup.conf"))
        .output()
        .map_err(|error| format!("swtpm_setup: {error}"))?;
    if !output.status.success() {
        return Err(format!("swtpm_setup: {}", String::from_utf8_lossy(&output.stdout)).into());
    }
    Ok(())
}

/// The manufacturer's directory, the same for all TPMs of this process.
fn factory() -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("tpm-factory-{}", std::process::id()));
    if dir.exists() {
        return Ok(dir);
    }
    fs::create_dir_all(dir.join("ca"))?;
    let ca = dir.join("ca");
    let ca = ca.display();
    fs::write(
        dir.join("localca.conf"),
        format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"
        ),
    )?;
    fs::write(
        dir.join("localca.options"),
        "--platform-manufacturer keyhalf\n--platform-version 1\n--platform-model scenario\n",
    )?;
    fs::write(
        dir.join("setup.conf"),
        format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {0}/localca.conf\ncreate_certs_tool_options = {0}/localca.options\n",
            dir.display()
        ),
    )?;
    Ok(dir)
}

/// Copies the manufacturer's CA certificates into a trust store.
///
/// # Errors
/// The manufacturer has none and can't make them; the store can't be written.
pub fn trust_manufacturer(store: &Path) -> Result {
    if !factory()?.join("ca/issuercert.pem").exists() {
        // It makes them with its first TPM.
        manufacture(tempfile::tempdir()?.path(), &["--create-ek-cert"])?;
    }
    fs::create_dir_all(store)?;
    for name in ["swtpm-localca-rootca-cert.pem", "issuercert.pem"] {
        fs::copy(factory()?.join("ca").join(name), store.join(name))?;
    }
    Ok(())
}
