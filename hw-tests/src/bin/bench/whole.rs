//! Figures of the whole programs: swtpm, verifier and agent on loopback.

use std::fs;
use std::time::{Duration, Instant};

use hw_tests::Result;
use hw_tests::byhand::{Package, enrolment, random};
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::{Budget, Figure, median, rounded};

/// Runs of what takes a second.
const RUNS: usize = 7;

/// Quotes over one connection.
const QUOTES: u32 = 300;

/// Nodes that one verifier attests at once, and how many attestations are waited for.
const NODES: usize = 4;
const ATTESTATIONS: u64 = 400;

pub(crate) fn figures() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for measure in [
        add_to_script_done,
        quote_cpu,
        agent_start,
        agent_memory,
        verifier_cpu,
    ] {
        let site = Site::new()?;
        figures.extend(measure(&site).inspect_err(|_| {
            for log in site.logs() {
                eprintln!("---- {} said\n{}", log.name(), log.text());
            }
        })?);
    }
    Ok(figures)
}

fn add_to_script_done(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let tenant = Tenant::beside(&verifier)?;
    let folder = tenant.work().join("payload");
    payload::documented(&folder)?;
    payload::write(&folder, "noise", &random::<10_240>()?, 0o600)?;
    let (ip, uuid) = (node.ip(), node.uuid()?);
    let add = ["-t", &ip, "--cert", "myca", "--include", "payload"];
    let mut runs = Vec::new();
    // The first makes the CA, and isn't counted.
    for run in 0..=RUNS {
        let told = tenant.does(&add)?;
        if run > 0 {
            runs.push(told.took);
        }
        tenant.does(&["-c", "delete", "-u", &uuid])?;
    }
    Ok(vec![Figure {
        name: "add_to_script_done_ms",
        value: rounded(millis(median(runs))),
        unit: "ms",
        budget: Budget::AtMost(150.0),
        how: format!(
            "median of {RUNS} tenant runs, exec to exit after the script's end; 10 KB payload, CA there, no passphrase"
        ),
    }])
}

fn quote_cpu(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let pid = node.program()?.pid();
    let mut session = verifier.client_of(&node)?.connect()?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let before = cpu_time(pid)?;
        for _ in 0..QUOTES {
            let reply = session.send(
                "GET",
                "/v2.6/quotes/integrity?nonce=12345678901234567890&mask=0x8000&partial=1",
                None,
            )?;
            reply.results()?;
        }
        runs.push((cpu_time(pid)?.saturating_sub(before)) / QUOTES);
    }
    Ok(vec![Figure {
        name: "quote_cpu_us",
        value: rounded(micros(median(runs))),
        unit: "us",
        budget: Budget::AtMost(600.0),
        how: format!(
            "the agent's CPU time (schedstat) over {QUOTES} quotes on one TLS connection, median of {RUNS}; swtpm is another process"
        ),
    }])
}

fn agent_start(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        node.stop_agent()?;
        let tpm_before = node.tpm().tally().time();
        let started = Instant::now();
        node.launch()?.wait_for("listening on")?;
        node.wait_until_registered()?;
        let took = started.elapsed();
        runs.push(took.saturating_sub(node.tpm().tally().time().saturating_sub(tpm_before)));
    }
    Ok(vec![Figure {
        name: "agent_start_overhead_ms",
        value: rounded(millis(median(runs))),
        unit: "ms",
        budget: Budget::AtMost(25.0),
        how: format!(
            "exec to registered and listening, less the time that the TPM took; median of {RUNS}"
        ),
    }])
}

fn agent_memory(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let tenant_payload = (0..256)
        .map(|_| random::<4096>())
        .collect::<Result<Vec<_>>>()?
        .concat();
    let (mut idle, mut peak) = (Vec::new(), Vec::new());
    for run in 0..3 {
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let pid = node.program()?.pid();
        idle.push(status_kib(pid, "VmRSS:")?);
        let tenant = Tenant::beside(&verifier)?;
        let name = format!("noise-{run}");
        fs::write(tenant.work().join(&name), &tenant_payload)?;
        tenant.does(&["-t", &node.ip(), "-f", &name])?;
        peak.push(status_kib(pid, "VmHWM:")?);
    }
    idle.sort_unstable();
    peak.sort_unstable();
    let (idle, peak) = (f64::from(idle[1]), f64::from(peak[1]));
    Ok(vec![
        Figure {
            name: "agent_idle_rss_kib",
            value: idle,
            unit: "KiB",
            budget: Budget::None,
            how: "VmRSS once registered, median of 3".to_owned(),
        },
        Figure {
            name: "agent_peak_rss_kib",
            value: peak,
            unit: "KiB",
            budget: Budget::AtMost(idle + 1024.0 + 256.0),
            how: "VmHWM after a payload of 1 MiB, median of 3".to_owned(),
        },
    ])
}

fn verifier_cpu(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start_with(site, &["--quote-interval", "0.02"])?;
    let (client, registrar) = (verifier.client()?, verifier.registrar_client()?);
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let path = format!("/v2.6/agents/{}", node.uuid()?);
        let record = registrar.get(&path)?.results()?;
        let policy = format!(r#"{{"15": "{}", "mask": "0x8000"}}"#, "0".repeat(64));
        let package = Package::of(b"x")?;
        client
            .send(
                "POST",
                &path,
                Some(&enrolment(&record, &policy, Some(&package.v()))),
            )?
            .results()?;
        nodes.push((node, path));
    }
    let mut session = client.connect()?;
    let mut count = || -> Result<u64> {
        let mut sum = 0;
        for (_, path) in &nodes {
            let record = session.send("GET", path, None)?.results()?;
            sum += record["attestation_count"]
                .as_u64()
                .ok_or("no attestation_count")?;
        }
        Ok(sum)
    };
    let pid = verifier.program()?.pid();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (before, cpu_before) = (count()?, cpu_time(pid)?);
        let rounds = u32::try_from(ATTESTATIONS / 100)?;
        let expected = Duration::from_millis(20) * u32::try_from(ATTESTATIONS)?
            / u32::try_from(NODES)?
            / rounds;
        let mut after = before;
        until(LIMIT, "attestations", || {
            // Asking costs the verifier CPU as well: rarely, and only when the answer may be yes.
            std::thread::sleep(expected);
            after = count().ok()?;
            (after >= before + ATTESTATIONS).then_some(())
        })?;
        let spent = cpu_time(pid)?.saturating_sub(cpu_before);
        runs.push(spent / u32::try_from(after - before)?);
    }
    Ok(vec![Figure {
        name: "verifier_cpu_us_per_attestation",
        value: rounded(micros(median(runs))),
        unit: "us",
        budget: Budget::AtMost(875.0),
        how: format!(
            "the verifier's CPU time (schedstat) over {ATTESTATIONS} attestations of {NODES} nodes, PCR policy, kept-alive TLS, store; median of {RUNS}"
        ),
    }])
}

/// CPU time of all threads that a process has had and still has.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

fn status_kib(pid: u32, field: &str) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .ok_or("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
