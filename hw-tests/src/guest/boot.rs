//! One run of QEMU: from power-on to its end, with the console in a log and a way to give the guest commands.
//!
//! When a [`Boot`] is dropped, QEMU is killed and its TPM goes with it: a power cut.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::guest::efi::Partition;
use crate::guest::tpm::{GuestTpm, Powered};
use crate::process::{Log, Program, until};
use crate::site::Site;
use crate::tenant::Told;

/// What starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS: fast, and measures neither kernel nor command line.
    Bios,
    /// OVMF, which is UEFI: measures what it starts to PCR 4; the kernel measures its command line and initramfs to PCR 9.
    Uefi,
}

impl Firmware {
    /// How long anything that has to happen in the guest may take on a slow, busy machine.
    pub const fn limit(self) -> Duration {
        match self {
            Self::Bios => Duration::from_secs(60),
            Self::Uefi => Duration::from_secs(120),
        }
    }
}

/// What a machine is built of when it is switched on.
#[derive(Clone, Copy, Debug)]
pub struct Power<'a> {
    /// Where sockets and firmware variables of this machine are.
    pub dir: &'a Path,
    /// The kernel.
    pub kernel: &'a Path,
    /// What it unpacks.
    pub initramfs: &'a Path,
    /// What it is told.
    pub command_line: &'a str,
    /// Where UEFI firmware finds all three; otherwise QEMU hands them over.
    pub partition: Option<&'a Partition>,
    /// What its clock shows at the start, as QEMU is told; otherwise the host's time.
    pub clock: Option<&'a str>,
    /// A disk's raw image.
    pub disk: Option<&'a Path>,
    /// What the guest writes to its disk stays; otherwise it is forgotten when it ends.
    pub disk_keeps: bool,
    /// Main memory.
    pub memory_mib: u32,
    /// What starts the kernel.
    pub firmware: Firmware,
    /// How long anything in the guest may take.
    pub limit: Duration,
    /// Ports of the guest that the host can call, as QEMU is told.
    pub forward: &'a str,
    /// Its TPM.
    pub tpm: &'a GuestTpm,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Boot {
    // Dropped before the TPM: QEMU uses it to its end.
    qemu: Program,
    keyboard: ChildStdin,
    commands: Commands,
    monitor: UnixStream,
    tpm: Powered,
    limit: Duration,
    since: Instant,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was switched off, or reset.
    Off,
    /// The guest reported this code as it went down.
    Reported(i32),
}

impl Boot {
    /// Switches a machine on.
    ///
    /// # Errors
    /// The TPM or QEMU doesn't start.
    pub fn start(site: &Site, power: Power<'_>) -> Result<Self> {
        let tpm = power.tpm.power_on()?;
        let [talk, control] = ["talk", "monitor"].map(|name| power.dir.join(name));
        for socket in [&talk, &control] {
            let _from_before = fs::remove_file(socket);
        }
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35", "-no-reboot", "-display", "none", "-m"]);
        command.arg(power.memory_mib.to_string());
        command.args(processor());
        match power.partition {
            Some(partition) => {
                command.args(partition.drive());
            }
            None => {
                command.arg("-kernel").arg(power.kernel);
                command.arg("-initrd").arg(power.initramfs);
                command.args(["-append", power.command_line]);
            }
        }
        if power.firmware == Firmware::Uefi {
            command.args(uefi(power.dir, power.partition)?);
        }
        if let Some(time) = power.clock {
            command.arg("-rtc").arg(format!("base={time}"));
        }
        if let Some(disk) = power.disk {
            let forgets = if power.disk_keeps { "off" } else { "on" };
            let drive = format!(
                "file={},format=raw,if=virtio,snapshot={forgets}",
                disk.display()
            );
            command.args(["-drive", &drive]);
        }
        let socket = |id: &str, path: &Path| {
            format!("socket,id={id},path={},server=on,wait=off", path.display())
        };
        let devices = [
            ("-chardev", "stdio,id=console,signal=off".to_owned()),
            ("-serial", "chardev:console".to_owned()),
            ("-chardev", socket("talk", &talk)),
            ("-serial", "chardev:talk".to_owned()),
            ("-chardev", socket("monitor", &control)),
            ("-mon", "chardev=monitor,mode=readline".to_owned()),
            (
                "-chardev",
                format!("socket,id=tpm,path={}", tpm.socket().display()),
            ),
            ("-tpmdev", "emulator,id=tpm0,chardev=tpm".to_owned()),
            ("-device", "tpm-tis,tpmdev=tpm0".to_owned()),
            ("-netdev", format!("user,id=net0,{}", power.forward)),
            (
                "-device",
                "virtio-net-pci,id=card,netdev=net0,romfile=".to_owned(),
            ),
            (
                "-device",
                "isa-debug-exit,iobase=0xf4,iosize=0x04".to_owned(),
            ),
        ];
        for (option, value) in devices {
            command.arg(option).arg(value);
        }
        let since = Instant::now();
        let log = site.log("the guest's console");
        let (mut qemu, keyboard) = Program::start_listening(command, log)?;
        let limit = power.limit;
        let mut connect = |path: &Path| -> Result<UnixStream> {
            let stream = until(limit, "QEMU", || match qemu.wait(Duration::ZERO) {
                Ok(ended) => Some(Err(format!("QEMU ended with {ended}"))),
                Err(_still_runs) => UnixStream::connect(path).ok().map(Ok),
            })??;
            stream.set_read_timeout(Some(limit))?;
            Ok(stream)
        };
        let (commands, monitor) = (Commands::over(connect(&talk)?)?, connect(&control)?);
        Ok(Self {
            qemu,
            keyboard,
            commands,
            monitor,
            tpm,
            limit,
            since,
        })
    }

