//! The servers on an operator's machine: what nodes and tenants need to know of them, and keyhalf's verifier with its
//! registrar.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::machine::Machine;
use crate::node::{self, Node};
use crate::process::Program;
use crate::raw::{Client, Credential};
use crate::site::{Site, fresh_address};

/// Port of the registrar for agents.
pub const REGISTRAR_PORT: u16 = 8890;

/// Port of the registrar for administration.
pub const REGISTRAR_TLS_PORT: u16 = 8891;

/// Port of the verifier.
pub const VERIFIER_PORT: u16 = 8881;

/// An operator's servers, whoever made them: where they are, and the machine that has their certificates.
pub trait Servers<'site> {
    /// The scenario.
    fn site(&self) -> &'site Site;

    /// Their machine, which is the tenant's as well.
    fn machine(&self) -> &Machine;

    /// Where the registrar is.
    fn registrar(&self) -> Ipv4Addr;

    /// Where the verifier is.
    fn verifier(&self) -> Ipv4Addr;

    /// Gives a node the certificate by which it knows these servers and their tenants, as an operator would.
    ///
    /// # Errors
    /// The copy fails.
    fn introduce_to(&self, node: &Machine) -> Result {
        fs::create_dir_all(node.keylime().join("cv_ca"))?;
        fs::copy(
            ca_file(self.machine(), "cacert.crt"),
            ca_file(node, "cacert.crt"),
        )?;
        Ok(())
    }
}

/// A file of the `cv_ca` directory of a machine.
pub fn ca_file(machine: &Machine, name: &str) -> PathBuf {
    machine.keylime().join("cv_ca").join(name)
}

/// The administrator's certificate and key on a machine.
///
/// # Errors
/// They can't be read.
pub fn administrator(machine: &Machine) -> Result<Credential> {
    Credential::files(
        &ca_file(machine, "client-cert.crt"),
        &ca_file(machine, "client-private.pem"),
    )
}

/// `keyhalf-verifier` on an operator's machine.
#[derive(Debug)]
pub struct Verifier<'site> {
    site: &'site Site,
    machine: Arc<Machine>,
    address: Ipv4Addr,
    options: Vec<String>,
    running: Option<Program>,
}

impl<'site> Verifier<'site> {
    /// A verifier that listens.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(site: &'site Site) -> Result<Self> {
        Self::start_with(site, &[])
    }

    /// As [`Verifier::start`], with more options.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_with(site: &'site Site, options: &[&str]) -> Result<Self> {
        Self::start_at(site, fresh_address(), options)
    }

    /// As [`Verifier::start_with`], at an address of one's choice.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_at(site: &'site Site, address: Ipv4Addr, options: &[&str]) -> Result<Self> {
        let machine = Arc::new(Machine::new(site, "operator")?);
        Self::start_on(site, machine, address, options)
    }

    /// As [`Verifier::start_at`], on a machine that is there, with what lies in its Keylime directory.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_on(
        site: &'site Site,
        machine: Arc<Machine>,
        address: Ipv4Addr,
        options: &[&str],
    ) -> Result<Self> {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut verifier = Self {
            site,
            machine,
            address,
            options,
            running: None,
        };
        verifier.start_again()?;
        Ok(verifier)
    }

    /// Starts it again, on what it left behind.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_again(&mut self) -> Result {
        let mut command = self.machine.command("keyhalf-verifier");
        let address = self.address.to_string();
        command
            .args(["--ip", &address, "--registrar-ip", &address])
            .args(&self.options)
            // Unless an option says otherwise.
            .env("KEYHALF_QUOTE_INTERVAL", "0.2");
        let program = Program::start(command, self.site.log("keyhalf-verifier"))?;
        program.wait_for("verifier listening on")?;
        program.wait_for("registrar listening on")?;
        self.running = Some(program);
        Ok(())
    }

    /// SIGTERM; its exit status and how long it took.
    ///
    /// # Errors
    /// It isn't running, or doesn't end.
    pub fn stop(&mut self) -> Result<(ExitStatus, Duration)> {
        self.running
            .take()
            .ok_or("the verifier isn't running")?
            .terminate()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It isn't running.
    pub fn kill(&mut self) -> Result {
        self.running
            .take()
            .ok_or("the verifier isn't running")?
            .kill()
    }

    /// The running program.
    ///
    /// # Errors
    /// It isn't running.
    pub fn program(&self) -> Result<&Program> {
        self.running
            .as_ref()
            .ok_or_else(|| "the verifier isn't running".into())
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its machine, which is the tenant's as well.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A file of its `cv_ca` directory.
    pub fn ca_file(&self, name: &str) -> PathBuf {
        ca_file(&self.machine, name)
    }

    /// The administrator's certificate and key.
    ///
    /// # Errors
    /// They can't be read.
    pub fn administrator(&self) -> Result<Credential> {
        administrator(&self.machine)
    }

    /// An administrator's way to the verifier.
    ///
    /// # Errors
    /// There is no administrator's certificate.
    pub fn client(&self) -> Result<Client> {
        Client::tls(self.address, VERIFIER_PORT, self.administrator()?)
    }

    /// An administrator's way to the registrar.
    ///
    /// # Errors
    /// There is no administrator's certificate.
    pub fn registrar_client(&self) -> Result<Client> {
        Client::tls(self.address, REGISTRAR_TLS_PORT, self.administrator()?)
    }

    /// An agent's way to the registrar.
    pub fn agents_port(&self) -> Client {
        Client::plain(self.address, REGISTRAR_PORT)
    }

    /// An administrator's way to the agent of a node.
    ///
    /// # Errors
    /// There is no administrator's certificate.
    pub fn client_of(&self, node: &Node<'_>) -> Result<Client> {
        Client::tls(node.address(), node::PORT, self.administrator()?)
    }

    /// A command on its machine.
    pub fn command(&self, program: &str) -> Command {
        self.machine.command(program)
    }
}

impl<'site> Servers<'site> for Verifier<'site> {
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
