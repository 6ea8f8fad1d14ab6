//! A guest from power-on to its secret: the agent's part of that, what it holds in memory, and where the time goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::payload;
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::tenant::Tenant;

use crate::figure::{Budget, Figure, Runs};
use report::{Measured, took};
use stages::{AGENTS_FIRST, Console, ENDED, STARTS, Timeline};

mod chart;
mod report;
mod stages;

/// Boots that are measured.
const BOOTS: usize = 10;

/// Further ones, whose agent logs more.
const DETAILED: usize = 3;

/// Stands before the agent in the guest, and says in the kernel's log when it starts and ends. Found first: the agent is in
/// `/bin`.
const WRAPPER: (&str, &str) = (
    "/usr/bin/keyhalf-agent",
    "#!/bin/busybox sh
echo \"bench: $1 starts\" >/dev/kmsg
/bin/keyhalf-agent \"$@\"
code=$?
echo \"bench: $1 ended with $code\" >/dev/kmsg
exit \"$code\"
",
);

/// Ends the payload's script: whose child it is, and the most that this process has held so far.
const MEMORY: &str =
    "grep -e ^Name: -e ^VmHWM: /proc/$PPID/status | sed 's/^/bench: /' >/dev/kmsg\n";

/// Boots of a registered node with a deposit.
///
/// # Errors
/// A program fails; the guest says something else than expected; the report can't be written.
pub(crate) fn power_on_to_secret(site: &Site) -> Result<Vec<Figure>> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().parse()?;
    // No boot waits because others came shortly before it.
    let pace = ["--quote-interval", "0.01"];
    let verifier = Verifier::start_at(site, reachable_address()?, &pace)?;
    let tpm = GuestTpm::fresh(site)?;
    let tenant = Tenant::beside(&verifier)?;
    tenant.does(&["-c", "signer", "--cert", "myca"])?;
    let signer = tenant.work().join("myca/PayloadSigner-cert.crt");
    let mut guest = Guest::provisioning(&verifier, &signer, tpm)?;
    let (path, wrapper) = WRAPPER;
    guest.initramfs().file(path, 0o755, wrapper.into())?;
    deposit(&tenant, &guest)?;

    let (mut boots, mut memory) = (Vec::new(), Vec::new());
    for console in true_boots(&guest, BOOTS)? {
        boots.push(Timeline::of_boot(&console)?);
        memory.push(most_held(&console.text)?);
    }
    guest.append("keyhalf.log-level=debug");
    let (mut agents, mut tpm) = (Vec::new(), Vec::new());
    for console in true_boots(&guest, DETAILED)? {
        agents.push(Timeline::of_agent(&console)?);
        tpm.push(console.by_the_tpm());
    }
    let measured = Measured {
        boots,
        agents,
        tpm: tpm.into(),
        load,
    };
    report::write(&docs(), &measured)?;
    Ok(figures(&measured, &memory.into()))
}

/// The consoles of so many boots in which the guest's clock was true.
fn true_boots(guest: &Guest<'_>, count: usize) -> Result<Vec<Console>> {
    let mut found = Vec::new();
    for _ in 0..3 * count {
        let console = good_boot(guest)?;
        if console.has_true_time()? {
            found.push(console);
        } else {
            eprintln!(
                "a boot isn't counted: the guest's clock was wrong, as on a host that is too busy"
            );
        }
        if found.len() == count {
            return Ok(found);
        }
    }
    Err("the guest's clock is wrong too often: the host is too busy".into())
}

/// Boots until the agent has ended.
fn good_boot(guest: &Guest<'_>) -> Result<Console> {
    let boot = guest.boot()?;
    let ended = boot.says(ENDED)?;
    if !ended.ends_with(&format!("{ENDED}0")) {
        return Err(format!("the agent didn't get the secret: {ended}").into());
    }
    // What it said last comes through another process.
    boot.says("guest: the agent ended with ")?;
    let age_at = |text| -> Result<Duration> {
        let moment = boot.console().moment(text).ok_or("a line that is gone")?;
        Ok(boot.age().saturating_sub(moment.elapsed()))
    };
    let console = Console {
        text: boot.console().text(),
        starts: age_at(STARTS)?,
        ended: age_at(ENDED)?,
    };
    boot.power_off()?;
    Ok(console)
}

/// Accepts the node, with the documented payload and a script that tells of the agent's memory.
fn deposit(tenant: &Tenant<'_>, guest: &Guest<'_>) -> Result {
    let mut boot = guest.boot()?;
    let uuid = boot.wait_until_registered()?;
    let policy = format!(r#"{{"0": "{}"}}"#, boot.pcr(0)?);
    boot.power_off()?;
    let folder = tenant.work().join("payload");
    payload::documented(&folder)?;
    let script = format!("{}{MEMORY}", payload::DOCUMENTED_SCRIPT);
    payload::script(&folder, &script)?;
    let add = ["-c", "add", "-u", &uuid, "--push-model", "--cert", "myca"];
    let what = ["--include", "payload", "--tpm_policy", &policy];
    tenant.does(&[&add[..], &what].concat())?;
    Ok(())
}

/// What the script has said of the agent's memory, in KiB.
fn most_held(console: &str) -> Result<f64> {
    let after = |field: &str| {
        let (_, rest) = console.split_once(field)?;
        rest.split_whitespace().next()
    };
    match (after("bench: Name:"), after("bench: VmHWM:")) {
        (Some("keyhalf-agent"), Some(kib)) => Ok(kib.parse()?),
        other => Err(format!("the script told of no agent's memory: {other:?}").into()),
    }
}

fn figures(measured: &Measured, memory: &Runs) -> Vec<Figure> {
    let Measured { boots, tpm, .. } = measured;
    let agent = took(boots, |boot| boot.from(AGENTS_FIRST));
    let whole = took(boots, |boot| boot.from(0));
    let share = took(boots, |boot| 100.0 * boot.from(AGENTS_FIRST) / boot.from(0));
    vec![
        Figure {
            name: "boot_agent_ms",
            value: agent.median(),
            unit: "ms",
            budget: Budget::AtMost(900.0),
            how: format!(
                "static keyhalf-agent provision in a guest's initramfs, from its start to its exit, script and cap \
                 included, by the kernel log of the guest; {}, swtpm with an RSA endorsement key (whose \
                 answers take about {:.0} ms of it), console on a serial port; {agent}",
                machine(),
                tpm.median()
            ),
        },
        Figure {
            name: "boot_agent_percent",
            value: share.median(),
            unit: "%",
            budget: Budget::None,
            how: format!("boot_agent_ms of the time from power-on to the agent's exit; {share}"),
        },
        Figure {
            name: "boot_secret_ms",
            value: whole.median(),
            unit: "ms",
            budget: Budget::None,
            how: format!(
                "from QEMU's start to the agent's exit: SeaBIOS, Debian's cloud kernel, an initramfs with busybox; {whole}"
            ),
        },
        Figure {
            name: "guest_agent_rss_kib",
            value: memory.median(),
            unit: "KiB",
            budget: Budget::None,
            how: format!(
                "VmHWM of the static agent in the guest, read by the payload's script as its last act: all that comes \
                 after it is the receipt; {memory}"
            ),
        },
    ]
}

/// How the guest is run, for the reader of a figure.
fn machine() -> &'static str {
    match std::env::var_os("KEYHALF_KVM") {
        Some(wanted) if wanted == "1" => "virtualized",
        _ => "emulated",
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}
