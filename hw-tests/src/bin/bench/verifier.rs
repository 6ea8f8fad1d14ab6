//! What an attestation costs the verifier.

use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::{Package, enrolment};
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Session;
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::Site;
use hw_tests::swtpm::Swtpm;

use crate::figure::{Budget, Figure, Runs};
use crate::meter::{cpu_time, micros};

const RUNS: usize = 9;

/// Nodes that are attested at once.
const NODES: usize = 4;

/// Seconds between two quotes of a node.
const INTERVAL: &str = "0.05";

/// Quotes of all nodes in one run.
const QUOTES: u32 = 400;

/// The CPU time of an attestation.
///
/// # Errors
/// A program fails.
pub(crate) fn cpu_per_attestation(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start_with(site, &["--quote-interval", INTERVAL])?;
    let nodes = (0..NODES)
        .map(|_| Attested::new(&verifier))
        .collect::<Result<Vec<_>>>()?;
    let mut session = verifier.client()?.connect()?;
    let pid = verifier.program()?.pid();
    let runs = Runs::of(RUNS, || -> Result<f64> {
        let (from, cpu) = (passed(&mut session, &nodes)?, cpu_time(pid)?);
        wait_for_quotes(&nodes)?;
        let spent = cpu_time(pid)?.saturating_sub(cpu);
        let count = passed(&mut session, &nodes)?.saturating_sub(from);
        Ok(micros(spent) / f64::from(u32::try_from(count)?))
    })?;
    Ok(vec![Figure {
        name: "verifier_cpu_us_per_attestation",
        value: runs.median(),
        unit: "us",
        budget: Budget::AtMost(875.0),
        how: format!(
            "CPU time of the verifier's process, user and kernel, all threads, for about {QUOTES} attestations that \
             passed: {NODES} nodes, every {INTERVAL} s, PCR policy, ECDSA, mutual TLS, SQLite; {runs}"
        ),
    }])
}

/// A node that the verifier attests, its key half handed over.
struct Attested<'site> {
    node: Node<'site>,
    path: String,
}

impl<'site> Attested<'site> {
    fn new(verifier: &Verifier<'site>) -> Result<Self> {
        let node = Node::boot(verifier, Swtpm::fresh(verifier.site())?)?;
        let path = format!("/v2.6/agents/{}", node.uuid()?);
        let record = verifier.registrar_client()?.get(&path)?.results()?;
        let policy = format!(r#"{{"15": ["{}"], "mask": "0x8000"}}"#, "0".repeat(64));
        let v = Package::of(b"nobody opens it")?.v();
        let body = enrolment(&record, &policy, Some(&v));
        let client = verifier.client()?;
        client.send("POST", &path, Some(&body))?.results()?;
        let attested = Self { node, path };
        let mut session = client.connect()?;
        until(LIMIT, "second attestation", || {
            attested.count(&mut session).ok().filter(|count| *count > 1)
        })?;
        Ok(attested)
    }

    /// How often it has passed.
    fn count(&self, session: &mut Session) -> Result<u64> {
        let record = session.send("GET", &self.path, None)?.results()?;
        record["attestation_count"]
            .as_u64()
            .ok_or_else(|| "no attestation_count".into())
    }
}

fn passed(session: &mut Session, nodes: &[Attested<'_>]) -> Result<u64> {
    nodes.iter().map(|node| node.count(session)).sum()
}

/// Waits as the TPMs see it: asking the verifier would cost it what is measured.
fn wait_for_quotes(nodes: &[Attested<'_>]) -> Result {
    let quotes = || -> u32 {
        let tpms = nodes.iter().map(|attested| attested.node.tpm());
        tpms.map(|tpm| tpm.tally().count(code::QUOTE)).sum()
    };
    let from = quotes();
    until(LIMIT, "quotes of all nodes", || {
        (quotes() >= from + QUOTES).then_some(())
    })
}
