//! The figures that this project promises: one JSON object a line on standard output, a table on standard error.
//!
//! `./hw-tests/bench` builds the programs with optimisation and runs this. A figure that misses its budget is marked and
//! fails nothing; only what couldn't be measured does.
//!
//! | module | figures |
//! | --- | --- |
//! | [`delivery`] | `add_to_script_done_ms` |
//! | [`agent`] | `quote_cpu_us`, `agent_start_overhead_ms`, `agent_idle_rss_kib`, `agent_peak_rss_kib`, `agent_static_bytes`, `agent_static_provision_bytes`, `agent_static_idle_rss_kib` |
//! | [`boot`] | `boot_agent_ms`, `boot_agent_percent`, `boot_secret_ms`, `guest_agent_rss_kib` |
//! | [`eventlog`] | `eventlog_us` |
//! | [`ima`] | `ima_lines_per_s`, `ima_ratio`, `ima_ratio_one_hash` |
//! | [`initramfs`] | `initramfs_added_bytes` |
//! | [`open`], [`corpus`] | `payload_open_mb_per_s`, `payload_open_ratio`, `payload_open_worst_ratio` |
//! | [`provision`] | `provision_overhead_ms`, `provision_bytes_on_wire` |
//! | [`push`], [`caller`] | `push_attestations_per_s_per_core` |
//! | [`revocation`] | `revocation_to_action_ms`, `revocation_fanout_1000_ms` |
//! | [`stack`] | `core_stack_bytes` |
//! | [`verifier`] | `verifier_cpu_us_per_attestation`, `verifier_cpu_us_per_attestation_ima_10k`, `verifier_cpu_ima_10k_percent` |
//! | [`figure`], [`meter`] | what a figure is, and what it is read from |

mod agent;
mod boot;
mod caller;
mod corpus;
mod delivery;
mod eventlog;
mod figure;
mod ima;
mod initramfs;
mod meter;
mod open;
mod provision;
mod push;
mod revocation;
mod stack;
mod verifier;

use std::process::ExitCode;

use figure::Figure;
use hw_tests::Result;
use hw_tests::site::Site;

/// Measures one or several figures.
type Measure = fn(&Site) -> Result<Vec<Figure>>;

const ALL: [(&str, Measure); 17] = [
    ("delivery", delivery::add_to_script_done),
    ("quotes", agent::quote_cpu),
    ("start", agent::start_overhead),
    ("memory", agent::memory),
    ("static", agent::static_file),
    ("payload", open::figures),
    ("provision", provision::provision),
    ("push", push::per_core),
    ("revocation", revocation::to_action),
    ("fanout", revocation::fanout),
    ("stack", stack::core_stack),
    ("verifier", verifier::cpu_per_attestation),
    ("verifier_ima", verifier::cpu_with_ima),
    ("ima", ima::figures),
    ("eventlog", eventlog::judged),
    ("boot", boot::power_on_to_secret),
    ("initramfs", initramfs::added),
];

/// Measures everything, or what the arguments name.
fn main() -> ExitCode {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = chosen
        .iter()
        .find(|name| ALL.iter().all(|(known, _)| known != name))
    {
        let known = ALL.map(|(name, _)| name).join(", ");
        eprintln!("nothing to measure is called {unknown}; there are: {known}");
        return ExitCode::from(2);
    }
    let mut measured = Vec::new();
    let mut is_complete = true;
    for (name, measure) in ALL {
        if !chosen.is_empty() && !chosen.iter().any(|one| one == name) {
            continue;
        }
        eprintln!("measuring: {name}");
        match at_new_site(measure) {
            Ok(figures) => {
                figures.iter().for_each(|figure| println!("{figure}"));
                measured.extend(figures);
            }
            Err(error) => {
                eprintln!("could not be measured: {name}: {error}");
                is_complete = false;
            }
        }
    }
    figure::show_table(&measured);
    if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Each measurement has programs of its own; if it fails, what they said is shown.
fn at_new_site(measure: Measure) -> Result<Vec<Figure>> {
    let site = Site::new()?;
    measure(&site).inspect_err(|_| {
        for log in site.logs() {
            eprintln!("---- {} said\n{}", log.name(), log.text());
        }
    })
}
