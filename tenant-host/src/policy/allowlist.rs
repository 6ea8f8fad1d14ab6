//! Allowlists, which Keylime had before runtime policies, and their conversion.
//!
//! What a list doesn't say clearly is an error here, where Keylime's tools skip it: a skipped line is a file that fails later.

use std::io;
use std::str::Utf8Error;

use serde_json::{Map, Value, json};

/// Marks a line of the plain form that is about a keyring.
const KEYRING: &str = "%keyring:";

/// Parts that an allowlist in JSON may have already; the others of a policy are new.
const KEPT: [&str; 6] = [
    "release",
    "excludes",
    "keyrings",
    "ima",
    "ima-buf",
    "verification-keys",
];

/// Why an allowlist can't be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowlistError {
    /// Not text.
    #[error("it isn't text: {0}")]
    Text(#[from] Utf8Error),
    /// It begins like JSON and isn't.
    #[error("it is no JSON: {0}")]
    Json(serde_json::Error),
    /// JSON without a list.
    #[error("it has no {field:?} with digests in it")]
    NoList {
        /// What an allowlist has.
        field: &'static str,
    },
    /// A signed policy.
    #[error("it is a signed runtime policy already: give it with --runtime-policy")]
    Signed,
    /// A line that isn't one of a list.
    #[error("line {number} is no digest and path")]
    Line {
        /// Which one, from 1.
        number: usize,
    },
    /// The policy can't be written.
    #[error("can't write the policy: {0}")]
    Write(io::Error),
}

/// Makes a runtime policy of an allowlist, in JSON or in lines of digest and path, and of a list of regular expressions. What
/// is a runtime policy already keeps its parts.
///
/// # Errors
/// [`AllowlistError`]. The result is a policy only if it is parsed as one.
///
/// Source: Keylime's `cmd/convert_runtime_policy.py`.
pub(super) fn convert(list: &[u8], exclude: Option<&[u8]>) -> Result<Vec<u8>, AllowlistError> {
    let text = std::str::from_utf8(list)?;
    let mut policy = if text.trim_start().starts_with('{') {
        from_json(serde_json::from_str(text).map_err(AllowlistError::Json)?)?
    } else {
        from_lines(text)?
    };
    if let Some(lines) = exclude {
        let lines = std::str::from_utf8(lines)?.lines().map(str::trim);
        let expressions = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        match policy.get_mut("excludes") {
            Some(Value::Array(excludes)) => excludes.extend(expressions.map(Value::from)),
            _ => return Err(AllowlistError::NoList { field: "excludes" }),
        }
    }
    serde_json::to_vec(&policy).map_err(|error| AllowlistError::Write(error.into()))
}

fn from_json(mut list: Map<String, Value>) -> Result<Map<String, Value>, AllowlistError> {
    if list.contains_key("payload") {
        return Err(AllowlistError::Signed);
    }
    if list.contains_key("digests") && list.contains_key("meta") {
        return Ok(list);
    }
    let mut policy = empty();
    let hashes = list.remove("hashes").filter(says_something);
    let hashes = hashes.ok_or(AllowlistError::NoList { field: "hashes" })?;
    policy.insert("digests".to_owned(), hashes);
    for part in KEPT {
        if let Some(value) = list.remove(part).filter(says_something) {
            policy.insert(part.to_owned(), value);
        }
    }
    Ok(policy)
}

/// Whether a part isn't empty; an empty one gets its default.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn from_lines(text: &str) -> Result<Map<String, Value>, AllowlistError> {
    let (mut digests, mut keyrings) = (Map::new(), Map::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        let (digest, path) = line
            .split_once(char::is_whitespace)
            .ok_or(AllowlistError::Line { number })?;
        let path = path.trim_start();
        let (map, name) = match path.strip_prefix(KEYRING) {
            Some(keyring) => (&mut keyrings, keyring),
            None => (&mut digests, path),
        };
        let listed = map.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(listed) = listed {
            listed.push(digest.into());
        }
    }
    if digests.is_empty() {
        return Err(AllowlistError::NoList { field: "digests" });
    }
    let mut policy = empty();
    policy.insert("digests".to_owned(), Value::Object(digests));
    policy.insert("keyrings".to_owned(), Value::Object(keyrings));
    Ok(policy)
}

