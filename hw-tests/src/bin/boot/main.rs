//! A user's own image, booted beside a verifier: `./hw-tests/boot --help` says how.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use hw_tests::Result;
use hw_tests::guest::COMMAND_LINE;
use hw_tests::guest::boot::{Boot, Ended, Power};
use hw_tests::guest::network::{forward, reachable_address};
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::machine::Machine;
use hw_tests::process::{LIMIT, Log, Program, until};
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::swtpm::trust_manufacturer;

use options::Options;
use timeline::Timeline;

mod options;
mod timeline;

/// Where the host finds the guest's agent.
const CONTACT: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 2);

/// Exit codes: the limit came first; the command line is wrong.
const LIMIT_CAME: u8 = 16;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}: see ./hw-tests/boot --help");
            return ExitCode::from(USAGE);
        }
    };
    let ended = Site::new().and_then(|site| {
        let ended = play(&site, &options);
        if ended.is_err() && options.image.is_none() {
            site.logs()
                .iter()
                .for_each(|log| eprintln!("{}", log.text()));
        }
        ended
    });
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn play(site: &Site, options: &Options) -> Result<u8> {
    let machine = Arc::new(Machine::new(site, "operator")?);
    let kept = options.state.join("verifier");
    fs::create_dir_all(&kept)?;
    copy(&kept, &machine.keylime())?;
    let tpm = made_once(site, &options.state)?;
    let store = machine.keylime().join("tpm_cert_store");
    copy(&options.state.join("manufacturer"), &store)?;
    let mut verifier = Verifier::start_on(site, Arc::clone(&machine), reachable_address()?, &[])?;
    let ended = match &options.image {
        Some((kernel, initramfs)) => boot(site, options, &verifier, &tpm, kernel, initramfs),
        None => {
            let anchor = fs::canonicalize(&kept)?.join("cv_ca/cacert.crt");
            println!("made; what your image has to trust: {}", anchor.display());
            Ok(0)
        }
    };
    verifier.stop()?;
    copy(&machine.keylime(), &kept)?;
    ended
}

fn boot(
    site: &Site,
    options: &Options,
    verifier: &Verifier<'_>,
    tpm: &GuestTpm,
    kernel: &Path,
    initramfs: &Path,
) -> Result<u8> {
    let command_line = format!("{COMMAND_LINE} {}", options.append);
    let power = Power {
        dir: site.dir(),
        kernel,
        initramfs,
        command_line: command_line.trim(),
        partition: None,
        clock: None,
        disk: options.disk.as_deref(),
        memory_mib: options.memory_mib,
        firmware: options.firmware,
        limit: options.firmware.limit(),
        forward: &forward(CONTACT),
        tpm,
    };
    let tenants = site.log("keyhalf-tenant");
    let said = Arc::clone(verifier.program()?.log());
    let before = said.len();
    let mut boot = Boot::start(site, power)?;
    let timeline = Timeline::start(vec![
        ("console", Arc::clone(boot.console())),
        ("verifier", Arc::clone(&said)),
        ("tenant", Arc::clone(&tenants)),
    ]);
    if let Some(folder) = &options.payload {
        let registered = || {
            said.text()
                .lines()
                .skip(before)
                .any(|line| line.contains(REGISTERED))
        };
        let met = until(options.limit, "registration", || {
            registered()
                .then_some(true)
                .or_else(|| boot.has_ended().then_some(false))
        });
        if met.unwrap_or(false) {
            give(verifier, folder, &options.policy, tenants)?;
        }
    }
    let left = options.limit.saturating_sub(boot.age());
    let ended = boot.wait_for_end_within(left);
    timeline.summarize();
    let (how, code) = match ended {
        Ok(Ended::Off) => ("the guest is off".to_owned(), 0),
        Ok(Ended::Reported(code)) => {
            let how = format!("the guest reported {code}");
            (how, u8::try_from(code).unwrap_or(1))
        }
        Err(error) => (error.to_string(), LIMIT_CAME),
    };
    println!("           {how}");
    Ok(code)
}

/// Gives the node a payload, as an operator would.
fn give(verifier: &Verifier<'_>, folder: &Path, policy: &str, log: Arc<Log>) -> Result {
    let (servers, contact) = (verifier.address().to_string(), CONTACT.to_string());
    let folder = fs::canonicalize(folder)?;
    let mut tenant = verifier.command("keyhalf-tenant");
    tenant
        .env("KEYLIME_TENANT_VERIFIER_IP", &servers)
        .env("KEYLIME_TENANT_REGISTRAR_IP", &servers)
        .args(["-c", "update", "-t", &contact, "--tpm_policy", policy])
        .args(["--cert", "ca", "--include"])
        .arg(folder);
    Program::start(tenant, log)?.wait(LIMIT)?;
    Ok(())
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

/// What the registrar says of a node.
const REGISTERED: &str = "registered agent=";
