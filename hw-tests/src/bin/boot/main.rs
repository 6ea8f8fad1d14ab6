//! A user's own image, booted beside a verifier: `./hw-tests/boot --help` says how.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use hw_tests::Result;
use hw_tests::guest::COMMAND_LINE;
use hw_tests::guest::boot::{Boot, Ended, Power};
use hw_tests::guest::network::forward;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::process::{LIMIT, Log, Program, until};
use hw_tests::servers::Verifier;
use hw_tests::site::Site;

use advice::advice;
use options::{ANY_BOOT, Options};
use state::State;
use timeline::Timeline;

mod advice;
mod options;
mod state;
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
    let state = State::open(site, &options.state)?;
    let mut verifier = state.verifier(site)?;
    let files = state.files_of_the_image(&verifier)?;
    let ended = match &options.image {
        Some((kernel, initramfs)) => boot(site, options, &verifier, state.tpm(), kernel, initramfs),
        None => {
            println!(
                "made; what your image needs in /etc/keyhalf: {}",
                files.display()
            );
            Ok(0)
        }
    };
    verifier.stop()?;
    state.keep()?;
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
        disk_keeps: false,
        memory_mib: options.memory_mib,
        firmware: options.firmware,
        limit: options.firmware.limit(),
        forward: &forward(CONTACT),
        tpm,
    };
    let tenants = site.log("keyhalf-tenant");
    let said = Arc::clone(verifier.program()?.log());
    let before = said.len();
    let known = node_that_calls(verifier)?;
    let mut boot = Boot::start(site, power)?;
    let timeline = Timeline::start(vec![
        ("console", Arc::clone(boot.console())),
        ("verifier", Arc::clone(&said)),
        ("tenant", Arc::clone(&tenants)),
    ]);
    if let Some(folder) = &options.payload {
        let met = until(options.limit, "registration", || {
            let node = known.clone().or_else(|| registered(&said.text(), before));
            node.map(Some).or_else(|| boot.has_ended().then_some(None))
        });
        if let Ok(Some(uuid)) = met {
            give(verifier, &uuid, folder, &options.policy, tenants)?;
        }
    }
    let left = options.limit.saturating_sub(boot.age());
    let ended = boot.wait_for_end_within(left);
    let seen = timeline.summarize();
    let (how, code) = match ended {
        Ok(Ended::Off) => ("the guest is off".to_owned(), 0),
        Ok(Ended::Reported(code)) => {
            let how = format!("the guest reported {code}");
            (how, u8::try_from(code).unwrap_or(1))
        }
        Err(error) => (error.to_string(), LIMIT_CAME),
    };
    println!("           {how}");
    if let Some(advice) = advice(&seen) {
        println!("\n{advice}");
    }
    Ok(code)
}

/// Gives the node a payload, as an operator would: to its agent, or, if it is one that calls, to the verifier.
fn give(verifier: &Verifier<'_>, uuid: &str, folder: &Path, policy: &str, log: Arc<Log>) -> Result {
    let (servers, contact) = (verifier.address().to_string(), CONTACT.to_string());
    let how: &[&str] = match (calls(verifier, uuid)?, policy) {
        (false, _) => &["-t", &contact],
        (true, ANY_BOOT) => &["-u", uuid, "--push-model", "--allow-weak-policy"],
        (true, _) => &["-u", uuid, "--push-model"],
    };
    let mut tenant = verifier.command("keyhalf-tenant");
    tenant
        .env("KEYLIME_TENANT_VERIFIER_IP", &servers)
        .env("KEYLIME_TENANT_REGISTRAR_IP", &servers)
        .args(["-c", "update", "--tpm_policy", policy])
        .args(["--cert", state::CA, "--include"])
        .arg(fs::canonicalize(folder)?)
        .args(how);
    Program::start(tenant, log)?.wait(LIMIT)?;
    Ok(())
}

/// A node of an earlier run that calls: the registrar knows it, so it doesn't register again.
fn node_that_calls(verifier: &Verifier<'_>) -> Result<Option<String>> {
    let all = verifier
        .registrar_client()?
        .get("/v2.6/agents/")?
        .results()?;
    let uuids = all["uuids"].as_array().into_iter().flatten();
    for uuid in uuids.filter_map(|uuid| uuid.as_str()) {
        if calls(verifier, uuid)? {
            return Ok(Some(uuid.to_owned()));
        }
    }
    Ok(None)
}

/// Whether a node calls its verifier: nobody calls it, so it has no certificate for that.
fn calls(verifier: &Verifier<'_>, uuid: &str) -> Result<bool> {
    let path = format!("/v2.6/agents/{uuid}");
    let record = verifier.registrar_client()?.get(&path)?.results()?;
    Ok(record["mtls_cert"] == "disabled")
}

/// The node that the registrar has said something of since its line number `before`.
fn registered(said: &str, before: usize) -> Option<String> {
    let mut lines = said.lines().skip(before);
    let (uuid, _) = lines.find_map(|line| line.split_once(REGISTERED)?.1.split_once(' '))?;
    Some(uuid.trim_matches('"').to_owned())
}

/// What the registrar says of a node, before its name.
const REGISTERED: &str = " registered agent=";
