//! What stays from run to run: the TPM, the verifier's and the tenant's keys, the database, and what an image has to know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hw_tests::Result;
use hw_tests::guest::configuration;
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::machine::Machine;
use hw_tests::process::{LIMIT, Log, Program};
use hw_tests::servers::{VERIFIER_PORT, Verifier};
use hw_tests::site::Site;
use hw_tests::swtpm::trust_manufacturer;

/// The tenant's CA, on the verifier's machine: among what stays.
pub(crate) const CA: &str = "/var/lib/keylime/ca";

/// A state directory in use.
pub(crate) struct State {
    dir: PathBuf,
    machine: Arc<Machine>,
    tpm: GuestTpm,
}

impl State {
    /// Brings what stays to the verifier's machine; the first time, makes the TPM.
    ///
    /// # Errors
    /// The directory can't be used; the TPM can't be made.
    pub(crate) fn open(site: &Site, dir: &Path) -> Result<Self> {
        let machine = Arc::new(Machine::new(site, "operator")?);
        let tpm = made_once(site, dir)?;
        let kept = dir.join("verifier");
        fs::create_dir_all(&kept)?;
        copy(&kept, &machine.keylime())?;
        let store = machine.keylime().join("tpm_cert_store");
        copy(&dir.join("manufacturer"), &store)?;
        Ok(Self {
            dir: fs::canonicalize(dir)?,
            machine,
            tpm,
        })
    }

    /// The guest's TPM.
    pub(crate) fn tpm(&self) -> &GuestTpm {
        &self.tpm
    }

    /// The verifier, on its machine.
    ///
    /// # Errors
    /// It doesn't start.
    pub(crate) fn verifier<'site>(&self, site: &'site Site) -> Result<Verifier<'site>> {
        Verifier::start_on(site, Arc::clone(&self.machine), reachable_address()?, &[])
    }

    /// The directory of what an image needs in `/etc/keyhalf`.
    ///
    /// # Errors
    /// The tenant's certificate can't be made, or a file not written.
    pub(crate) fn files_of_the_image(&self, verifier: &Verifier<'_>) -> Result<PathBuf> {
        let mut tenant = verifier.command("keyhalf-tenant");
        tenant.args(["-c", "signer", "--cert", CA]);
        let log = Log::new("keyhalf-tenant");
        let status = Program::start(tenant, Arc::clone(&log))?.wait(LIMIT)?;
        if !status.success() {
            return Err(format!("keyhalf-tenant -c signer: {status}\n{}", log.text()).into());
        }
        let files = self.dir.join("keyhalf");
        fs::create_dir_all(&files)?;
        let signer = self.machine.keylime().join("ca/PayloadSigner-cert.crt");
        for (name, content) in configuration(verifier, &signer)? {
            // Its names have the directory in them.
            fs::write(self.dir.join(name), content)?;
        }
        let address = verifier.address();
        let config = format!(
            "[agent]\nregistrar_ip = \"{address}\"\nverifier_url = \"https://{address}:{VERIFIER_PORT}\"\n"
        );
        fs::write(files.join("agent.conf"), config)?;
        Ok(files)
    }

    /// Brings back what the verifier leaves, after it has stopped.
    ///
    /// # Errors
    /// The directory can't be written to.
    pub(crate) fn keep(&self) -> Result {
        copy(&self.machine.keylime(), &self.dir.join("verifier"))
    }
}

/// The TPM of this state, made the first time, with its manufacturer's certificates.
fn made_once(site: &Site, state: &Path) -> Result<GuestTpm> {
    let (made, manufacturer) = (state.join("tpm"), state.join("manufacturer"));
    // A name of its own until all of it is there.
    if !made.exists() {
        let fresh = GuestTpm::fresh(site)?;
        trust_manufacturer(&manufacturer)?;
        let partly = state.join("tpm.new");
        copy(fresh.dir(), &partly)?;
        fs::rename(partly, &made)?;
    }
    Ok(GuestTpm::at(site, made))
}

/// Copies all that is in a directory into another.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    let all = from.join(".");
    let status = Command::new("cp").arg("-a").args([&all, to]).status()?;
    if !status.success() {
        return Err(format!("{} can't be copied to {}", from.display(), to.display()).into());
    }
    Ok(())
}
