//! The operator's command line.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine;
use crate::process::{LIMIT, Log, Program};
use crate::servers::Verifier;
use crate::swtpm;

/// `keyhalf-tenant` on the verifier's machine.
#[derive(Debug)]
pub struct Tenant<'a> {
    verifier: &'a Verifier<'a>,
    program: &'static str,
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
    /// A tenant on the verifier's machine that trusts the TPMs' manufacturer.
    ///
    /// # Errors
    /// No TPM was made yet, so there is no manufacturer.
    pub fn beside(verifier: &'a Verifier<'_>) -> Result<Self> {
        swtpm::trust_manufacturer(&verifier.machine().keylime().join("tpm_cert_store"))?;
        Ok(Self {
            verifier,
            program: "keyhalf-tenant",
        })
    }

    /// The same program by the name that Keylime's documentation has.
    ///
    /// # Errors
    /// The link to it can't be made.
    pub fn called_keylime_tenant(self) -> Result<Self> {
        let program = Path::new(machine::PROGRAMS).join(self.program);
        symlink(program, self.work().join("keylime_tenant"))?;
        Ok(Self {
            program: "./keylime_tenant",
            ..self
        })
    }

    /// Where the tenant stands: relative paths of its arguments start here.
    pub fn work(&self) -> PathBuf {
        self.verifier.machine().work()
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
            self.program,
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
            self.program,
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
        let address = self.verifier.address().to_string();
        let mut command = self.verifier.command(self.program);
        command
            .env("KEYLIME_TENANT_VERIFIER_IP", &address)
            .env("KEYLIME_TENANT_REGISTRAR_IP", &address);
        command.args(arguments);
        let log = self
            .verifier
            .site()
            .log(&format!("{} {}", self.program, arguments.join(" ")));
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
