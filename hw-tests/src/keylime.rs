//! Keylime's own registrar, verifier and tools, from the Python environment that `./hw-tests/test interop` makes.
//!
//! They run on the same machines as keyhalf's programs, with every option at Keylime's default but for addresses, a
//! shorter quote interval, one worker process, and what a scenario says.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::Result;
use crate::machine::Machine;
use crate::process::{LIMIT, Program, until};
use crate::raw::{Client, Credential};
use crate::servers::{REGISTRAR_TLS_PORT, Servers, VERIFIER_PORT};
use crate::site::{Site, fresh_address};

/// Where the environment is, inside the namespaces of `hw-tests/namespace`.
pub const HOME: &str = "/mnt/keylime";

/// A value of a Keylime configuration: program, option, value.
pub type Setting<'a> = (&'a str, &'a str, &'a str);

/// Keylime's servers on an operator's machine.
#[derive(Debug)]
pub struct Keylime<'site> {
    site: &'site Site,
    machine: Arc<Machine>,
    address: Ipv4Addr,
    settings: Vec<(String, String)>,
    verifier: Option<Program>,
    registrar: Option<Program>,
}

impl<'site> Keylime<'site> {
    /// Verifier and registrar, which make their own certificates first.
    ///
    /// # Errors
    /// One doesn't start.
    pub fn start(site: &'site Site) -> Result<Self> {
        Self::start_with(site, &[])
    }

    /// As [`Keylime::start`], with options of one's choice.
    ///
    /// # Errors
    /// As [`Keylime::start`].
    pub fn start_with(site: &'site Site, settings: &[Setting<'_>]) -> Result<Self> {
        let machine = Arc::new(Machine::new(site, "operator")?);
        let mut servers = Self::install_on(site, machine, settings)?;
        servers.start_verifier()?;
        servers.start_registrar()?;
        Ok(servers)
    }

    /// Configured on a machine, but not started: with the certificates that lie there, else with its own.
    ///
    /// # Errors
    /// The configuration can't be written.
    pub fn install_on(
        site: &'site Site,
        machine: Arc<Machine>,
        settings: &[Setting<'_>],
    ) -> Result<Self> {
        Self::install_at(site, machine, fresh_address(), settings)
    }

    /// As [`Keylime::install_on`], at an address of one's choice.
    ///
    /// # Errors
    /// As [`Keylime::install_on`].
    pub fn install_at(
        site: &'site Site,
        machine: Arc<Machine>,
        address: Ipv4Addr,
        settings: &[Setting<'_>],
    ) -> Result<Self> {
        configure(&machine)?;
        let ip = address.to_string();
        let defaults = [
            ("verifier", "ip", ip.as_str()),
            ("verifier", "registrar_ip", &ip),
            ("verifier", "quote_interval", "0.5"),
            ("verifier", "num_workers", "1"),
            ("registrar", "ip", &ip),
        ];
        let settings = defaults.iter().chain(settings);
        Ok(Self {
            site,
            machine,
            address,
            settings: settings.map(variable).collect(),
            verifier: None,
            registrar: None,
        })
    }

    /// Starts the verifier; without a `cv_ca` it makes one.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_verifier(&mut self) -> Result {
        let program = self.launch("verifier", VERIFIER_PORT)?;
        self.verifier = Some(program);
        Ok(())
    }

    /// Lets the verifier make its `cv_ca`, and stops it again.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn make_certificates(mut self) -> Result {
        self.start_verifier()?;
        self.verifier = None;
        // Its workers end a moment after it.
        let place = (self.address, VERIFIER_PORT);
        until(LIMIT, "end of Keylime's verifier", || {
            TcpListener::bind(place).ok().map(drop)
        })
    }

    /// Starts the registrar, which uses the verifier's `cv_ca`.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_registrar(&mut self) -> Result {
        let program = self.launch("registrar", REGISTRAR_TLS_PORT)?;
        self.registrar = Some(program);
        Ok(())
    }

    /// Its running verifier.
    ///
    /// # Errors
    /// There is none.
    pub fn verifier_program(&self) -> Result<&Program> {
        self.verifier
            .as_ref()
            .ok_or_else(|| "Keylime's verifier isn't running".into())
    }

    /// Where its servers are.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn launch(&self, name: &str, port: u16) -> Result<Program> {
        let mut command = program(&self.machine, name);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let log = self.site.log(&format!("Keylime's keylime_{name}"));
        let mut program = Program::start(command, log)?;
        let client = Client::tls(self.address, port, Credential::none())?;
        until(
            LIMIT,
            &format!("answer of Keylime's {name}"),
            || match program.wait(std::time::Duration::ZERO) {
                Ok(ended) => Some(Err(format!("Keylime's {name} ended with {ended}"))),
                Err(_still_runs) => client.get("/version").is_ok().then_some(Ok(())),
            },
        )??;
        Ok(program)
    }
}

impl<'site> Servers<'site> for Keylime<'site> {
    fn site(&self) -> &'site Site {
        self.site
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn registrar(&self) -> Ipv4Addr {
        self.address
    }

    fn verifier(&self) -> Ipv4Addr {
        self.address
    }
}

/// One of Keylime's programs on a machine that it is configured on, by the name of its Python module.
pub fn program(machine: &Machine, module: &str) -> Command {
    let mut command = python(machine);
    command.args(["-m", &format!("keylime.cmd.{module}")]);
    command
}

/// Python with Keylime's modules, on a machine that Keylime is configured on.
pub fn python(machine: &Machine) -> Command {
    let mut command = machine.command(&format!("{HOME}/bin/python3"));
    for part in CONFIGURED {
        command.env(
            format!("KEYLIME_{}_CONFIG", part.to_uppercase()),
            machine.work().join(CONFIGURATION).join(file_name(part)),
        );
    }
    command.env("PYTHONUNBUFFERED", "1");
    command
}

/// Writes Keylime's configuration with all its defaults to a machine.
///
/// # Errors
/// It can't be written.
pub fn configure(machine: &Machine) -> Result {
    let target = machine.work().join(CONFIGURATION);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("keylime");
    fs::create_dir_all(&target)?;
    for part in CONFIGURED {
        fs::copy(source.join(file_name(part)), target.join(file_name(part)))?;
    }
    Ok(())
}

fn file_name(part: &str) -> String {
    format!("{part}.conf")
}

/// The variable that overrides an option.
fn variable(&(program, option, value): &Setting<'_>) -> (String, String) {
    let name = format!("KEYLIME_{}_{}", program, option).to_uppercase();
    (name, value.to_owned())
}

/// What has a configuration file.
const CONFIGURED: [&str; 5] = ["registrar", "verifier", "tenant", "ca", "logging"];

/// Where the files are, from where the programs start.
const CONFIGURATION: &str = "keylime-conf";