/// A policy that allows nothing. Generator 3 stands for converted allowlists. The hash of the log is Keylime's default; its
/// verifier takes each entry's own.
fn empty() -> Map<String, Value> {
    let policy = json!({
        "meta": { "version": 1, "generator": 3 },
        "release": 0,
        "digests": {},
        "excludes": [],
        "keyrings": {},
        "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    });
    match policy {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use verifier_host::policy::runtime::RuntimePolicy;

    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef01234567";

    fn converted(list: &str, exclude: Option<&str>) -> Result<RuntimePolicy, String> {
        let list = list.replace("ID", DIGEST);
        let policy = convert(list.as_bytes(), exclude.map(str::as_bytes));
        let policy = policy.map_err(|error| error.to_string())?;
        RuntimePolicy::read(&policy, None).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_become_policies() {
        let json = r#"{"meta": {"version": 5}, "release": 0, "hashes": {"/a b": ["ID"], "boot_aggregate": ["ID", "ID"]},
            "keyrings": {}, "ima": {"ignored_keyrings": [".x"], "log_hash_alg": "sha256", "dm_policy": null}}"#;
        let policy = r#"{"meta": {"version": 1, "generator": 0}, "release": 0, "digests": {"/a b": ["ID"], "boot_aggregate":
            ["ID"]}, "excludes": [], "keyrings": {}, "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1",
            "dm_policy": null}, "ima-buf": {}, "verification-keys": ""}"#;
        let lines = "ID  /a b\n\nID boot_aggregate\nID\tboot_aggregate\nID %keyring:.ima\n";
        let rows = [
            ("JSON", json, 0, &[".x"][..]),
            ("policy", policy, 0, &[]),
            ("lines", lines, 1, &[]),
        ];
        for (name, list, keyrings, ignored) in rows {
            let policy = converted(list, Some("# temporary\n/tmp/.*\n\n")).unwrap();
            let paths: Vec<_> = policy
                .digests
                .sorted()
                .iter()
                .map(|(path, _)| *path)
                .collect();
            assert_eq!(paths, ["/a b", "boot_aggregate"], "{name}");
            assert_eq!(policy.keyrings.len(), keyrings, "{name}");
            assert_eq!(policy.ignored_keyrings, ignored, "{name}");
            assert_eq!(policy.excludes.texts(), ["/tmp/.*"], "{name}");
        }
        let several = converted(lines, None).unwrap();
        assert_eq!(
            several
                .digests
                .get(b"boot_aggregate")
                .unwrap()
                .iter()
                .count(),
            2
        );
        assert!(several.excludes.texts().is_empty());
    }

    #[test]
    fn what_is_no_list_says_why() {
        let rows = [
            ("empty", "", "it has no \"digests\""),
            ("a word", "ID /a\nword\n", "line 2 is no digest and path"),
            (
                "no digest",
                "word /a\n",
                "digests lists \"word\" for \"/a\"",
            ),
            ("broken JSON", "{", "it is no JSON"),
            ("other JSON", "{\"x\": 1}", "it has no \"hashes\""),
            (
                "signed",
                "{\"payload\": \"\"}",
                "give it with --runtime-policy",
            ),
            (
                "hashes of no list",
                "{\"hashes\": {\"/a\": \"ID\"}}",
                "no runtime policy",
            ),
        ];
        for (name, list, wanted) in rows {
            let error = converted(list, None).unwrap_err();
            assert!(error.contains(wanted), "{name}: {error}");
        }
        assert!(convert(&[0xff], None).is_err());
    }
}
