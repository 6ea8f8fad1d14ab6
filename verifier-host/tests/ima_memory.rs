//! How much memory a long IMA list takes: in a process of its own, because it is the process's peak that is looked at.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;

use agent_core::wire::quote::{HashAlg, PcrDump};
use agent_core::wire::text::Hex;
use verifier_host::evidence::ima::{ImaError, ListHash, Replayed, check};
use verifier_host::policy::runtime::{Judge, Learnt, RuntimePolicy};

const LINES: usize = 200_000;

/// Of them are listed; the others are excluded.
const LISTED: usize = 20_000;

const BANK: HashAlg = HashAlg::Sha256;

/// What the verifier may take for such a list, text and policy included.
const LIMIT_KIB: usize = 64 << 10;

#[test]
fn two_hundred_thousand_lines_fit_into_64_mib() {
    let (list, policy) = (list(), policy());
    let quoted = replay(&list, &policy, &[]).unwrap_err();
    let ImaError::NoMatch { last, pcr, .. } = quoted else {
        panic!("{quoted}");
    };
    assert_eq!(last, LINES as u64);
    let quoted: Vec<u8> = (0..BANK.digest_bytes())
        .map(|at| u8::from_str_radix(&pcr[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    assert_eq!(replay(&list, &policy, &quoted).unwrap(), LINES as u64);
    let peak = peak_kib();
    assert!(peak > list.len() >> 10, "{peak} KiB can't be the peak");
    assert!(
        peak < LIMIT_KIB,
        "{peak} KiB for {} KiB of text",
        list.len() >> 10
    );
}

fn replay(
    list: &str,
    policy: &RuntimePolicy,
    quoted: &[u8],
) -> Result<u64, ImaError<verifier_host::policy::runtime::Refusal>> {
    let mut judge = Judge::new(policy, Learnt::default(), &PcrDump::empty(BANK));
    let from = Replayed::default();
    let list = list.as_bytes();
    let matched = check(list, BANK, &from, quoted, 0, &mut judge);
    matched.map(|matched| matched.replayed.lines)
}

fn path(line: usize) -> String {
    let place = if line < LISTED {
        "/usr/lib"
    } else {
        "/var/tmp"
    };
    format!("{place}/x86_64-linux-gnu/some/directory/file-{line}.so")
}

fn digest(line: usize) -> impl AsRef<[u8]> {
    BANK.digest([&line.to_le_bytes()[..]])
        .into_array::<32>()
        .unwrap()
}

/// As a kernel writes it, about 170 bytes a line.
fn list() -> String {
    let mut list = String::with_capacity(LINES * 200);
    for line in 0..LINES {
        let (path, digest) = (path(line), digest(line));
        let digest = digest.as_ref();
        let data = [
            &40_u32.to_le_bytes()[..],
            b"sha256:\0",
            digest,
            &(path.len() as u32 + 1).to_le_bytes(),
            path.as_bytes(),
            b"\0",
        ]
        .concat();
        let hash = ListHash::Sha1.digest(&data);
        writeln!(
            list,
            "10 {} ima-ng sha256:{} {path}",
            Hex(&hash),
            Hex(digest)
        )
        .unwrap();
    }
    list
}

fn policy() -> RuntimePolicy {
    let mut digests = String::new();
    for line in 0..LISTED {
        let comma = if line == 0 { "" } else { "," };
        let (path, digest) = (path(line), digest(line));
        write!(digests, r#"{comma}"{path}":["{}"]"#, Hex(digest.as_ref())).unwrap();
    }
    let text = format!(
        r#"{{"meta":{{"version":1,"generator":0}},"release":0,"digests":{{{digests}}},"excludes":["/var/tmp/","/tmp/.*"],
        "keyrings":{{}},"ima":{{"ignored_keyrings":[],"log_hash_alg":"sha1","dm_policy":null}},"ima-buf":{{}},
        "verification-keys":""}}"#
    );
    RuntimePolicy::read(text.as_bytes(), None).unwrap()
}

/// Source: `VmHWM` in proc(5).
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
