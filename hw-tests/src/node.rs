//! A machine with a TPM that runs the agent.

use std::env;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::{KEYLIME, Machine, PROGRAMS};
use crate::network::Network;
use crate::payload::SECRET;
use crate::process::{LIMIT, Log, Program};
use crate::servers::{Servers, VERIFIER_PORT};
use crate::site::{Site, fresh_address};
use crate::swtpm::Swtpm;
use crate::tenant::Told;

/// Port of the agent.
pub const PORT: u16 = 9002;

/// A node.
#[derive(Debug)]
pub struct Node<'site> {
    site: &'site Site,
    machine: Machine,
    address: Ipv4Addr,
    tpm: Swtpm,
    build: Build,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    running: Option<Program>,
}

/// With this variable set, the agent of every node runs as that user: how stories that were written for root are told again.
pub const RUN_AS: &str = "KEYHALF_TEST_RUN_AS";

/// A build of keyhalf's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As everyone gets it.
    Usual,
    /// It can also do without TLS, where it is told to: `./hw-tests/test interop` builds it.
    PlainHttp,
    /// One static file without a C library.
    Static,
    /// The same for 64-bit Arm, which QEMU's user mode runs.
    StaticArm,
}

impl Build {
    /// Its program's name.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Usual => "keyhalf-agent",
            Self::PlainHttp => "keyhalf-agent-plain-http",
            Self::Static => "keyhalf-agent-static-x86_64",
            Self::StaticArm => "keyhalf-agent-static-aarch64",
        }
    }

    fn command(self, machine: &Machine) -> Command {
        match self {
            Self::StaticArm => {
                let mut command = machine.command(EMULATOR);
                command.arg(Path::new(PROGRAMS).join(self.program()));
                command
            }
            _ => machine.command(self.program()),
        }
    }
}

/// Runs programs of 64-bit Arm.
const EMULATOR: &str = "qemu-aarch64-static";

impl<'site> Node<'site> {
    /// A node that has registered and listens.
    ///
    /// # Errors
    /// The agent doesn't start or doesn't register.
    pub fn boot(servers: &impl Servers<'site>, tpm: Swtpm) -> Result<Self> {
        Self::boot_with(servers, tpm, &[])
    }

    /// As [`Node::boot`], with more options for the agent.
    ///
    /// # Errors
    /// As [`Node::boot`].
    pub fn boot_with(servers: &impl Servers<'site>, tpm: Swtpm, options: &[&str]) -> Result<Self> {
        let mut node = Self::install(servers, tpm, options)?;
        node.start_agent()?;
        node.wait_until_registered()?;
        Ok(node)
    }

    /// A node whose agent isn't started yet. It knows the servers' CA and the registrar's address.
    ///
    /// # Errors
    /// No namespace for it.
    pub fn install(servers: &impl Servers<'site>, tpm: Swtpm, options: &[&str]) -> Result<Self> {
        let address = fresh_address();
        let arguments = serving(servers, &tpm, address, options);
        Self::new(servers, tpm, address, &arguments)
    }

    /// As [`Node::install`], on a host of a network, with a TPM that is reached over it.
    ///
    /// # Errors
    /// No host or no address on the network.
    pub fn install_on(
        network: &Network,
        servers: &impl Servers<'site>,
        options: &[&str],
    ) -> Result<Self> {
        let site = servers.site();
        let tpm = Swtpm::fresh_at(site, network.address()?)?;
        let (machine, address) = network.host(site)?;
        let arguments = serving(servers, &tpm, address, options);
        Self::on(machine, servers, tpm, address, &arguments)
    }

    /// A node whose agent calls its verifier, in the mode `provision` or `push`, and isn't started yet. Its identifier is its
    /// endorsement key's hash, so whoever knows the one knows the other.
    ///
    /// # Errors
    /// No namespace for it.
    pub fn calling(
        servers: &impl Servers<'site>,
        tpm: Swtpm,
        mode: &str,
        options: &[&str],
    ) -> Result<Self> {
        let arguments = calling(servers, &tpm, mode, options);
        Self::new(servers, tpm, fresh_address(), &arguments)
    }

