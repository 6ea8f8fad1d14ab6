//! Runtime policies: what is read has only parts that can be evaluated, and judges whatever it is asked.

use agent_core::wire::quote::{HashAlg, PcrDump};
use verifier_host::evidence::ima::{Content, Entry, FileDigest, ListHash};
use verifier_host::policy::runtime::{Digests, Judge, Learnt, MAX_POLICY_BYTES, RuntimePolicy};

/// The bytes are a policy.
pub fn check(data: &[u8]) {
    let Ok(policy) = RuntimePolicy::read(data, None) else {
        return;
    };
    assert!(data.len() <= MAX_POLICY_BYTES);
    let parts = [&policy.digests, &policy.keyrings, &policy.buffers];
    for (path, digests) in parts.into_iter().flat_map(Digests::sorted) {
        assert!(digests.iter().next().is_some(), "{path:?} allows nothing");
    }
    let mut judge = Judge::new(&policy, Learnt::default(), &PcrDump::empty(HashAlg::Sha256));
    for (path, digests) in policy.digests.sorted() {
        for digest in digests.iter() {
            let entry = entry(&policy, path, digest, Content::File);
            assert_eq!(judge.judge(&entry), Ok(()), "{path:?} is listed");
        }
        let signed = entry(
            &policy,
            path,
            &[0; 32],
            Content::Signed(&[3, 2, 4, 0, 0, 0, 0, 0, 0]),
        );
        let _ = judge.judge(&signed);
    }
    for (name, digests) in policy.keyrings.sorted() {
        for digest in digests.iter() {
            let _ = judge.judge(&entry(&policy, name, digest, Content::Buffer(data)));
        }
    }
    let tmp = entry(&policy, "/tmp/x", &[0; 32], Content::File);
    let excluded = policy.excludes.matches(tmp.path);
    assert!(!excluded || judge.judge(&tmp).is_ok());
    assert!(!policy.excludes.texts().is_empty() || !excluded);
}

fn entry<'a>(
    policy: &RuntimePolicy,
    path: &'a str,
    digest: &'a [u8],
    content: Content<'a>,
) -> Entry<'a> {
    Entry {
        line: 1,
        pcr: 10,
        template: "ima-sig",
        list_hash: policy.log_hash,
        template_hash: &[1; 20],
        data: &[],
        violation: false,
        digest: FileDigest {
            kind: None,
            alg: ListHash::Sha1.name(),
            bytes: digest,
        },
        path: path.as_bytes(),
        content,
    }
}
