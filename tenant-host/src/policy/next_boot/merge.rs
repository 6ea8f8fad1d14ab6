//! The next boot's PCR values beside those that are allowed now, or in their place.

use std::path::PathBuf;

use agent_core::wire::quote::{Digest, HashAlg};
use agent_core::wire::text::Hex;
use serde_json::{Map, Value};
use verifier_host::policy::tpm::TpmPolicy;

use super::NextBootError;
use super::events::Expected;

/// What becomes of the values that are allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// They stay: the boot before the update is still allowed.
    Keep,
    /// They go, for PCRs that the next boot has.
    Drop,
}

/// A policy, and what has to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The policy.
    pub policy: Map<String, Value>,
    /// PCRs of the next boot that it leaves out, because the present policy does.
    pub left_out: Vec<u8>,
    /// PCRs in it that a changed boot entry changes, which is no file.
    pub of_entries: Vec<u8>,
}

/// Merges the next boot's values into the present policy, if there is one. PCRs in `without` are in neither.
///
/// # Errors
/// [`NextBootError`]: a present policy that isn't one, is for another bank, or fixes a PCR that the next boot changes and that
/// isn't predicted.
pub fn merge(
    present: Option<&str>,
    next: &[Expected],
    (old, bank): (Old, HashAlg),
    without: &[u8],
) -> Result<Merged, NextBootError> {
    let mut policy = present.map_or_else(|| Ok(Map::new()), |text| parse(text, bank))?;
    policy.retain(|name, _| !name.parse().is_ok_and(|pcr| without.contains(&pcr)));
    let next: Vec<_> = next
        .iter()
        .filter(|expected| !without.contains(&expected.pcr))
        .collect();
    let predicted = |pcr: u8| next.iter().any(|expected| expected.pcr == pcr);
    let unpredicted = (FIRST_OF_LOADERS..=LAST_OF_LOADERS)
        .find(|pcr| policy.contains_key(&pcr.to_string()) && !predicted(*pcr));
    if let Some(pcr) = unpredicted {
        return Err(NextBootError::Unpredicted { pcr });
    }
    let mut left_out = Vec::new();
    for expected in next {
        let name = expected.pcr.to_string();
        let mut values = match policy.get(&name) {
            None if present.is_some() && old == Old::Keep => {
                left_out.push(expected.pcr);
                continue;
            }
            Some(values) if old == Old::Keep => listed(values),
            _ => Vec::new(),
        };
        for course in &expected.courses {
            add(&mut values, &course.value(bank));
        }
        policy.insert(name, Value::Array(values));
    }
    let named = |pcr: &u8| policy.contains_key(&pcr.to_string());
    let of_entries = BOOT_ENTRIES.into_iter().filter(named).collect();
    Ok(Merged {
        policy,
        left_out,
        of_entries,
    })
}

fn add(values: &mut Vec<Value>, value: &Digest) {
    let text = Hex(value).to_string();
    let same = |known: &Value| {
        known
            .as_str()
            .is_some_and(|known| known.eq_ignore_ascii_case(&text))
    };
    if !values.iter().any(same) {
        values.push(text.into());
    }
}

/// One value may stand without a list.
fn listed(values: &Value) -> Vec<Value> {
    match values {
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    }
}

fn parse(text: &str, bank: HashAlg) -> Result<Map<String, Value>, NextBootError> {
    let policy = TpmPolicy::parse(text)?;
    if !policy.fits(bank) {
        return Err(NextBootError::OtherBank { bank: bank.name() });
    }
    let not_an_object = |error: serde_json::Error| NextBootError::Json {
        reason: error.to_string(),
    };
    let map: Map<String, Value> = serde_json::from_str(text).map_err(not_an_object)?;
    let known = |name: &String| name == "mask" || name.parse::<u8>().is_ok();
    match map.keys().find(|name| !known(name)) {
        Some(name) => Err(NextBootError::NotMergeable { name: name.clone() }),
        None => Ok(map),
    }
}

/// The present policy: JSON text, or the name of a file with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// JSON text.
    Text(String),
    /// A file.
    File(PathBuf),
}

impl Present {
    /// Tells one from the other: JSON text of a policy begins with a brace.
    #[must_use]
    pub fn of(argument: &str) -> Self {
        match argument.trim_start().starts_with('{') {
            true => Self::Text(argument.to_owned()),
            false => Self::File(argument.into()),
        }
    }
}

/// PCRs that firmware measures boot entries to: 1, and 5 on older machines.
const BOOT_ENTRIES: [u8; 2] = [1, 5];

/// PCRs that boot loaders, kernels and their stubs extend, beside PCR 4: 8 to 13.
const FIRST_OF_LOADERS: u8 = 8;
const LAST_OF_LOADERS: u8 = 13;

#[cfg(test)]
mod tests;
