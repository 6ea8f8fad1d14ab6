//! Why evidence passes or doesn't: each policy judged again, with what decides and what would have allowed it.
//!
//! The judges are those of the rounds. Where a round ends at the first thing that doesn't hold, an explanation goes on: who mends
//! a policy wants to know of all.

use agent_core::wire::quote::{HashAlg, PcrDump};
use agent_core::wire::text::Hex;
use serde::Serialize;

use super::IMA_PCR;
use super::measured_boot::MeasuredBootPolicy;
use super::runtime::{Judge, Learnt, Part, Refusal, RuntimePolicy};
use super::tpm::{PcrMismatch, TpmPolicy};
use crate::evidence::eventlog::{EventLog, EventLogError};
use crate::evidence::ima::{self, ImaError};
use crate::evidence::shown::{Shown, ShownError};

/// What evidence is judged by.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// PCR values.
    pub tpm: &'a TpmPolicy,
    /// What IMA may have measured.
    pub runtime: Option<&'a RuntimePolicy>,
    /// What the boot log must show.
    pub measured_boot: Option<&'a MeasuredBootPolicy>,
}

/// What policies say to evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether all of them let it pass.
    pub passes: bool,
    /// What each says; several where several things don't hold.
    pub findings: Vec<Finding>,
}

/// One thing that a policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which policy.
    pub policy: &'static str,
    /// Whether it lets the evidence pass here.
    pub passes: bool,
    /// What decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Place>,
    /// In words.
    pub says: String,
    /// What would have allowed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<String>,
}

/// Where in the evidence something decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A PCR.
    Pcr(u8),
    /// A line of the IMA list, from 1.
    Line(u64),
    /// An event of the boot log, from 0.
    Event(u32),
}

/// Judges evidence by policies, and says why.
///
/// # Errors
/// [`ShownError`]: it isn't evidence that can be judged.
///
/// # Cost
/// Linear in the evidence.
pub fn explain(shown: &Shown, by: By<'_>) -> Result<Explanation, ShownError> {
    let quoted = shown.quoted()?;
    let mut findings = vec![tpm(by.tpm, &quoted)];
    if let Some(policy) = by.runtime {
        runtime(policy, shown, &quoted, &mut findings)?;
    }
    if let Some(policy) = by.measured_boot {
        findings.push(measured_boot(policy, shown, &quoted)?);
    }
    Ok(Explanation {
        passes: findings.iter().all(|finding| finding.passes),
        findings,
    })
}

impl Finding {
    fn pass(policy: &'static str, says: String) -> Self {
        Self {
            policy,
            passes: true,
            decided_by: None,
            says,
            allowed_by: None,
        }
    }

    fn refusal(policy: &'static str, decided_by: Option<Place>, says: String) -> Self {
        Self {
            policy,
            passes: false,
            decided_by,
            says,
            allowed_by: None,
        }
    }
}

fn tpm(policy: &TpmPolicy, quoted: &PcrDump) -> Finding {
    match policy.judge(quoted.values()) {
        Ok(()) if policy.is_empty() => {
            Finding::pass(TPM, "it names no PCR, so that any values pass".to_owned())
        }
        Ok(()) => Finding::pass(TPM, "each PCR that it names holds what it may".to_owned()),
        Err(mismatch) => Finding {
            allowed_by: allowed_pcr(&mismatch),
            ..Finding::refusal(TPM, Some(Place::Pcr(mismatch.pcr)), mismatch.to_string())
        },
    }
}

fn allowed_pcr(mismatch: &PcrMismatch) -> Option<String> {
    let (pcr, got) = (mismatch.pcr, mismatch.got.as_ref()?);
    let place = match mismatch.set {
        None => "in tpm_policy".to_owned(),
        Some((set, _)) => format!("in set {set} of tpm_policy, or in a set of its own"),
    };
    Some(format!("{} for PCR {pcr} {place}", Hex(got)))
}

