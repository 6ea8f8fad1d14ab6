//! Findings in `tpm_policy`.

use agent_core::wire::quote::{Digest, HashAlg};
use serde_json::{Map, Value};
use verifier_host::policy::tpm::{PolicyError, TpmPolicy};

use super::{Finding, some};
use crate::policy::create::digest;

/// PCRs that only firmware extends, so that they hold something after every boot.
const FIRMWARE: std::ops::RangeInclusive<u8> = 0..=7;

/// Bytes of a SHA-1 digest.
const SHA1_BYTES: usize = 20;

pub(super) fn lint(bytes: &[u8]) -> Vec<Finding> {
    let text = String::from_utf8_lossy(bytes);
    let policy = match TpmPolicy::parse(&text) {
        Ok(policy) => policy,
        Err(error) => {
            return vec![Finding::error(
                rule(&error),
                format!("no verifier takes it: {error}"),
            )];
        }
    };
    let mut findings = Vec::new();
    if policy.is_empty() {
        findings.push(Finding::error(
            "empty",
            "it names no PCR: every boot passes",
        ));
        return findings;
    }
    if !policy.names_boot_pcr() {
        let text = "it names no PCR that the boot extends (0 to 9, 11 to 14): whatever the node booted passes";
        findings.push(Finding::warning("no-boot-pcr", text));
    }
    let banks = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];
    if !banks.into_iter().any(|bank| policy.fits(bank)) {
        let text = "no bank has values as long as all its PCRs want: a quote is of one bank (sha256, sha384 or sha512), so nothing passes";
        findings.push(Finding::error("digest-length", text));
    }
    // Parsed and checked above.
    let fields: Map<String, Value> = serde_json::from_slice(bytes).unwrap_or_default();
    for (name, value) in &fields {
        if let Ok(pcr) = name.parse() {
            values(pcr, value, &mut findings);
        }
    }
    findings
}

const fn rule(error: &PolicyError) -> &'static str {
    match error {
        PolicyError::Reserved { .. } => "reserved-pcr",
        PolicyError::NoValue { .. } => "no-value",
        PolicyError::NotADigest { .. } => "digest",
        PolicyError::Twice { .. } => "twice",
        PolicyError::Mask { .. } => "mask",
        PolicyError::UnknownPcr { .. } => "unknown-pcr",
        _ => "unreadable",
    }
}

fn values(pcr: u8, value: &Value, findings: &mut Vec<Finding>) {
    let texts = match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().map_or_else(Vec::new, |text| vec![text]),
    };
    let digests: Vec<Digest> = texts.iter().filter_map(|text| digest(text)).collect();
    let mut warn = |rule, text: String| findings.push(Finding::warning(rule, text));
    if digests.iter().any(|digest| digest.len() == SHA1_BYTES) {
        warn(
            "weak-hash",
            format!(
                "PCR {pcr} has a SHA-1 value, and no verifier quotes that bank: it says nothing"
            ),
        );
    }
    let repeated = |byte: u8| {
        digests
            .iter()
            .any(|digest| digest.iter().all(|other| *other == byte))
    };
    if FIRMWARE.contains(&pcr) && (repeated(0) || repeated(0xff)) {
        warn(
            "unextended-pcr",
            format!(
                "PCR {pcr} may hold its value before any boot: firmware that measures extends it"
            ),
        );
    }
    let mut lower: Vec<_> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
    lower.sort_unstable();
    let twice = lower.windows(2).filter_map(|pair| match pair {
        [one, other] if one == other => Some(one.as_str()),
        _ => None,
    });
    let twice: Vec<_> = twice.collect();
    if !twice.is_empty() {
        warn(
            "duplicate-digest",
            format!("PCR {pcr} has twice: {}", some(twice)),
        );
    }
}
