//! What an attestation costs the verifier.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::{Package, enrolment};
use hw_tests::machine::Machine;
use hw_tests::measured::{ImaList, Measured, runtime_policy};
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Session;
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::{Site, fresh_address};
use hw_tests::swtpm::Swtpm;
use serde_json::Value;

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
    let mut watch = Watch::new(&verifier, &nodes)?;
    let runs = Runs::of(RUNS, || {
        let from = watch.read()?;
        wait_for_quotes(&nodes)?;
        watch.since(from)
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

/// The CPU time of an attestation by two verifiers at once, so that both meet the same weather: one also judges IMA lists of
/// which it knows [`LINES`].
///
/// # Errors
/// A program fails.
pub(crate) fn cpu_with_ima(site: &Site) -> Result<Vec<Figure>> {
    let start = |name| {
        let machine = Arc::new(Machine::new(site, name)?);
        let options = ["--quote-interval", INTERVAL];
        Verifier::start_on(site, machine, fresh_address(), &options)
    };
    let (plain, ima) = (start("operator")?, start("operator-of-ima")?);
    let without = [Attested::new(&plain)?, Attested::new(&plain)?];
    let with = [Measuring::new(&ima, "one")?, Measuring::new(&ima, "other")?];
    let (lists, with): (Vec<_>, Vec<_>) = with
        .into_iter()
        .map(|Measuring { list, node }| (list, node))
        .unzip();
    let mut watches = [Watch::new(&plain, &without)?, Watch::new(&ima, &with)?];
    let (mut base, mut value, mut percent) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let [plain, ima] = &mut watches;
        let from = (plain.read()?, ima.read()?);
        for (list, attested) in lists.iter().zip(&with) {
            list.measure(attested.node.tpm(), &NEW)?;
        }
        wait_for_quotes(&without)?;
        let (plain, ima) = (plain.since(from.0)?, ima.since(from.1)?);
        base.push(plain);
        value.push(ima);
        percent.push((ima / plain - 1.0) * 100.0);
    }
    let [base, value, percent] = [base, value, percent].map(Runs::from);
    Ok(vec![
        Figure {
            name: "verifier_cpu_us_per_attestation_ima_10k",
            value: value.median(),
            unit: "us",
            budget: Budget::None,
            how: format!(
                "as verifier_cpu_us_per_attestation, with 2 nodes of whose IMA lists {LINES} lines are known, a runtime policy of \
                 {LINES} files, and {} new lines of each node in a run of about {} attestations; {value}; beside it a verifier \
                 of 2 nodes without IMA: {base}",
                NEW.len(),
                QUOTES / 2,
            ),
        },
        Figure {
            name: "verifier_cpu_ima_10k_percent",
            value: percent.median(),
            unit: "%",
            budget: Budget::AtMost(20.0),
            how: format!(
                "what that is more than without IMA, both verifiers at work at the same time; {percent}"
            ),
        },
    ])
}

/// Lines that were judged before.
const LINES: usize = 10_000;

/// What each node runs in a run, again and again.
const NEW: [Measured<'_>; 3] = [
    ("/usr/bin/one", b"one"),
    ("/usr/bin/two", b"two"),
    ("/usr/bin/three", b"three"),
];

/// A node with a long IMA list.
struct Measuring<'site> {
    list: ImaList,
    node: Attested<'site>,
}

impl<'site> Measuring<'site> {
    fn new(verifier: &Verifier<'site>, name: &str) -> Result<Self> {
        let tpm = Swtpm::fresh(verifier.site())?;
        let list = ImaList::empty(verifier.site().dir(), name)?;
        let files: Vec<(String, Vec<u8>)> = (0..LINES)
            .map(|file| {
                let path = format!("/usr/lib/x86_64-linux-gnu/package/file-{file}");
                (path, file.to_le_bytes().to_vec())
            })
            .collect();
        let files = files
            .iter()
            .map(|(path, content)| (path.as_str(), content.as_slice()));
        let files: Vec<Measured<'_>> = files.collect();
        list.measure(&tpm, &files)?;
        let policy = runtime_policy(&[&files[..], &NEW].concat(), &[]);
        let node = Node::boot_with(
            verifier,
            tpm,
            &list.options().each_ref().map(String::as_str),
        )?;
        let node = Attested::of(verifier, node, Some(&policy))?;
        Ok(Self { list, node })
    }
}

/// Reads what a verifier spends on its nodes.
struct Watch<'a, 'site> {
    session: Session,
    pid: u32,
    nodes: &'a [Attested<'site>],
}

impl<'a, 'site> Watch<'a, 'site> {
    fn new(verifier: &Verifier<'_>, nodes: &'a [Attested<'site>]) -> Result<Self> {
        let session = verifier.client()?.connect()?;
        let pid = verifier.program()?.pid();
        Ok(Self {
            session,
            pid,
            nodes,
        })
    }

    /// Attestations that passed, and CPU time, so far.
    fn read(&mut self) -> Result<(u64, Duration)> {
        let count = passed(&mut self.session, self.nodes)?;
        Ok((count, cpu_time(self.pid)?))
    }

    /// Microseconds for each attestation since then.
    fn since(&mut self, (count, cpu): (u64, Duration)) -> Result<f64> {
        let spent = cpu_time(self.pid)?.saturating_sub(cpu);
        let count = passed(&mut self.session, self.nodes)?.saturating_sub(count);
        Ok(micros(spent) / f64::from(u32::try_from(count)?))
    }
}

/// A node that the verifier attests, its key half handed over.
struct Attested<'site> {
    node: Node<'site>,
    path: String,
}

impl<'site> Attested<'site> {
    fn new(verifier: &Verifier<'site>) -> Result<Self> {
        let node = Node::boot(verifier, Swtpm::fresh(verifier.site())?)?;
        Self::of(verifier, node, None)
    }

    /// Adds a node, with a runtime policy if there is one.
    fn of(verifier: &Verifier<'site>, node: Node<'site>, runtime: Option<&Value>) -> Result<Self> {
        let path = format!("/v2.6/agents/{}", node.uuid()?);
        let record = verifier.registrar_client()?.get(&path)?.results()?;
        let mask = if runtime.is_some() {
            "0x8400"
        } else {
            "0x8000"
        };
        let policy = format!(r#"{{"15": ["{}"], "mask": "{mask}"}}"#, "0".repeat(64));
        let v = Package::of(b"nobody opens it")?.v();
        let mut body = enrolment(&record, &policy, Some(&v));
        if let Some(runtime) = runtime {
            body["runtime_policy"] = BASE64.encode(runtime.to_string()).into();
        }
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
    let wanted = QUOTES / u32::try_from(NODES)? * u32::try_from(nodes.len())?;
    let quotes = || -> u32 {
        let tpms = nodes.iter().map(|attested| attested.node.tpm());
        tpms.map(|tpm| tpm.tally().count(code::QUOTE)).sum()
    };
    let from = quotes();
    until(LIMIT, "quotes of all nodes", || {
        (quotes() >= from + wanted).then_some(())
    })
}
