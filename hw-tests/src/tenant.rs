//! The operator's command line, keyhalf's or Keylime's.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::keylime;
use crate::machine::{self, Machine};
use crate::process::{LIMIT, Log, Program};
use crate::servers::Servers;
use crate::site::Site;
use crate::swtpm;

/// A tenant on the servers' machine: `keyhalf-tenant`, or Keylime's.
#[derive(Debug)]
pub struct Tenant<'a> {
    site: &'a Site,
    machine: &'a Machine,
    registrar: Ipv4Addr,
    verifier: Ipv4Addr,
    program: TenantProgram,
    settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TenantProgram {
    Keyhalf,
    KeyhalfAsKeylimes,
    Keylimes,
}

impl TenantProgram {
    fn name(self) -> &'static str {
        match self {
            Self::Keyhalf => "keyhalf-tenant",
            Self::KeyhalfAsKeylimes => "./keylime_tenant",
            Self::Keylimes => "Keylime's keylime_tenant",
        }
    }

    fn command(self, machine: &Machine) -> Command {
        match self {
            Self::Keyhalf | Self::KeyhalfAsKeylimes => machine.command(self.name()),
            Self::Keylimes => keylime::program(machine, "tenant"),
        }
    }
}

/// How a command ended, and what it said.
#[derive(Clone, Debug)]
pub struct Told {
    /// The exit code.
    pub code: i32,
    /// Standard output and standard error, line by line.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

impl<'a> Tenant<'a> {
    /// A tenant on the servers' machine that trusts the TPMs' manufacturer.
    ///
    /// # Errors
    /// No TPM was made yet, so there is no manufacturer.
    pub fn beside<'site: 'a>(servers: &'a impl Servers<'site>) -> Result<Self> {
        Self::of(servers, TenantProgram::Keyhalf)
    }

    /// Keylime's own tenant in the same place.
    ///
    /// # Errors
    /// As [`Tenant::beside`].
    pub fn keylimes_beside<'site: 'a>(servers: &'a impl Servers<'site>) -> Result<Self> {
        Self::of(servers, TenantProgram::Keylimes)
    }

    fn of<'site: 'a>(servers: &'a impl Servers<'site>, program: TenantProgram) -> Result<Self> {
        let machine = servers.machine();
        swtpm::trust_manufacturer(&machine.keylime().join("tpm_cert_store"))?;
        Ok(Self {
            site: servers.site(),
            machine,
            registrar: servers.registrar(),
            verifier: servers.verifier(),
            program,
            settings: Vec::new(),
        })
    }

    /// With an option of `tenant.conf` at another value than its default.
    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        let variable = format!("KEYLIME_TENANT_{}", option.to_uppercase());
        self.settings.push((variable, value.to_owned()));
        self
    }

    /// The same program by the name that Keylime's documentation has.
    ///
    /// # Errors
    /// The link to it can't be made.
    pub fn called_keylime_tenant(self) -> Result<Self> {
        let program = Path::new(machine::PROGRAMS).join(self.program.name());
        symlink(program, self.work().join("keylime_tenant"))?;
        Ok(Self {
            program: TenantProgram::KeyhalfAsKeylimes,
            ..self
        })
    }

    /// Where the tenant stands: relative paths of its arguments start here.
    pub fn work(&self) -> PathBuf {
        self.machine.work()
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It doesn't end in time.
    pub fn run(&self, arguments: &[&str]) -> Result<Told> {
        let (mut program, log, started) = self.launch(arguments)?;
        let status = program.wait(LIMIT)?;
        let took = started.elapsed();
        log.wait_until_closed()?;
        Ok(Told {
            code: status.code().unwrap_or(-1),
            text: log.text(),
            took,
        })
    }

    /// Runs it, and wants exit code 0.
    ///
    /// # Errors
    /// It fails.
    pub fn does(&self, arguments: &[&str]) -> Result<Told> {
        let told = self.run(arguments)?;
        if told.code == 0 {
            return Ok(told);
        }
        Err(format!(
            "{} {} ended with {}:\n{}",
            self.program.name(),
            arguments.join(" "),
            told.code,
            told.text
        )
        .into())
    }

    /// Runs it, and wants another exit code than 0.
    ///
    /// # Errors
    /// It succeeds.
    pub fn fails(&self, arguments: &[&str]) -> Result<Told> {
        let told = self.run(arguments)?;
        if told.code != 0 {
            return Ok(told);
        }
        Err(format!(
            "{} {} succeeded, and must not:\n{}",
            self.program.name(),
            arguments.join(" "),
            told.text
        )
        .into())
    }

    /// Starts it.
    ///
    /// # Errors
    /// It can't be started.
    pub fn launch(&self, arguments: &[&str]) -> Result<(Program, std::sync::Arc<Log>, Instant)> {
        let mut command = self.program.command(self.machine);
        command
            .env("KEYLIME_TENANT_VERIFIER_IP", self.verifier.to_string())
            .env("KEYLIME_TENANT_REGISTRAR_IP", self.registrar.to_string())
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.args(arguments);
        let name = format!("{} {}", self.program.name(), arguments.join(" "));
        let log = self.site.log(&name);
        let started = Instant::now();
        Ok((Program::start(command, log.clone())?, log, started))
    }
}

impl Told {
    /// Wants each of `texts` in what was said.
    ///
    /// # Errors
    /// One is missing.
    pub fn says(&self, texts: &[&str]) -> Result<&Self> {
        match texts.iter().find(|&&text| !self.text.contains(text)) {
            None => Ok(self),
            Some(missing) => Err(format!("no {missing:?} in:\n{}", self.text).into()),
        }
    }
}