fn runtime(
    policy: &RuntimePolicy,
    shown: &Shown,
    quoted: &PcrDump,
    findings: &mut Vec<Finding>,
) -> Result<(), ShownError> {
    let Some(list) = &shown.ima else {
        let says = "the evidence has no IMA list".to_owned();
        findings.push(Finding::refusal(RUNTIME, None, says));
        return Ok(());
    };
    let from = list.from()?;
    let pcr = quoted.value(IMA_PCR).unwrap_or_default();
    let mut judge = Judge::new(policy, Learnt::default(), quoted);
    let (mut refused, mut more) = (Vec::new(), 0_u64);
    let matched = ima::check(
        list.lines.as_bytes(),
        quoted.bank(),
        &from,
        pcr,
        list.at_least,
        &mut |entry: &ima::Entry<'_>| {
            if let Err(refusal) = judge.judge(entry) {
                if refused.len() < MOST_REFUSALS {
                    refused.push((entry.line, refusal));
                } else {
                    more = more.saturating_add(1);
                }
            }
            Ok::<(), Refusal>(())
        },
    );
    let all_pass = refused.is_empty();
    findings.extend(refused.iter().map(|(line, refusal)| Finding {
        allowed_by: allowed_entry(refusal),
        ..Finding::refusal(
            RUNTIME,
            Some(Place::Line(*line)),
            format!("line {line} of the IMA list: {refusal}"),
        )
    }));
    if more > 0 {
        let says = format!("{more} more lines don't pass");
        findings.push(Finding::refusal(RUNTIME, None, says));
    }
    match matched {
        Ok(_) if all_pass => findings.push(Finding::pass(
            RUNTIME,
            "each line of the IMA list up to the quote passes".to_owned(),
        )),
        Ok(_) => {}
        Err(ImaError::NoMatch { .. }) if list.is_cut && !all_pass => {}
        Err(ImaError::NoMatch { .. }) if list.is_cut => {
            let says = "the lines that are kept pass, and the list goes on: whether it matches the quote isn't known";
            findings.push(Finding::refusal(RUNTIME, None, says.to_owned()));
        }
        Err(error) => {
            let place = error.line().map(Place::Line);
            findings.push(Finding::refusal(RUNTIME, place, error.to_string()));
        }
    }
    Ok(())
}

/// What a tenant would have to write into the policy.
fn allowed_entry(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::Unknown { part, path, got }
        | Refusal::Digest {
            part, path, got, ..
        } => {
            let got = got.to_string();
            let hex = got.rsplit(':').next().unwrap_or_default();
            let or_exclude = match part {
                Part::Files => ", or an exclude that matches the path",
                Part::Keyrings | Part::Buffers => "",
            };
            Some(format!("\"{part}\": {{{path:?}: [\"{hex}\"]}}{or_exclude}"))
        }
        Refusal::NoKey { id, .. } => Some(format!(
            "the key 0x{id:08x} in verification-keys, or the file's digest in digests"
        )),
        Refusal::Violation { .. } => Some("an exclude that matches the path".to_owned()),
        _ => None,
    }
}

fn measured_boot(
    policy: &MeasuredBootPolicy,
    shown: &Shown,
    quoted: &PcrDump,
) -> Result<Finding, ShownError> {
    if policy.says_nothing() {
        let says = "it says nothing, so that any boot passes".to_owned();
        return Ok(Finding::pass(MEASURED_BOOT, says));
    }
    let Some(bytes) = shown.boot_log()? else {
        let says = "the evidence has no boot log".to_owned();
        return Ok(Finding::refusal(MEASURED_BOOT, None, says));
    };
    let log = match explained(&bytes, policy, quoted.bank(), quoted) {
        Ok(log) => log,
        Err(error) => {
            return Ok(Finding::refusal(MEASURED_BOOT, None, error.to_string()));
        }
    };
    Ok(match policy.judge(&log, quoted.bank()) {
        Ok(()) => Finding::pass(MEASURED_BOOT, "each event is one that it allows".to_owned()),
        Err(failure) => {
            let place = failure.number().map(Place::Event);
            Finding::refusal(MEASURED_BOOT, place, failure.to_string())
        }
    })
}

fn explained<'a>(
    bytes: &'a [u8],
    policy: &MeasuredBootPolicy,
    bank: HashAlg,
    quoted: &PcrDump,
) -> Result<EventLog<'a>, EventLogError> {
    let log = EventLog::parse(bytes)?;
    let values = quoted
        .values()
        .iter()
        .map(|(pcr, value)| (*pcr, &value[..]));
    log.check(bank, values, policy.pcrs())?;
    Ok(log)
}

