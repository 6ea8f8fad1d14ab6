//! What a boot log costs the verifier.

use std::fs;
use std::hint::black_box;

use agent_core::wire::quote::{Digest, HashAlg};
use hw_tests::Result;
use hw_tests::measured::{boot_log, reference_state};
use hw_tests::site::Site;
use verifier_host::evidence::eventlog::EventLog;
use verifier_host::policy::measured_boot::MeasuredBootPolicy;

use crate::figure::{Budget, Figure, Runs};
use crate::meter::{cpu_time, micros};

const RUNS: usize = 21;

/// Logs in one run.
const LOGS: u32 = 200;

const BANK: HashAlg = HashAlg::Sha256;

/// The CPU time for one log.
///
/// # Errors
/// The log doesn't satisfy its policy.
pub(crate) fn judged(_: &Site) -> Result<Vec<Figure>> {
    let bytes = fs::read(boot_log())?;
    let policy = MeasuredBootPolicy::read(&fs::read(reference_state())?)?;
    let log = EventLog::parse(&bytes)?;
    let replayed = log.replay(BANK).ok_or("a log without the bank")?;
    let pcrs = policy.pcrs();
    let quoted: Vec<(u8, Digest)> = pcrs.iter().map(|pcr| (pcr, replayed.value(pcr))).collect();
    let judge = || -> Result {
        let log = EventLog::parse(black_box(&bytes))?;
        let values = quoted.iter().map(|(pcr, value)| (*pcr, &value[..]));
        log.check(BANK, values, pcrs)?;
        Ok(policy.judge(&log, BANK)?)
    };
    let runs = Runs::of(RUNS, || -> Result<f64> {
        let from = cpu_time(std::process::id())?;
        (0..LOGS).try_for_each(|_| judge())?;
        let spent = cpu_time(std::process::id())?.saturating_sub(from);
        Ok(micros(spent) / f64::from(LOGS))
    })?;
    Ok(vec![Figure {
        name: "eventlog_us",
        value: runs.median(),
        unit: "us",
        budget: Budget::None,
        how: format!(
            "CPU time of one thread to read a boot log, replay its PCRs, compare them with a quote's and judge it by a \
             reference state: {} events and {} bytes of OVMF with Secure Boot, shim and GRUB; {runs}",
            log.events().count(),
            bytes.len()
        ),
    }])
}
