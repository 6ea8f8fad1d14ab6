//! Findings in runtime policies.

use std::collections::BTreeMap;

use verifier_host::policy::runtime::{Listed, RuntimePolicy, RuntimePolicyError};

use super::{Finding, expression, some};

/// The entry of IMA's log that stands for the boot.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// Directories where others than root write, or that are emptied at boot.
const WRITABLE: [&str; 6] = [
    "/dev/shm/",
    "/home/",
    "/run/",
    "/tmp/",
    "/var/tmp/",
    "/root/",
];

/// Bytes of a SHA-1 digest.
const SHA1_BYTES: usize = 20;

/// Names with their digests, sorted.
type Sorted<'a> = [(&'a str, Listed<'a>)];

pub(super) fn lint(bytes: &[u8]) -> Vec<Finding> {
    let policy = match RuntimePolicy::read(bytes, None) {
        Ok(policy) => policy,
        Err(error) => {
            use RuntimePolicyError::{Excludes, Expression};
            let rule = match error {
                Expression { .. } | Excludes { .. } => "expression",
                _ => "unreadable",
            };
            let text = format!("keyhalf's verifier doesn't take it: {error}");
            return vec![Finding::error(rule, text)];
        }
    };
    let mut findings = Vec::new();
    expression::lint(policy.excludes.texts(), &mut findings);
    allows_nothing(&policy, &mut findings);
    let files = policy.digests.sorted();
    paths(&files, &mut findings);
    values("digests", &files, &mut findings);
    values("keyrings", &policy.keyrings.sorted(), &mut findings);
    values("ima-buf", &policy.buffers.sorted(), &mut findings);
    let both = policy
        .ignored_keyrings
        .iter()
        .filter(|name| policy.keyrings.contains(name));
    let both: Vec<_> = both.map(String::as_str).collect();
    if !both.is_empty() {
        let text = format!(
            "keyrings lists {}, which ignored_keyrings leaves out: the list means nothing",
            some(both)
        );
        findings.push(Finding::warning("ignored-keyring", text));
    }
    findings
}

fn allows_nothing(policy: &RuntimePolicy, findings: &mut Vec<Finding>) {
    let boot_aggregate = policy.digests.contains(BOOT_AGGREGATE);
    let files = policy.digests.len() > usize::from(boot_aggregate);
    if !files && policy.verification_keys.is_empty() {
        findings.push(Finding::warning("no-files", "it lists no file and no key of file signatures: whatever a node runs that isn't excluded fails"));
    }
    if !boot_aggregate {
        let text = "it has no boot_aggregate, which is the first line of every log: the node passes only with a measured-boot \
            policy beside this one, or if an expression excludes it. `policy create runtime --ima-log` takes it from a log";
        findings.push(Finding::warning("no-boot-aggregate", text));
    }
}

fn paths(digests: &Sorted<'_>, findings: &mut Vec<Finding>) {
    let paths = || digests.iter().map(|(path, _)| *path);
    let mut find = |rule, what: &str, is: &dyn Fn(&str) -> bool| {
        let found: Vec<_> = paths().filter(|path| is(path)).collect();
        if !found.is_empty() {
            let text = format!(
                "{} paths {what}: {}",
                found.len(),
                some(found.iter().copied())
            );
            findings.push(Finding::warning(rule, text));
        }
    };
    let writable = |path: &str| WRITABLE.iter().any(|directory| path.starts_with(directory));
    find(
        "writable-path",
        "are where others than root write or nothing stays",
        &writable,
    );
    let relative = |path: &str| !path.starts_with('/') && path != BOOT_AGGREGATE;
    find(
        "relative-path",
        "don't begin with /, and IMA writes whole paths",
        &relative,
    );
    find(
        "space-in-path",
        "have spaces, which IMA writes as underscores: they never match",
        &|path| path.contains(' '),
    );
}

fn values(part: &'static str, digests: &Sorted<'_>, findings: &mut Vec<Finding>) {
    let twice = |listed: Listed<'_>| {
        let mut seen: Vec<&[u8]> = listed.iter().collect();
        seen.sort_unstable();
        seen.windows(2)
            .any(|pair| matches!(pair, [one, other] if one == other))
    };
    let mut find = |rule, what: &str, is: &dyn Fn(Listed<'_>) -> bool| {
        let found: Vec<_> = digests.iter().filter(|(_, listed)| is(*listed)).collect();
        if !found.is_empty() {
            let names = some(found.iter().map(|(name, _)| *name));
            let text = format!("{} names in {part} {what}: {names}", found.len());
            findings.push(Finding::warning(rule, text));
        }
    };
    find("duplicate-digest", "have the same digest twice", &twice);
    let weak = |listed: Listed<'_>| listed.iter().any(|digest| digest.len() == SHA1_BYTES);
    find(
        "weak-hash",
        "have a SHA-1 digest, which others can make files for",
        &weak,
    );
    let zero = |listed: Listed<'_>| {
        listed
            .iter()
            .any(|digest| digest.iter().all(|byte| *byte == 0))
    };
    find(
        "zero-digest",
        "have a digest of zeros, as violations have it and no file",
        &zero,
    );
    let Some(usual) = usual_size(digests) else {
        return;
    };
    let unusual = |listed: Listed<'_>| listed.iter().all(|digest| digest.len() != usual);
    let what = format!(
        "have no digest of {} bits as the others: a log has one kind",
        usual * 8
    );
    find("digest-length", &what, &unusual);
}

/// The size that most names have a digest of.
fn usual_size(digests: &Sorted<'_>) -> Option<usize> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, listed) in digests {
        let mut known: Vec<usize> = listed.iter().map(|digest| digest.len()).collect();
        known.sort_unstable();
        known.dedup();
        known
            .iter()
            .for_each(|size| *sizes.entry(*size).or_default() += 1);
    }
    sizes
        .into_iter()
        .max_by_key(|(_, names)| *names)
        .map(|(size, _)| size)
}
