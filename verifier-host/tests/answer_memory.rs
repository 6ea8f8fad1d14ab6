//! How much memory an agent's answer with a long IMA list takes, from its bytes to the verdict: in a process of its own, because it is
//! the process's peak that is looked at.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;

use agent_core::wire::quote::HashAlg;
use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Hex;
use verifier_host::evidence::ima::ListHash;
use verifier_host::policies::{Draft, JudgedBy, Ready};
use verifier_host::policy::PolicyKind;
use verifier_host::rounds::logs::Asked;
use verifier_host::rounds::progress::Progress;
use verifier_host::rounds::round::{Challenge, Extent, Nonce, Reply, Verdict};
use verifier_host::rounds::terms::{Terms, TermsText};

#[path = "verifier/tpm.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod tpm;

const LINES: usize = 200_000;

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nnode\n-----END PUBLIC KEY-----\n";

/// What the verifier may take for it: 34 MB are the answer itself.
const LIMIT_KIB: usize = 64 << 10;

#[test]
fn an_answer_with_two_hundred_thousand_lines_fits_into_64_mib() {
    let mut tpm = tpm::SoftTpm::new(1);
    let terms = terms(&tpm);
    let asked = Asked::new(judged_by(), None);
    let progress = Progress::new(ApiVersion::NEWEST);
    let nonce = Nonce::random().unwrap();
    let sent = nonce.as_str().to_owned();
    let pcrs = asked.pcrs();
    let challenge = Challenge::new(nonce, &terms, asked, &progress, Extent::Full);

    // As it travels: escaped, and the list never anywhere else.
    let mut body = String::with_capacity(LINES * 190);
    body.push_str(r#"{"code": 200, "status": "Success", "results": {"ima_measurement_list": ""#);
    for line in 0..LINES {
        measure(line, &mut body, &mut tpm);
    }
    body.push_str(r#"", "ima_measurement_list_entry": 0, "#);
    tpm.measure(16, PEM.as_bytes());
    let quote = tpm.quote(&sent, pcrs);
    let pem = PEM.replace('\n', "\\n");
    write!(
        body,
        r#""quote": "{quote}", "hash_alg": "sha256", "enc_alg": "rsa2048", "sign_alg": "ecdsa", "pubkey": "{pem}"}}}}"#
    )
    .unwrap();
    let reply = Reply {
        status: 200,
        body: body.into_bytes(),
    };
    let size = reply.body.len() >> 10;
    let verdict = challenge.judge(&terms, &progress, reply);
    assert!(matches!(verdict, Verdict::Passed(_)), "{verdict:?}");
    let peak = peak_kib();
    assert!(peak > size, "{peak} KiB can't be the peak");
    assert!(peak < LIMIT_KIB, "{peak} KiB for an answer of {size} KiB");
}

/// The kernel measures a file: a line of the list, and an extend of PCR 10.
fn measure(line: usize, body: &mut String, tpm: &mut tpm::SoftTpm) {
    let path = format!("/usr/lib/x86_64-linux-gnu/some/directory/file-{line}.so");
    let hash = HashAlg::Sha256.digest([&line.to_le_bytes()[..]]);
    let data = [
        &40_u32.to_le_bytes()[..],
        b"sha256:\0",
        &hash,
        &(path.len() as u32 + 1).to_le_bytes(),
        path.as_bytes(),
        b"\0",
    ]
    .concat();
    let template = ListHash::Sha1.digest(&data);
    tpm.extend(10, &HashAlg::Sha256.digest([&data[..]]));
    write!(
        body,
        r"10 {} ima-ng sha256:{} {path}\n",
        Hex(&template),
        Hex(&hash)
    )
    .unwrap();
}

fn judged_by() -> JudgedBy {
    let text = r#"{"meta": {"version": 1, "generator": 0}, "release": 0, "digests": {}, "excludes": ["/usr/.*"], "keyrings": {},
        "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}, "ima-buf": {}, "verification-keys": ""}"#;
    let draft = Draft::parse(PolicyKind::Runtime, text.as_bytes().to_vec(), None).unwrap();
    let Ready::Runtime(runtime) = draft.ready else {
        panic!("{:?}", draft.ready);
    };
    JudgedBy {
        runtime: Some(runtime),
        measured_boot: None,
    }
}

fn terms(tpm: &tpm::SoftTpm) -> Terms {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Terms::try_from(TermsText {
        ip: "127.0.0.1".into(),
        port: 9002,
        verifier_ip: "127.0.0.1".into(),
        verifier_port: 8881,
        tpm_policy: "{}".into(),
        runtime_policy: None,
        mb_policy: None,
        metadata: "{}".into(),
        accept_tpm_hash_algs: names(&["sha256"]),
        accept_tpm_encryption_algs: names(&["rsa"]),
        accept_tpm_signing_algs: names(&["ecdsa"]),
        ak_tpm: tpm.ak(),
        mtls_cert: "disabled".into(),
        supported_version: ApiVersion::NEWEST,
    })
    .unwrap()
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
