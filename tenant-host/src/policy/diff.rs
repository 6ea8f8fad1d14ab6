//! What two policies of one kind differ in.
//!
//! A policy is looked at as facts, each a part, a name in it, and a set of values; the order of lists means nothing.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::wire::text::Hex;
use serde_json::{Map, Value};
use verifier_host::policy::runtime::{Digests, RuntimePolicy, RuntimePolicyError};
use verifier_host::policy::tpm::{PolicyError, TpmPolicy};

use super::kind::{Kind, Shaped};

/// Why two policies can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// They are of different kinds.
    #[error("a {0} and a {1} can't be compared")]
    Kinds(Kind, Kind),
    /// One is no runtime policy.
    #[error("{which} can't be compared: {source}")]
    Runtime {
        /// The first or the second.
        which: &'static str,
        /// Why not.
        source: RuntimePolicyError,
    },
    /// One is no `tpm_policy`.
    #[error("{which} can't be compared: {source}")]
    Tpm {
        /// The first or the second.
        which: &'static str,
        /// Why not.
        source: PolicyError,
    },
    /// One is no object.
    #[error("{which} can't be compared: {reason}")]
    Json {
        /// The first or the second.
        which: &'static str,
        /// Why not.
        reason: String,
    },
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The second policy alone has it.
    Added,
    /// The first policy alone has it.
    Removed,
    /// Both have it, with other values.
    Changed,
}

/// A fact that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which part of the policies.
    pub part: String,
    /// Which name in it.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Values of the first policy that the second doesn't have.
    pub removed: Vec<String>,
    /// Values of the second policy that the first doesn't have.
    pub added: Vec<String>,
}

/// Names of parts and what is in them, with the values there.
type Facts = BTreeMap<(String, String), BTreeSet<String>>;

/// Compares two policies. The changes are in the order of parts and names.
///
/// # Errors
/// [`DiffError`].
pub fn compare(first: &Shaped, second: &Shaped) -> Result<Vec<Change>, DiffError> {
    if first.kind != second.kind {
        return Err(DiffError::Kinds(first.kind, second.kind));
    }
    let (before, after) = (facts(first, "the first")?, facts(second, "the second")?);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let nothing = BTreeSet::new();
    let mut changes = Vec::new();
    for key in names {
        let (old, new) = (before.get(key), after.get(key));
        if old == new {
            continue;
        }
        let fate = match (old, new) {
            (None, _) => Fate::Added,
            (_, None) => Fate::Removed,
            _ => Fate::Changed,
        };
        let (old, new) = (old.unwrap_or(&nothing), new.unwrap_or(&nothing));
        changes.push(Change {
            part: key.0.clone(),
            name: key.1.clone(),
            fate,
            removed: old.difference(new).cloned().collect(),
            added: new.difference(old).cloned().collect(),
        });
    }
    Ok(changes)
}

fn facts(policy: &Shaped, which: &'static str) -> Result<Facts, DiffError> {
    let mut facts = Facts::new();
    let json = |error: serde_json::Error| DiffError::Json {
        which,
        reason: error.to_string(),
    };
    match policy.kind {
        Kind::Runtime => {
            let policy = RuntimePolicy::read(&policy.bytes, None);
            runtime(
                &policy.map_err(|source| DiffError::Runtime { which, source })?,
                &mut facts,
            );
        }
        Kind::Tpm => {
            let text = String::from_utf8_lossy(&policy.bytes);
            TpmPolicy::parse(&text).map_err(|source| DiffError::Tpm { which, source })?;
            tpm(
                serde_json::from_slice(&policy.bytes).map_err(json)?,
                &mut facts,
            );
        }
        Kind::MeasuredBoot => {
            let fields: Map<String, Value> = serde_json::from_slice(&policy.bytes).map_err(json)?;
            for (name, value) in &fields {
                tree(name, "", value, &mut facts);
            }
        }
    }
    Ok(facts)
}

fn runtime(policy: &RuntimePolicy, facts: &mut Facts) {
    let mut digests = |part: &str, all: &Digests| {
        for (name, digests) in all.sorted() {
            let values = digests.iter().map(|digest| Hex(digest).to_string());
            facts.insert((part.to_owned(), name.to_owned()), values.collect());
        }
    };
    digests("digests", &policy.digests);
    digests("keyrings", &policy.keyrings);
    digests("ima-buf", &policy.buffers);
    let mut names = |part: &str, all: &[String]| {
        for name in all {
            facts.insert((part.to_owned(), name.clone()), BTreeSet::new());
        }
    };
    names("excludes", policy.excludes.texts());
    names("ignored_keyrings", &policy.ignored_keyrings);
    let keys = policy
        .verification_keys
        .iter()
        .map(|key| format!("0x{:08x}", key.id()));
    names("verification-keys", &keys.collect::<Vec<_>>());
}

