//! Many agents that only receive revocations: one TPM for all of them, one machine, an address each.
//!
//! They have a revocation certificate of their own and an action that writes down each entry's number, and wait for no payload. Their
//! quotes aren't what a story about them is about.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;
use crate::byhand::enrolment;
use crate::machine::{KEYLIME, Machine};
use crate::node::PORT;
use crate::payload;
use crate::process::{LIMIT, Program, until};
use crate::raw::Client;
use crate::servers::{Servers, Verifier};
use crate::site::{Site, fresh_address};
use crate::swtpm::Swtpm;
use crate::tenant::Tenant;

/// Receivers of one CA, all added to one verifier.
#[derive(Debug)]
pub struct Receivers<'site> {
    site: &'site Site,
    machine: Machine,
    tpm: Swtpm,
    registrar: Ipv4Addr,
    program: &'static str,
    all: Vec<Receiver>,
}

/// One of them.
#[derive(Debug)]
struct Receiver {
    name: String,
    address: Ipv4Addr,
    running: Option<Program>,
}

impl<'site> Receivers<'site> {
    /// So many of them, registered, added and listening; their agent is the program of that name.
    ///
    /// # Errors
    /// One doesn't start, or isn't taken.
    pub fn start(
        verifier: &Verifier<'site>,
        tenant: &Tenant<'_>,
        count: usize,
        program: &'static str,
    ) -> Result<Self> {
        let site = verifier.site();
        let machine = Machine::new(site, "receivers")?;
        verifier.introduce_to(&machine)?;
        tenant.does(&["ca", "init", "--cert", "myca"])?;
        let ca = tenant.work().join("myca");
        fs::copy(
            ca.join("RevocationNotifier-cert.crt"),
            machine.keylime().join("notifier.crt"),
        )?;
        let key = fs::read_to_string(ca.join("RevocationNotifier-private.pem"))?;
        let mut receivers = Self {
            site,
            machine,
            tpm: Swtpm::fresh(site)?,
            registrar: verifier.registrar(),
            program,
            all: Vec::new(),
        };
        let (to, registrar) = (verifier.client()?, verifier.registrar_client()?);
        for number in 0..count {
            let receiver = Receiver {
                name: format!("receiver-{number}"),
                address: fresh_address(),
                running: None,
            };
            receivers.install(&receiver)?;
            receivers.all.push(receiver);
            receivers.launch(number)?;
            receivers.wait(number, "registered as")?;
            add(&receivers.all[number].name, &key, &to, &registrar)?;
        }
        Ok(receivers)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The name of one.
    ///
    /// # Errors
    /// There aren't so many.
    pub fn name(&self, number: usize) -> Result<&str> {
        Ok(&self.get(number)?.name)
    }

    /// SIGKILL to one.
    ///
    /// # Errors
    /// It isn't running.
    pub fn kill(&mut self, number: usize) -> Result {
        let receiver = self.all.get_mut(number).ok_or("no such receiver")?;
        receiver.running.take().ok_or("it isn't running")?.kill()
    }

    /// Starts one again, and waits until it is done with the TPM: nobody keeps apart what many agents make in it.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again(&mut self, number: usize) -> Result {
        self.launch(number)?;
        self.wait(number, "registered as")
    }

    /// What one has acted on: the numbers of entries, in order, each with the time since 1970 in microseconds.
    pub fn acted(&self, number: usize) -> Vec<(u64, u64)> {
        let text = fs::read_to_string(self.file(number)).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let (number, time) = line.split_once(' ')?;
            Some((number.parse().ok()?, time.parse().ok()?))
        });
        lines.collect()
    }

    /// Waits until each has acted on the entries 1 to `last`, in order and once.
    ///
    /// # Errors
    /// One hasn't in time, or has acted otherwise.
    pub fn wait_until_all_acted(&self, last: u64) -> Result {
        let wanted: Vec<u64> = (1..=last).collect();
        for number in 0..self.len() {
            let mut had = Vec::new();
            until(2 * LIMIT, &format!("receiver {number}"), || {
                had = self
                    .acted(number)
                    .iter()
                    .map(|(number, _)| *number)
                    .collect();
                (had.len() >= wanted.len()).then_some(())
            })
            .map_err(|error| format!("{error}; it has acted on {had:?}"))?;
            if had != wanted {
                return Err(format!("receiver {number} has acted on {had:?}").into());
            }
        }
        Ok(())
    }

    fn get(&self, number: usize) -> Result<&Receiver> {
        self.all
            .get(number)
            .ok_or_else(|| "no such receiver".into())
    }

    fn file(&self, number: usize) -> PathBuf {
        self.machine.root().join(format!("receiver-{number}"))
    }

    fn install(&self, receiver: &Receiver) -> Result {
        let name = &receiver.name;
        let own = self.machine.keylime().join(name);
        // The shell has no clock of this resolution, and a program for it would cost more than the rest.
        let action = format!(
            "#!/bin/bash\n[[ $(<\"$1\") =~ \\\"number\\\":\\ *([0-9]+) ]] && echo \"${{BASH_REMATCH[1]}} ${{EPOCHREALTIME/./}}\" >> /root/{name}\n"
        );
        payload::write(&own, "actions/note", action.as_bytes(), 0o755)
    }

    fn launch(&mut self, number: usize) -> Result {
        let receiver = self.get(number)?;
        let own = Path::new(KEYLIME).join(&receiver.name);
        let mut command = self.machine.command(self.program);
        command.args(["serve", "--tcti", &self.tpm.tcti()]);
        command.args([
            "--ip",
            &receiver.address.to_string(),
            "--port",
            &PORT.to_string(),
        ]);
        command.args(["--registrar-ip", &self.registrar.to_string()]);
        command
            .args(["--uuid", &receiver.name])
            .arg("--keylime-dir")
            .arg(&own);
        command.args([
            "--trusted-client-ca",
            &format!("{KEYLIME}/cv_ca/cacert.crt"),
        ]);
        command.args(["--revocation-cert", &format!("{KEYLIME}/notifier.crt")]);
        command.arg("--revocation-without-payload=true");
        command.args(["--revocation-actions", "note"]);
        command
            .arg("--revocation-actions-dir")
            .arg(own.join("actions"));
        let program = Program::start(command, self.site.log(&receiver.name))?;
        if let Some(receiver) = self.all.get_mut(number) {
            receiver.running = Some(program);
        }
        Ok(())
    }

    fn wait(&self, number: usize, text: &str) -> Result {
        let running = self.get(number)?.running.as_ref();
        running.ok_or("it isn't running")?.wait_for(text)?;
        Ok(())
    }
}

fn add(name: &str, key: &str, verifier: &Client, registrar: &Client) -> Result {
    let path = format!("/v2.6/agents/{name}");
    let record = registrar.get(&path)?.results()?;
    let mut body = enrolment(&record, r#"{"mask": "0x0"}"#, None);
    body["revocation_key"] = Value::from(key);
    verifier.send("POST", &path, Some(&body))?.results()?;
    Ok(())
}