    /// As [`Node::calling`], on a host of a network, with a TPM that is reached over it.
    ///
    /// # Errors
    /// As [`Node::install_on`].
    pub fn calling_on(
        network: &Network,
        servers: &impl Servers<'site>,
        mode: &str,
        options: &[&str],
    ) -> Result<Self> {
        let site = servers.site();
        let tpm = Swtpm::fresh_at(site, network.address()?)?;
        let (machine, address) = network.host(site)?;
        let arguments = calling(servers, &tpm, mode, options);
        Self::on(machine, servers, tpm, address, &arguments)
    }

    /// Runs the agent to its end, with these options beside its own.
    ///
    /// # Errors
    /// It can't be started, or doesn't end in time.
    pub fn run(&mut self, more: &[&str]) -> Result<Told> {
        let own = self.arguments.len();
        self.arguments
            .extend(more.iter().map(|&word| word.to_owned()));
        let launched = self.launch().map(|program| Arc::clone(program.log()));
        self.arguments.truncate(own);
        let log = launched?;
        let (status, took) = self.wait_for_end()?;
        log.wait_until_closed()?;
        Ok(Told {
            code: status.code().unwrap_or(-1),
            text: log.text(),
            took,
        })
    }

    /// A node at the address that this configuration file names; the agent, not started yet, is told of nothing but the
    /// file, by the variable that Keylime's agent has for it, and of its TPM.
    ///
    /// # Errors
    /// No namespace for it; the file can't be copied.
    pub fn configured_by(
        servers: &impl Servers<'site>,
        tpm: Swtpm,
        address: Ipv4Addr,
        file: &Path,
    ) -> Result<Self> {
        let mut node = Self::new(servers, tpm, address, &["serve".to_owned()])?;
        let copy = node.machine.work().join("agent.conf");
        fs::copy(file, &copy)?;
        let tcti = node.tpm.tcti();
        node.tell("KEYLIME_AGENT_CONFIG", &copy.display().to_string());
        node.tell("TCTI", &tcti);
        Ok(node)
    }

    fn new(
        servers: &impl Servers<'site>,
        tpm: Swtpm,
        address: Ipv4Addr,
        arguments: &[String],
    ) -> Result<Self> {
        let machine = Machine::new(servers.site(), &format!("node-{address}"))?;
        Self::on(machine, servers, tpm, address, arguments)
    }

    fn on(
        machine: Machine,
        servers: &impl Servers<'site>,
        tpm: Swtpm,
        address: Ipv4Addr,
        arguments: &[String],
    ) -> Result<Self> {
        let site = servers.site();
        servers.introduce_to(&machine)?;
        let environment = match env::var(RUN_AS) {
            Ok(user) => {
                // What a story's script does in /root, this user may do.
                fs::set_permissions(machine.root(), Permissions::from_mode(0o777))?;
                vec![("KEYHALF_RUN_AS".to_owned(), user)]
            }
            Err(_) => Vec::new(),
        };
        Ok(Self {
            site,
            machine,
            address,
            tpm,
            build: Build::Usual,
            arguments: arguments.to_vec(),
            environment,
            running: None,
        })
    }

    /// Its agent starts with this environment variable.
    pub fn tell(&mut self, variable: &str, value: &str) {
        let told = (variable.to_owned(), value.to_owned());
        self.environment.push(told);
    }

    /// Its agent is this build.
    pub fn use_build(&mut self, build: Build) {
        self.build = build;
    }

    /// Starts the agent and waits until it listens.
    ///
    /// # Errors
    /// It doesn't.
    pub fn start_agent(&mut self) -> Result {
        self.launch()?.wait_for("listening on")?;
        Ok(())
    }

    /// Starts the agent, and waits for nothing.
    ///
    /// # Errors
    /// It can't be started.
    pub fn launch(&mut self) -> Result<&Program> {
        let mut command = self.build.command(&self.machine);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(self.running.insert(Program::start(
            command,
            self.site.log(self.build.program()),
        )?))
    }