    /// Waits until the console says `text`, and returns that line.
    ///
    /// # Errors
    /// It doesn't in time, or the machine ends before.
    pub fn says(&self, text: &str) -> Result<String> {
        self.qemu.log().wait_within(self.limit, text)
    }

    /// Waits until the console asks for something by `text`, which needn't be a whole line.
    ///
    /// # Errors
    /// As [`Boot::says`].
    pub fn asks(&self, text: &str) -> Result {
        self.qemu.log().wait_for_prompt(self.limit, text)
    }

    /// Types a line at the console.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn types(&mut self, line: &str) -> Result {
        Ok(self.keyboard.write_all(format!("{line}\n").as_bytes())?)
    }

    /// What the console has said so far.
    pub fn console(&self) -> &Arc<Log> {
        self.qemu.log()
    }

    /// How long ago it was switched on.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits for the registrar's consent to what runs in the guest, and returns the node's uuid.
    ///
    /// # Errors
    /// It doesn't come.
    pub fn wait_until_registered(&self) -> Result<String> {
        // The kernel registers things too.
        let line = self.says("agent: registered as ")?;
        let uuid = line.split("agent: registered as ").nth(1);
        let uuid = uuid.and_then(|rest| rest.split_whitespace().next());
        Ok(uuid.ok_or("no uuid on the console")?.to_owned())
    }

    /// Runs a line of shell in the guest to its end, as root. Only our own init takes commands.
    ///
    /// # Errors
    /// There is no answer in time.
    pub fn shell(&mut self, line: &str) -> Result<Told> {
        self.says(READY)?;
        self.commands.run(line)
    }

    /// As [`Boot::shell`], wants exit code 0, and returns what was said.
    ///
    /// # Errors
    /// The command fails.
    pub fn does(&mut self, line: &str) -> Result<String> {
        let told = self.shell(line)?;
        if told.code == 0 {
            return Ok(told.text);
        }
        Err(format!(
            "in the guest, {line} ended with {}:\n{}",
            told.code, told.text
        )
        .into())
    }

    /// Extends a PCR of the SHA-256 bank, as whatever runs in the guest can.
    ///
    /// # Errors
    /// The guest doesn't do it.
    pub fn extend(&mut self, pcr: u8, event: u8) -> Result {
        let before = self.pcr(pcr)?;
        // TPM2_PCR_Extend with an empty password, one digest of SHA-256.
        let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, pcr];
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend([0, 0, 0, 1, 0, 0x0b]);
        command.extend([event; 32]);
        let octal: String = command.iter().map(|byte| format!("\\{byte:03o}")).collect();
        self.does(&format!("printf '{octal}' >/dev/tpmrm0"))?;
        if self.pcr(pcr)? == before {
            return Err(format!("PCR {pcr} is what it was").into());
        }
        Ok(())
    }

    /// A PCR of the SHA-256 bank, in the hexadecimal form of policies.
    ///
    /// # Errors
    /// The guest doesn't say it.
    pub fn pcr(&mut self, pcr: u8) -> Result<String> {
        let value = self.does(&format!("cat /sys/class/tpm/tpm0/pcr-sha256/{pcr}"))?;
        Ok(value.trim().to_lowercase())
    }

    /// Plugs the network cable in, or pulls it out.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn set_link(&mut self, up: bool) -> Result {
        let state = if up { "on" } else { "off" };
        Ok(self
            .monitor
            .write_all(format!("set_link card {state}\n").as_bytes())?)
    }

    /// Has the guest switch itself off, as an administrator would; its kernel tells the TPM.
    ///
    /// # Errors
    /// It goes on.
    pub fn power_off(mut self) -> Result {
        self.says(READY)?;
        self.commands.send("poweroff -f")?;
        match self.wait_for_end()? {
            Ended::Off => Ok(()),
            Ended::Reported(code) => Err(format!("the guest reported {code}").into()),
        }
    }

    /// Has the guest report a code and end.
    ///
    /// # Errors
    /// It goes on.
    pub fn say_goodbye(mut self, code: u8) -> Result<Ended> {
        self.says(READY)?;
        self.commands.send(&format!("goodbye {code}"))?;
        self.wait_for_end()
    }

    /// Whether the machine has ended.
    pub fn has_ended(&mut self) -> bool {
        self.qemu.wait(Duration::ZERO).is_ok()
    }

    /// Waits until the machine ends by itself, and its TPM after it.
    ///
    /// # Errors
    /// It goes on; QEMU fails.
    pub fn wait_for_end(self) -> Result<Ended> {
        let limit = self.limit;
        self.wait_for_end_within(limit)
    }

    /// As [`Boot::wait_for_end`], with a limit of one's own.
    ///
    /// # Errors
    /// As [`Boot::wait_for_end`].
    pub fn wait_for_end_within(mut self, limit: Duration) -> Result<Ended> {
        let status = self.qemu.wait(limit)?;
        self.qemu.log().wait_until_closed()?;
        self.tpm.wait_for_end()?;
        match status.code() {
            Some(0) => Ok(Ended::Off),
            // As report.S has it; 1 is QEMU's own failure.
            Some(status) if status >= 3 && status % 2 == 1 => Ok(Ended::Reported((status - 3) / 2)),
            _ => Err(format!("QEMU ended with {status}").into()),
        }
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// QEMU can't be killed.
    pub fn cut_power(self) -> Result {
        self.qemu.kill()?;
        self.tpm.wait_for_end()
    }
}