const TPM: &str = "tpm_policy";
const RUNTIME: &str = "runtime policy";
const MEASURED_BOOT: &str = "measured-boot policy";

/// A system that runs what its policy doesn't know measures thousands of such files.
const MOST_REFUSALS: usize = 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;
    use crate::evidence::ima::tests::end;
    use crate::evidence::shown::{self, ShownList};

    /// A real guest's list, and its PCR 10 in the bank sha256.
    const LIST: &str = include_str!("../../tests/vectors/ima/guest.txt");

    fn shown(lines: &str, pcr_4: &str) -> Shown {
        Shown {
            version: shown::VERSION,
            failure: String::new(),
            bank: "sha256".to_owned(),
            pcrs: [(4, pcr_4.to_owned()), (10, pcr_10(LIST))].into(),
            tpm_policy: String::new(),
            runtime_policy: None,
            mb_policy: None,
            ima: Some(ShownList {
                after: 0,
                pcr: String::new(),
                at_least: 0,
                lines: lines.to_owned(),
                is_cut: false,
            }),
            boot_log: None,
        }
    }

    /// What a whole list leads to.
    fn pcr_10(list: &str) -> String {
        Hex(&end(list.as_bytes(), HashAlg::Sha256).pcr).to_string()
    }

    fn runtime_policy(excludes: &str) -> RuntimePolicy {
        let text = format!(
            r#"{{"meta": {{"version": 1, "generator": 0}}, "release": 0, "digests": {{}}, "excludes": [{excludes}], "keyrings": {{}},
            "ima": {{"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}}, "ima-buf": {{}},
            "verification-keys": ""}}"#
        );
        RuntimePolicy::read(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn says_what_decides_and_what_would_have_allowed_it() {
        let (zeros, ones) = ("00".repeat(32), "11".repeat(32));
        let tpm = TpmPolicy::parse(&format!(r#"{{"4": "{zeros}"}}"#)).unwrap();
        let (all, none) = (runtime_policy("\".*\""), runtime_policy(""));
        let explained = |shown: &Shown, runtime| {
            let by = By {
                tpm: &tpm,
                runtime: Some(runtime),
                measured_boot: None,
            };
            explain(shown, by).unwrap()
        };

        let good = explained(&shown(LIST, &zeros), &all);
        assert!(good.passes, "{good:?}");

        let wrong_pcr = explained(&shown(LIST, &ones), &all);
        let finding = &wrong_pcr.findings[0];
        assert_eq!(finding.decided_by, Some(Place::Pcr(4)));
        assert!(
            finding.allowed_by.as_ref().unwrap().contains(&ones),
            "{finding:?}"
        );

        let unknown = explained(&shown(LIST, &zeros), &none);
        let findings: Vec<_> = unknown.findings.iter().filter(|it| !it.passes).collect();
        assert_eq!(findings.len(), LIST.lines().count(), "each line is unknown");
        assert_eq!(findings[1].decided_by, Some(Place::Line(2)));
        let path = LIST.lines().nth(1).unwrap().split(' ').nth(4).unwrap();
        assert!(findings[1].says.contains(path), "{findings:?}");
        assert!(
            findings[1].allowed_by.as_ref().unwrap().contains(path),
            "{findings:?}"
        );

        let (first, rest) = LIST.split_once('\n').unwrap();
        for (name, lines) in [("stripped", rest), ("cut", first)] {
            let explained = explained(&shown(lines, &zeros), &all);
            let finding = explained.findings.last().unwrap();
            assert!(
                !explained.passes && finding.says.contains("no line"),
                "{name}: {finding:?}"
            );
        }
    }

    #[test]
    fn evidence_that_cannot_be_judged() {
        let good = shown(LIST, &"00".repeat(32));
        assert_eq!(good.quoted().unwrap().values().len(), 2);
        type Change = fn(&mut Shown);
        let rows: [(&str, Change); 4] = [
            ("version", |it| it.version = 9),
            ("bank", |it| it.bank = "md5".to_owned()),
            ("hex", |it| drop(it.pcrs.insert(4, "xx".to_owned()))),
            ("size", |it| drop(it.pcrs.insert(4, "00".to_owned()))),
        ];
        for (name, change) in rows {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(bad.quoted().is_err(), "{name}");
        }
    }
}