    /// Waits for the registrar's consent, and returns the node's uuid.
    ///
    /// # Errors
    /// It doesn't come.
    pub fn wait_until_registered(&self) -> Result<String> {
        let line = self.program()?.wait_for("registered as ")?;
        let uuid = line
            .split("registered as ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        Ok(uuid.ok_or("no uuid in the log")?.to_owned())
    }

    /// Its uuid, as the agent logged it.
    ///
    /// # Errors
    /// It isn't registered.
    pub fn uuid(&self) -> Result<String> {
        self.wait_until_registered()
    }

    /// SIGTERM to the agent; its exit status and how long it took.
    ///
    /// # Errors
    /// It isn't running, or doesn't end.
    pub fn stop_agent(&mut self) -> Result<(ExitStatus, Duration)> {
        self.running
            .take()
            .ok_or("the agent isn't running")?
            .terminate()
    }

    /// SIGKILL to the agent.
    ///
    /// # Errors
    /// It isn't running.
    pub fn kill_agent(&mut self) -> Result {
        self.running.take().ok_or("the agent isn't running")?.kill()
    }

    /// Waits until the agent ends by itself; its exit status and how long that took.
    ///
    /// # Errors
    /// It isn't running, or goes on.
    pub fn wait_for_end(&mut self) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        let mut program = self.running.take().ok_or("the agent isn't running")?;
        Ok((program.wait(LIMIT)?, started.elapsed()))
    }

    /// The running agent.
    ///
    /// # Errors
    /// It isn't running.
    pub fn program(&self) -> Result<&Program> {
        self.running
            .as_ref()
            .ok_or_else(|| "the agent isn't running".into())
    }

    /// What the agent has said since it was started last.
    ///
    /// # Errors
    /// It isn't running.
    pub fn log(&self) -> Result<&Arc<Log>> {
        Ok(self.program()?.log())
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its address as text, for command lines.
    pub fn ip(&self) -> String {
        self.address.to_string()
    }

    /// Its TPM.
    pub fn tpm(&self) -> &Swtpm {
        &self.tpm
    }

    /// Its file system.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A file of the unpacked payload.
    pub fn unzipped(&self, name: &str) -> PathBuf {
        self.machine.unzipped().join(name)
    }

    /// Whether nothing of a payload is in the landing zone: nothing may be, until a node has passed. What it hears of revocations
    /// meanwhile, its own maybe, is kept there.
    pub fn has_nothing(&self) -> bool {
        let journal = fs::read_dir(self.landing_zone().join(JOURNAL));
        let mut journal = journal.into_iter().flatten().flatten();
        let is_clean = |entry: fs::DirEntry| {
            let text = fs::read(entry.path()).unwrap_or_default();
            !String::from_utf8_lossy(&text).contains(SECRET)
        };
        self.landed().is_empty() && journal.all(is_clean)
    }

    /// What is in the landing zone beside the agent's journal of revocations, by name.
    pub fn landed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.landing_zone())
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != JOURNAL).collect()
    }

    fn landing_zone(&self) -> PathBuf {
        self.machine.inside(KEYLIME).join("secure")
    }
}

/// What the agent notes of revocations, in the landing zone.
const JOURNAL: &str = "revocations";

/// The command line of an agent that listens at an address.
fn serving<'site>(
    servers: &impl Servers<'site>,
    tpm: &Swtpm,
    address: Ipv4Addr,
    options: &[&str],
) -> Vec<String> {
    let (tcti, ip, registrar) = (
        tpm.tcti(),
        address.to_string(),
        servers.registrar().to_string(),
    );
    let places = ["--tcti", &tcti, "--ip", &ip, "--registrar-ip", &registrar];
    let words = [&["serve"], &places[..], options].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// The command line of an agent that calls its verifier.
fn calling<'site>(
    servers: &impl Servers<'site>,
    tpm: &Swtpm,
    mode: &str,
    options: &[&str],
) -> Vec<String> {
    let (tcti, registrar) = (tpm.tcti(), servers.registrar().to_string());
    let verifier = format!("https://{}:{VERIFIER_PORT}", servers.verifier());
    let places = ["--tcti", &tcti, "--registrar-ip", &registrar];
    let identity = ["--verifier-url", &verifier, "--uuid", "hash_ek"];
    let words = [&[mode], &places[..], &identity, options].concat();
    words.into_iter().map(str::to_owned).collect()
}