/// The guest's second serial port, where its init takes commands.
#[derive(Debug)]
struct Commands {
    to: UnixStream,
    from: BufReader<UnixStream>,
    ready: bool,
}

impl Commands {
    fn over(port: UnixStream) -> Result<Self> {
        Ok(Self {
            to: port.try_clone()?,
            from: BufReader::new(port),
            ready: false,
        })
    }

    fn send(&mut self, line: &str) -> Result {
        if line.contains('\n') {
            return Err("a guest takes one line at a time".into());
        }
        Ok(self.to.write_all(format!("{line}\n").as_bytes())?)
    }

    /// UEFI firmware writes its messages to every serial port.
    fn skip_firmware(&mut self) -> Result {
        while !self.ready {
            let mut line = Vec::new();
            if self.from.read_until(b'\n', &mut line)? == 0 {
                return Err("the guest hung up".into());
            }
            self.ready = line.trim_ascii_end().ends_with(READY.as_bytes());
        }
        Ok(())
    }

    fn run(&mut self, line: &str) -> Result<Told> {
        let asked = Instant::now();
        self.send(line)?;
        self.skip_firmware()?;
        let mut head = String::new();
        self.from.read_line(&mut head)?;
        let numbers = head.trim().split_once(' ');
        let (code, length) = numbers.ok_or_else(|| format!("the guest answered {head:?}"))?;
        let mut text = vec![0; length.parse()?];
        self.from.read_exact(&mut text)?;
        Ok(Told {
            code: code.parse()?,
            text: String::from_utf8_lossy(&text).into_owned(),
            took: asked.elapsed(),
        })
    }
}

/// What init says, on the console and where it takes commands, before it takes any.
const READY: &str = "guest: ready";

fn processor() -> [&'static str; 4] {
    match env::var_os("KEYHALF_KVM") {
        Some(wanted) if wanted == "1" => ["-accel", "kvm", "-cpu", "host"],
        _ => ["-accel", "tcg", "-cpu", "max"],
    }
}

/// OVMF, with variables that are a new machine's at first, and stay from boot to boot; with a boot entry they are new each time.
fn uefi(dir: &Path, partition: Option<&Partition>) -> Result<[String; 4]> {
    let variables = dir.join("firmware-variables");
    if let Some(partition) = partition {
        partition.write_variables(Path::new(OVMF_VARIABLES), &variables)?;
    } else if !variables.exists() {
        fs::copy(OVMF_VARIABLES, &variables)
            .map_err(|error| format!("{OVMF_VARIABLES}: {error}"))?;
    }
    let flash = "-drive".to_owned();
    Ok([
        flash.clone(),
        format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}"),
        flash,
        format!("if=pflash,format=raw,file={}", variables.display()),
    ])
}

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
