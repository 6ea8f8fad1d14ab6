//! What the agent costs: CPU for a quote, time to start, memory.

use std::fs;
use std::time::{Duration, Instant};

use hw_tests::Result;
use hw_tests::byhand::random;
use hw_tests::node::{Build, Node};
use hw_tests::payload;
use hw_tests::servers::Verifier;
use hw_tests::site::{self, Site};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::figure::{Budget, Figure, Runs};
use crate::meter::{cpu_time, micros, millis, status_kib};

const RUNS: usize = 9;

/// Quotes of one run.
const QUOTES: u32 = 300;

/// Agents whose memory is looked at.
const AGENTS: usize = 3;

/// The static agent that only calls.
const CALLING: &str = "keyhalf-agent-calling-x86_64";

/// The payload after which the peak is read.
const PAYLOAD_KIB: usize = 1024;

/// What the agent may need beside what it holds when idle and the payload itself.
const ALLOWANCE_KIB: f64 = 256.0;

/// The CPU time of a quote.
///
/// # Errors
/// A program fails.
pub(crate) fn quote_cpu(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let pid = node.program()?.pid();
    let mut session = verifier.client_of(&node)?.connect()?;
    let mut quote = || -> Result {
        let path = "/v2.6/quotes/integrity?nonce=12345678901234567890&mask=0x8000&partial=1";
        session.send("GET", path, None)?.results().map(drop)
    };
    quote()?;
    let runs = Runs::of(RUNS, || -> Result<f64> {
        let before = cpu_time(pid)?;
        (0..QUOTES).try_for_each(|_| quote())?;
        Ok(micros(cpu_time(pid)?.saturating_sub(before)) / f64::from(QUOTES))
    })?;
    Ok(vec![Figure {
        name: "quote_cpu_us",
        value: runs.median(),
        unit: "us",
        budget: Budget::AtMost(600.0),
        how: format!(
            "CPU time of the agent's process, user and kernel, all threads, over {QUOTES} quotes of PCRs 15 and 16 on one \
             TLS connection; the TPM (swtpm) is another process; {runs}"
        ),
    }])
}

/// How long the agent itself takes to start.
///
/// # Errors
/// A program fails.
pub(crate) fn start_overhead(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let (mut overhead, mut by_tpm) = (Vec::new(), Vec::new());
    let way_in = way_into_the_machine(&node)?;
    for _ in 0..RUNS {
        node.stop_agent()?;
        let tpm_before = node.tpm().tally().time();
        let started = Instant::now();
        node.launch()?.wait_for("listening on")?;
        node.wait_until_registered()?;
        let took = started.elapsed();
        let tpm = node.tpm().tally().time().saturating_sub(tpm_before);
        overhead.push(millis(took.saturating_sub(tpm + way_in)));
        by_tpm.push(millis(tpm));
    }
    let (overhead, by_tpm) = (Runs::from(overhead), Runs::from(by_tpm));
    Ok(vec![Figure {
        name: "agent_start_overhead_ms",
        value: overhead.median(),
        unit: "ms",
        budget: Budget::AtMost(25.0),
        how: format!(
            "from the agent's exec to listening and registered, less the time between each TPM command and its response as \
             the TPM's side of the wire sees it ({:.0} ms), and less what nsenter and env take to start `true` in the \
             node's machine ({:.1} ms); the registrar's work is counted; {overhead}",
            by_tpm.median(),
            millis(way_in)
        ),
    }])
}

/// What it takes to start any program in the node's machine: part of the harness, not of the agent.
///
/// # Errors
/// No program can be started there.
pub(crate) fn way_into_the_machine(node: &Node<'_>) -> Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        node.machine().command("true").status()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took[RUNS / 2])
}

/// How large the agent is as one static file, and what that holds in memory.
///
/// # Errors
/// It isn't built, or a program fails.
pub(crate) fn static_file(site: &Site) -> Result<Vec<Figure>> {
    let (size, calling) = (size_of(Build::Static.program())?, size_of(CALLING)?);
    let verifier = Verifier::start(site)?;
    let mut idle = Vec::new();
    for _ in 0..AGENTS {
        let mut node = Node::install(&verifier, Swtpm::fresh(site)?, &[])?;
        node.use_build(Build::Static);
        node.start_agent()?;
        node.wait_until_registered()?;
        idle.push(status_kib(node.program()?.pid(), "VmRSS")?);
    }
    let idle = Runs::from(idle);
    Ok(vec![
        Figure {
            name: "agent_static_bytes",
            value: size,
            unit: "bytes",
            budget: Budget::AtMost(1_600_000.0),
            how: "size of the file for x86_64 with musl, profile tiny, feature raw, stripped"
                .to_owned(),
        },
        Figure {
            name: "agent_static_provision_bytes",
            value: calling,
            unit: "bytes",
            budget: Budget::AtMost(1_200_000.0),
            how: "the same with feature device: the modes alone in which the agent calls (provision, push, cap)"
                .to_owned(),
        },
        Figure {
            name: "agent_static_idle_rss_kib",
            value: idle.median(),
            unit: "KiB",
            budget: Budget::AtMost(4096.0),
            how: format!("VmRSS of the static agent once listening and registered; {idle}"),
        },
    ])
}

fn size_of(program: &str) -> Result<f64> {
    let file = site::programs()?.join(program);
    let size = fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(size.len() as f64)
}

/// What the agent holds in memory.
///
/// # Errors
/// A program fails.
pub(crate) fn memory(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let noise = (0..PAYLOAD_KIB)
        .map(|_| random::<1024>())
        .collect::<Result<Vec<_>>>()?
        .concat();
    let (mut idle, mut peak) = (Vec::new(), Vec::new());
    for _ in 0..AGENTS {
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let pid = node.program()?.pid();
        idle.push(status_kib(pid, "VmRSS")?);
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        payload::documented(&folder)?;
        payload::write(&folder, "noise", &noise, 0o600)?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        peak.push(status_kib(pid, "VmHWM")?);
    }
    let (idle, peak) = (Runs::from(idle), Runs::from(peak));
    Ok(vec![
        Figure {
            name: "agent_idle_rss_kib",
            value: idle.median(),
            unit: "KiB",
            budget: Budget::None,
            how: format!("VmRSS once listening and registered, shared libraries counted; {idle}"),
        },
        Figure {
            name: "agent_peak_rss_kib",
            value: peak.median(),
            unit: "KiB",
            budget: Budget::AtMost(idle.median() + PAYLOAD_KIB as f64 + ALLOWANCE_KIB),
            how: format!(
                "VmHWM after the documented example and {PAYLOAD_KIB} KiB of noise were unpacked and the script has \
                 ended; at most idle, payload and {ALLOWANCE_KIB} KiB; {peak}"
            ),
        },
    ])
}
