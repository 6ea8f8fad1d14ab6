//! How fast an IMA list is replayed and judged, against the hashes that this takes run alone.

use std::hint::black_box;
use std::time::Duration;

use agent_core::wire::quote::{Digest, HashAlg, PcrDump, PcrValues};
use agent_core::wire::text::Hex;
use hw_tests::Result;
use hw_tests::measured::{Entry, policy_of};
use hw_tests::site::Site;
use serde_json::{Map, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use verifier_host::evidence::ima::{Replayed, check};
use verifier_host::policy::IMA_PCR;
use verifier_host::policy::runtime::{Judge, Learnt, RuntimePolicy};

use crate::figure::{Budget, Figure, Runs};
use crate::meter::cpu_time;

/// Lines of the list.
const LINES: usize = 20_000;

/// Files of the policy, those that never run included.
const FILES: usize = 40_000;

/// Runs of each, in turns, so that all meet the same weather.
const RUNS: usize = 21;

/// The ratio that is promised.
const LEAST_RATIO: f64 = 0.5;

/// Lines by time, and the ratios.
///
/// # Errors
/// The list isn't taken.
pub(crate) fn figures(_: &Site) -> Result<Vec<Figure>> {
    let machine = Machine::new()?;
    let (mut whole, mut three, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        whole.push(seconds(|| machine.judge())?);
        three.push(seconds(|| machine.check_hashes())?);
        one.push(seconds(|| Ok(machine.hash_once()))?);
    }
    let (whole, three, one) = (Runs::from(whole), Runs::from(three), Runs::from(one));
    let nanos = |runs: &Runs| runs.median() / LINES as f64 * 1e9;
    let bytes: usize = machine.entries.iter().map(|entry| entry.data.len()).sum();
    let each = bytes / LINES;
    Ok(vec![
        Figure {
            name: "ima_lines_per_s",
            value: LINES as f64 / whole.median(),
            unit: "1/s",
            budget: Budget::None,
            how: format!(
                "lines of an IMA list as text by CPU time of one thread: each read, its SHA-1 checked, PCR 10 extended in the \
                 SHA-256 bank, its path and digest found in a runtime policy of {FILES} files with excludes; {LINES} lines of \
                 ima-ng, {each} bytes of template data each on average; {:.0} ns a line, median of {RUNS} runs",
                nanos(&whole)
            ),
        },
        Figure {
            name: "ima_ratio",
            value: three.median() / whole.median(),
            unit: "ratio",
            budget: Budget::AtLeast(LEAST_RATIO),
            how: format!(
                "CPU time of the three hashes alone that a line takes, over data that are packed already (SHA-1 and SHA-256 of \
                 the template data, SHA-256 of PCR 10 and the latter; {:.0} ns), by that of the whole ({:.0} ns), in turns, \
                 medians of {RUNS} runs",
                nanos(&three),
                nanos(&whole)
            ),
        },
        Figure {
            name: "ima_ratio_one_hash",
            value: one.median() / whole.median(),
            unit: "ratio",
            budget: Budget::None,
            how: format!(
                "the same with one SHA-256 of the template data alone ({:.0} ns), which is the least part of a replay",
                nanos(&one)
            ),
        },
    ])
}

/// The CPU time of some work in this process, which has one thread.
fn seconds(work: impl FnOnce() -> Result<[u8; 32]>) -> Result<f64> {
    let now = || cpu_time(std::process::id());
    let from: Duration = now()?;
    black_box(work()?);
    Ok(now()?.saturating_sub(from).as_secs_f64())
}

/// What a machine measured, and what it may.
struct Machine {
    entries: Vec<Entry>,
    list: String,
    policy: RuntimePolicy,
    quoted: PcrDump,
}

impl Machine {
    fn new() -> Result<Self> {
        // Machines don't run files in the order of a policy.
        let order = (0..LINES).map(|line| line * STEP % FILES);
        let entries: Vec<Entry> = order
            .map(|file| Entry::new(&path(file), &digest(file)))
            .collect();
        let digests: Map<_, _> = (0..FILES)
            .map(|file| (path(file), json!([Hex(&digest(file)).to_string()])))
            .collect();
        let policy = policy_of(digests, &EXCLUDES).to_string();
        let pcr = replay(&entries);
        let mut values = PcrValues::new();
        let pcr = Digest::from_slice(&pcr).map_err(|_| "a digest's size")?;
        values.push((IMA_PCR, pcr)).map_err(|_| "too many PCRs")?;
        let quoted = PcrDump::new(HashAlg::Sha256, values);
        Ok(Self {
            list: entries.iter().map(Entry::line).collect(),
            entries,
            policy: RuntimePolicy::read(policy.as_bytes(), None)?,
            quoted: quoted.map_err(|error| format!("{error:?}"))?,
        })
    }

    /// What the verifier does with a whole list.
    fn judge(&self) -> Result<[u8; 32]> {
        let mut judge = Judge::new(&self.policy, Learnt::default(), &self.quoted);
        let (bank, known) = (HashAlg::Sha256, Replayed::default());
        let pcr = self.quoted.value(IMA_PCR).unwrap_or_default();
        let list = black_box(self.list.as_bytes());
        let matched = check(list, bank, &known, pcr, 0, &mut judge)?;
        if matched.replayed.lines != LINES as u64 {
            return Err(format!("{} lines match", matched.replayed.lines).into());
        }
        Ok(matched.replayed.pcr[..].try_into()?)
    }

    fn check_hashes(&self) -> Result<[u8; 32]> {
        for entry in &self.entries {
            black_box(Sha1::digest(black_box(&entry.data)));
        }
        Ok(replay(&self.entries))
    }

    fn hash_once(&self) -> [u8; 32] {
        let mut last = [0; 32];
        for entry in &self.entries {
            last = Sha256::digest(black_box(&entry.data)).into();
        }
        last
    }
}

/// PCR 10 of the SHA-256 bank.
fn replay(entries: &[Entry]) -> [u8; 32] {
    entries.iter().fold([0; 32], |pcr, entry| {
        let digest = Sha256::digest(black_box(&entry.data));
        Sha256::new()
            .chain_update(pcr)
            .chain_update(digest)
            .finalize()
            .into()
    })
}

fn digest(file: usize) -> [u8; 32] {
    Sha256::digest(file.to_le_bytes()).into()
}

/// Paths as long and as alike as a distribution's.
fn path(file: usize) -> String {
    let dir = DIRS[file % DIRS.len()];
    format!("{dir}/package-{}/file-{file}", file % 997)
}

const DIRS: [&str; 5] = [
    "/usr/bin",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/python3/dist-packages",
    "/usr/lib/modules/6.1.0-56-amd64/kernel/drivers",
    "/etc",
];

/// Shares no factor with [`FILES`].
const STEP: usize = 7919;

const EXCLUDES: [&str; 3] = ["/tmp/.*", "/var/(log|cache)/.*", r".*\.pyc$"];
