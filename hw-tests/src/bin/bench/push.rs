//! How many attestations of nodes that call one core of the verifier takes.

use std::thread;

use hw_tests::Result;
use hw_tests::raw::Session;
use hw_tests::servers::Verifier;
use hw_tests::site::Site;

use crate::caller::Caller;
use crate::figure::{Budget, Figure, Runs};
use crate::meter::cpu_time;

const RUNS: usize = 9;

/// Nodes that call at once.
const CALLERS: usize = 64;

/// Threads that sign for them.
const THREADS: usize = 2;

/// Attestations of each node in one run.
const ROUNDS: u32 = 30;

/// Seconds between two attestations of a node that the verifier wants to see; each may come a few times as fast.
const INTERVAL: &str = "0.01";

/// Attestations by CPU time.
///
/// # Errors
/// A program fails, or an attestation.
pub(crate) fn per_core(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start_with(site, &["--quote-interval", INTERVAL])?;
    let mut callers = (0..CALLERS)
        .map(|number| Caller::enrol(&verifier, number))
        .collect::<Result<Vec<_>>>()?;
    // The first pass of a node goes to the database, and opens more than one pass needs.
    attest(&mut callers, 2)?;
    let mut administrator = verifier.client()?.connect()?;
    let pid = verifier.program()?.pid();
    let runs = Runs::of(RUNS, || -> Result<f64> {
        let from = passed(&mut administrator, &callers)?;
        let before = cpu_time(pid)?;
        attest(&mut callers, ROUNDS)?;
        let spent = cpu_time(pid)?.saturating_sub(before);
        let count = passed(&mut administrator, &callers)?.saturating_sub(from);
        if count != u64::from(ROUNDS) * CALLERS as u64 {
            return Err(format!("{count} passed").into());
        }
        Ok(count as f64 / spent.as_secs_f64())
    })?;
    Ok(vec![Figure {
        name: "push_attestations_per_s_per_core",
        value: runs.median(),
        unit: "1/s",
        budget: Budget::AtLeast(1000.0),
        how: format!(
            "attestations that passed by CPU time of the verifier's process, user and kernel, all threads: {CALLERS} \
             simulated nodes that call on a TLS connection each, {ROUNDS} attestations of each in a run, a challenge \
             and a fresh ECDSA P-256 signature in every one, policy for PCR 0; {runs}"
        ),
    }])
}

/// Every node attests so many times.
fn attest(callers: &mut [Caller], rounds: u32) -> Result {
    let share = callers.len().div_ceil(THREADS);
    thread::scope(|scope| {
        let shares = callers.chunks_mut(share);
        let threads: Vec<_> = shares
            .map(|callers| scope.spawn(move || (0..rounds).try_for_each(|_| round(callers))))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread of nodes panicked")?)
    })
}

/// One attestation of each, all at once: none waits for another's answer.
fn round(callers: &mut [Caller]) -> Result {
    callers.iter_mut().try_for_each(Caller::ask)?;
    callers.iter_mut().try_for_each(Caller::show)?;
    callers.iter_mut().try_for_each(Caller::done)
}

fn passed(administrator: &mut Session, callers: &[Caller]) -> Result<u64> {
    let mut sum = 0;
    for caller in callers {
        let path = format!("/v2.6/agents/{}", caller.uuid());
        let record = administrator.send("GET", &path, None)?.results()?;
        sum += record["attestation_count"]
            .as_u64()
            .ok_or("no attestation_count")?;
    }
    Ok(sum)
}