/// A mask that names no more than the PCRs with values says nothing of its own.
fn tpm(fields: Map<String, Value>, facts: &mut Facts) {
    for (name, value) in fields {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let text = |value: Value| match value {
            Value::String(text) => text.to_ascii_lowercase(),
            value => value.to_string(),
        };
        let (part, name) = match name.as_str() {
            part @ ("mask" | "sets") => (part.to_owned(), String::new()),
            _ => ("PCR".to_owned(), name),
        };
        facts.insert((part, name), values.into_iter().map(text).collect());
    }
}

/// Objects are parts and names, lists are sets of what is in them.
fn tree(part: &str, path: &str, value: &Value, facts: &mut Facts) {
    let key = || (part.to_owned(), path.to_owned());
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                tree(part, &path, value, facts);
            }
        }
        Value::Array(values) => {
            let texts = values.iter().map(Value::to_string);
            facts.insert(key(), texts.collect());
        }
        value => drop(facts.insert(key(), BTreeSet::from([value.to_string()]))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn shaped(text: &str) -> Shaped {
        Shaped::read(text.as_bytes().to_vec()).unwrap()
    }

    fn told(first: &str, second: &str) -> Vec<String> {
        let changes = compare(&shaped(first), &shaped(second)).unwrap();
        let line = |change: &Change| {
            let sign = match change.fate {
                Fate::Added => '+',
                Fate::Removed => '-',
                Fate::Changed => '~',
            };
            let (removed, added) = (change.removed.len(), change.added.len());
            format!("{sign}{} {} -{removed} +{added}", change.part, change.name)
        };
        changes.iter().map(line).collect()
    }

    fn runtime(digests: &str, excludes: &str) -> String {
        format!(
            r#"{{"meta": {{"version": 1, "generator": 0}}, "release": 0, "digests": {{{digests}}}, "excludes": [{excludes}],
            "keyrings": {{}}, "ima": {{"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}}, "ima-buf": {{}},
            "verification-keys": ""}}"#
        )
    }

    #[test]
    fn differences_are_told_by_kind() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let first = runtime(
            &format!(r#""/a": ["{a}"], "/b": ["{a}", "{b}"], "/c": ["{a}"]"#),
            r#""/tmp/.*""#,
        );
        let second = runtime(
            &format!(r#""/b": ["{b}", "{a}"], "/c": ["{b}"], "/d": ["{a}"]"#),
            r#""/x""#,
        );
        assert!(told(&first, &first).is_empty());
        let wanted = [
            "-digests /a -1 +0",
            "~digests /c -1 +1",
            "+digests /d -0 +1",
            "-excludes /tmp/.* -0 +0",
            "+excludes /x -0 +0",
        ];
        assert_eq!(told(&first, &second), wanted);

        let first = format!(r#"{{"7": ["{a}", "{b}"], "4": "{a}", "mask": "0x90"}}"#);
        let second = format!(r#"{{"7": ["{}"], "mask": "0x80"}}"#, b.to_uppercase());
        assert_eq!(
            told(&first, &second),
            ["-PCR 4 -1 +0", "~PCR 7 -1 +0", "~mask  -1 +1"]
        );

        let first =
            r#"{"has_secureboot": true, "kernels": [{"a": 1}, {"b": 2}], "keys": {"pk": ["x"]}}"#;
        let second = r#"{"has_secureboot": false, "kernels": [{"b": 2}, {"a": 1}], "keys": {"pk": ["x", "y"]}}"#;
        assert_eq!(
            told(first, second),
            ["~has_secureboot  -1 +1", "~keys pk -0 +1"]
        );
    }

    #[test]
    fn what_cant_be_compared_says_why() {
        let digest = "aa".repeat(32);
        let (pcr, boot) = (format!(r#"{{"7": "{digest}"}}"#), "{\"a\": 1}");
        let error =
            |first: &str, second: &str| compare(&shaped(first), &shaped(second)).unwrap_err();
        assert_eq!(
            error(&pcr, boot),
            DiffError::Kinds(Kind::Tpm, Kind::MeasuredBoot)
        );
        assert!(matches!(
            error(&pcr, "{\"7\": []}"),
            DiffError::Tpm {
                which: "the second",
                ..
            }
        ));
        assert!(matches!(
            error("{\"digests\": {}}", "{\"digests\": {}}"),
            DiffError::Runtime {
                which: "the first",
                ..
            }
        ));
    }
}
