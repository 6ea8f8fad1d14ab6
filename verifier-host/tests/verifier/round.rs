//! One round, decided without a socket: which answers pass, and what is said of those that don't.

use agent_core::wire::quote::{HashAlg, PcrMask};
use agent_core::wire::route::ApiVersion;
use verifier_host::rounds::logs::Asked;
use verifier_host::rounds::progress::{OperationalState, Progress};
use verifier_host::rounds::round::{Challenge, Extent, Nonce, Reply, Verdict};
use verifier_host::rounds::terms::{Terms, TermsText};

use crate::tpm::SoftTpm;

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nnode\n-----END PUBLIC KEY-----\n";
const OTHER_PEM: &str = "-----BEGIN PUBLIC KEY-----\nanother\n-----END PUBLIC KEY-----\n";

fn terms(tpm: &SoftTpm, policy: &str) -> Terms {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
    Terms::try_from(TermsText {
        ip: "127.0.0.1".into(),
        port: 9002,
        verifier_ip: "127.0.0.1".into(),
        verifier_port: 8881,
        tpm_policy: policy.into(),
        runtime_policy: None,
        mb_policy: None,
        metadata: "{}".into(),
        accept_tpm_hash_algs: names(&["sha384", "sha256"]),
        accept_tpm_encryption_algs: names(&["rsa"]),
        accept_tpm_signing_algs: names(&["ecdsa", "rsassa"]),
        ak_tpm: tpm.ak(),
        mtls_cert: certificate.cert.pem(),
        supported_version: ApiVersion::NEWEST,
    })
    .unwrap()
}

/// What an answer to a challenge can be made of.
struct Answer {
    tpm: SoftTpm,
    /// What PCR 16 is extended with.
    bound: &'static str,
    /// What is sent as `pubkey`.
    pubkey: Option<&'static str>,
    hash_alg: &'static str,
    enc_alg: &'static str,
    sign_alg: &'static str,
    /// The nonce to answer, instead of the one that was asked.
    nonce: Option<&'static str>,
    /// The PCRs to quote, instead of those that were asked for.
    mask: Option<PcrMask>,
}

impl Default for Answer {
    fn default() -> Self {
        let mut tpm = SoftTpm::new(1);
        tpm.measure(7, b"boot");
        Self {
            tpm,
            bound: PEM,
            pubkey: Some(PEM),
            hash_alg: "sha256",
            enc_alg: "rsa2048",
            sign_alg: "ecdsa",
            nonce: None,
            mask: None,
        }
    }
}

impl Answer {
    fn to(mut self, nonce: &str, mask: PcrMask) -> Vec<u8> {
        self.tpm.measure(16, self.bound.as_bytes());
        let quote = self
            .tpm
            .quote(self.nonce.unwrap_or(nonce), self.mask.unwrap_or(mask));
        let mut results = serde_json::json!({
            "quote": quote, "hash_alg": self.hash_alg, "enc_alg": self.enc_alg, "sign_alg": self.sign_alg,
        });
        if let Some(pubkey) = self.pubkey {
            results["pubkey"] = pubkey.into();
        }
        serde_json::to_vec(
            &serde_json::json!({ "code": 200, "status": "Success", "results": results }),
        )
        .unwrap()
    }
}

/// A node that passed before with `PEM`, in the boot that [`SoftTpm::new`] is in.
fn passed_before() -> Progress {
    let mut progress = Progress::new(ApiVersion::NEWEST);
    progress.standing.pubkey = Some(PEM.into());
    progress.standing.passed = true;
    progress.standing.boot = Some((5, 1));
    progress.tally.clock_ms = 900;
    progress
}

/// The event of the failure, or a word for another verdict.
fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed(_) => "passed".into(),
        Verdict::AskInFull => "ask in full".into(),
        Verdict::ReadAnew => "read anew".into(),
        Verdict::Renegotiate => "renegotiate".into(),
        Verdict::Later(_) => "later".into(),
        Verdict::Failed(state, failure, _) => format!("{} {}", u8::from(*state), failure.event_id),
    }
}

fn first_challenge(terms: &Terms, progress: &Progress) -> Challenge {
    let nonce = Nonce::random().unwrap();
    Challenge::new(nonce, terms, Asked::default(), progress, Extent::Full)
}

fn judge(policy: &str, progress: &Progress, extent: Extent, answer: Answer) -> Verdict {
    let terms = terms(&SoftTpm::new(1), policy);
    let nonce = Nonce::random().unwrap();
    let challenge = Challenge::new(nonce, &terms, Asked::default(), progress, extent);
    let target = challenge.target(progress.standing.version);
    let nonce = target
        .split("nonce=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    let body = answer.to(&nonce, terms.policy.mask());
    let reply = Reply { status: 200, body };
    challenge.judge(&terms, progress, reply)
}

#[test]
fn answers_and_verdicts() {
    let boot = SoftTpm::new(1);
    let held = {
        let mut tpm = SoftTpm::new(1);
        tpm.measure(7, b"boot");
        tpm.held(7)
    };
    let right = format!(r#"{{"7": ["{held}"]}}"#);
    let wrong = format!(r#"{{"7": ["{}"]}}"#, boot.held(7));
    let tpm = |change: fn(&mut SoftTpm)| {
        let mut answer = Answer::default();
        change(&mut answer.tpm);
        answer
    };
    let default = Answer::default;
    for (name, policy, answer, expected) in [
        ("right PCR", &right, default(), "passed"),
        (
            "wrong PCR",
            &wrong,
            default(),
            "9 pcr_validation.invalid_pcr_7",
        ),
        (
            "another TPM",
            &right,
            tpm(|tpm| {
                *tpm = SoftTpm::new(2);
                tpm.measure(7, b"boot");
            }),
            "9 qoute_validation.quote_validation",
        ),
        (
            "replayed quote",
            &right,
            Answer {
                nonce: Some("AAAAAAAAAAAAAAAAAAAA"),
                ..default()
            },
            "9 qoute_validation.quote_validation",
        ),
        (
            "PCR left out",
            &right,
            Answer {
                mask: Some(PcrMask::EMPTY),
                ..default()
            },
            "9 qoute_validation.quote_validation",
        ),
        (
            "another key bound",
            &right,
            Answer {
                bound: OTHER_PEM,
                ..default()
            },
            "9 pcr_validation.invalid_pcr_16",
        ),
        (
            "another key sent",
            &right,
            Answer {
                pubkey: Some(OTHER_PEM),
                ..default()
            },
            "9 pcr_validation.invalid_pcr_16",
        ),
        (
            "no key sent",
            &right,
            Answer {
                pubkey: None,
                ..default()
            },
            "9 qoute_validation.no_pubkey",
        ),
        (
            "unsafe clock",
            &right,
            tpm(|tpm| tpm.safe = false),
            "9 qoute_validation.clock_not_safe",
        ),
        (
            "hash not accepted",
            &right,
            Answer {
                hash_alg: "sha512",
                ..default()
            },
            "9 qoute_validation.invalid_hash_alg",
        ),
        (
            "hash that it isn't",
            &right,
            Answer {
                hash_alg: "sha384",
                ..default()
            },
            "9 qoute_validation.quote_validation",
        ),
        (
            "scheme not accepted",
            &right,
            Answer {
                sign_alg: "rsapss",
                ..default()
            },
            "9 qoute_validation.invalid_sign_alg",
        ),
        (
            "scheme that it isn't",
            &right,
            Answer {
                sign_alg: "rsassa",
                ..default()
            },
            "9 qoute_validation.invalid_sign_alg",
        ),
        (
            "kind of key not accepted",
            &right,
            Answer {
                enc_alg: "ecc256",
                ..default()
            },
            "9 qoute_validation.invalid_enc_alg",
        ),
    ] {
        let verdict = judge(
            policy,
            &Progress::new(ApiVersion::NEWEST),
            Extent::Full,
            answer,
        );
        assert_eq!(said(&verdict), expected, "{name}: {verdict:?}");
    }
}

#[test]
fn wrong_pcr_is_said_with_both_sides() {
    let answer = Answer::default();
    let (held, wanted) = (answer.tpm.held(7), "ab".repeat(32));
    let policy = format!(r#"{{"7": ["{wanted}"]}}"#);
    let verdict = judge(
        &policy,
        &Progress::new(ApiVersion::NEWEST),
        Extent::Full,
        answer,
    );
    let Verdict::Failed(OperationalState::InvalidQuote, failure, shown) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(
        failure.reason,
        format!("PCR 7 held {held}, wanted {wanted}")
    );
    let context = serde_json::json!({
        "context": "PCR value is not in allowlist", "pcr": 7, "got": held, "expected": [wanted],
    });
    assert_eq!(failure.context, context);
    let shown = shown.unwrap();
    assert_eq!(shown.failure, failure.reason);
    assert_eq!(shown.pcrs[&7], held);
}

#[test]
fn later_rounds() {
    let tpm = |change: fn(&mut SoftTpm)| {
        let mut answer = Answer {
            pubkey: None,
            ..Answer::default()
        };
        change(&mut answer.tpm);
        answer
    };
    let key_changed = || Answer {
        pubkey: None,
        bound: OTHER_PEM,
        ..Answer::default()
    };
    for (name, extent, answer, expected) in [
        ("without the key", Extent::Partial, tpm(|_| {}), "passed"),
        ("key changed", Extent::Partial, key_changed(), "ask in full"),
        (
            "changed key that is sent",
            Extent::Full,
            Answer {
                pubkey: Some(OTHER_PEM),
                bound: OTHER_PEM,
                ..Answer::default()
            },
            "passed",
        ),
        (
            "changed key that isn't sent",
            Extent::Full,
            key_changed(),
            "9 pcr_validation.invalid_pcr_16",
        ),
        (
            "rebooted",
            Extent::Partial,
            tpm(|tpm| (tpm.reset_count, tpm.restart_count) = (6, 0)),
            "passed",
        ),
        (
            "cleared",
            Extent::Partial,
            tpm(|tpm| (tpm.reset_count, tpm.restart_count) = (0, 0)),
            "9 qoute_validation.clock_went_back",
        ),
        (
            "fewer restarts in a boot",
            Extent::Partial,
            tpm(|tpm| tpm.restart_count = 0),
            "9 qoute_validation.clock_went_back",
        ),
        (
            "clock behind",
            Extent::Partial,
            tpm(|tpm| tpm.clock_ms = 100),
            "9 qoute_validation.clock_went_back",
        ),
    ] {
        let verdict = judge("{}", &passed_before(), extent, answer);
        assert_eq!(said(&verdict), expected, "{name}: {verdict:?}");
    }
}

#[test]
fn answers_that_are_no_quotes() {
    let terms = terms(&SoftTpm::new(1), "{}");
    let unsupported = r#"{"code": 400, "status": "API version not supported", "results": {}}"#;
    let results =
        |body: &str| format!(r#"{{"code": 200, "status": "Success", "results": {body}}}"#);
    let with_logs = |logs: &str| {
        let quote = r#""quote": "", "hash_alg": "sha256", "enc_alg": "rsa", "sign_alg": "ecdsa""#;
        results(&format!("{{{quote}, {logs}}}"))
    };
    for (name, status, body, expected) in [
        ("other version", 400, unsupported.to_owned(), "renegotiate"),
        (
            "other version, but 200",
            200,
            unsupported.to_owned(),
            "9 qoute_validation.invalid_data",
        ),
        (
            "bad request",
            400,
            String::new(),
            "7 agent_validation.refused",
        ),
        ("forbidden", 403, "{}".into(), "7 agent_validation.refused"),
        (
            "not found",
            404,
            String::new(),
            "7 agent_validation.refused",
        ),
        ("redirect", 302, String::new(), "7 agent_validation.refused"),
        ("timeout", 408, String::new(), "later"),
        ("busy TPM", 500, r#"{"status": "TPM busy"}"#.into(), "later"),
        ("busy", 503, String::new(), "later"),
        (
            "nothing",
            200,
            String::new(),
            "9 qoute_validation.invalid_data",
        ),
        (
            "not JSON",
            200,
            "<html>".into(),
            "9 qoute_validation.invalid_data",
        ),
        (
            "no results",
            200,
            results("null"),
            "9 qoute_validation.invalid_data",
        ),
        (
            "no quote",
            200,
            results(r#"{"hash_alg": "sha256", "enc_alg": "rsa", "sign_alg": "ecdsa"}"#),
            "9 qoute_validation.invalid_data",
        ),
        (
            "empty quote",
            200,
            results(
                r#"{"quote": "", "hash_alg": "sha256", "enc_alg": "rsa", "sign_alg": "ecdsa", "pubkey": ""}"#,
            ),
            "9 qoute_validation.invalid_data",
        ),
        (
            "list that is no text",
            200,
            with_logs(r#""ima_measurement_list": [1]"#),
            "9 qoute_validation.invalid_data",
        ),
        (
            "list with half a letter",
            200,
            with_logs(r#""ima_measurement_list": "\ud800""#),
            "9 qoute_validation.invalid_data",
        ),
        (
            "line before the first",
            200,
            with_logs(r#""ima_measurement_list": "", "ima_measurement_list_entry": -1"#),
            "9 qoute_validation.invalid_data",
        ),
    ] {
        let progress = Progress::new(ApiVersion::NEWEST);
        let challenge = first_challenge(&terms, &progress);
        let reply = Reply {
            status,
            body: body.as_bytes().to_vec(),
        };
        let verdict = challenge.judge(&terms, &progress, reply);
        assert_eq!(said(&verdict), expected, "{name}: {verdict:?}");
    }
}

#[test]
fn sha384_bank() {
    let tpm = SoftTpm::new(1).with_bank(HashAlg::Sha384);
    let terms = terms(&tpm, "{}");
    let progress = Progress::new(ApiVersion::NEWEST);
    let challenge = first_challenge(&terms, &progress);
    let target = challenge.target(ApiVersion::NEWEST);
    let nonce = target
        .split("nonce=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    let answer = Answer {
        tpm,
        hash_alg: "sha384",
        ..Answer::default()
    };
    let body = answer.to(&nonce, PcrMask::EMPTY);
    let reply = Reply { status: 200, body };
    assert_eq!(said(&challenge.judge(&terms, &progress, reply)), "passed");
}

/// Every bit of attest, signature and dump matters: no flipped byte of the quote's text passes.
#[test]
fn every_flipped_field_fails() {
    let terms = terms(&SoftTpm::new(1), "{}");
    let progress = Progress::new(ApiVersion::NEWEST);
    let mut answer = Answer::default();
    answer.tpm.measure(16, PEM.as_bytes());
    let mut tried = 0;
    for place in 0.. {
        let challenge = first_challenge(&terms, &progress);
        let target = challenge.target(ApiVersion::NEWEST);
        let nonce = target
            .split("nonce=")
            .nth(1)
            .unwrap()
            .split('&')
            .next()
            .unwrap()
            .to_owned();
        let mut quote = answer.tpm.quote(&nonce, PcrMask::EMPTY).into_bytes();
        if place == quote.len() {
            break;
        }
        // Another letter of the same alphabet, so that most flips get past the decoder.
        quote[place] = if quote[place] == b'A' { b'B' } else { b'A' };
        let body = serde_json::json!({ "results": {
            "quote": String::from_utf8(quote).unwrap(), "hash_alg": "sha256", "enc_alg": "rsa2048",
            "sign_alg": "ecdsa", "pubkey": PEM,
        }})
        .to_string();
        let reply = Reply {
            status: 200,
            body: body.as_bytes().to_vec(),
        };
        let said = said(&challenge.judge(&terms, &progress, reply));
        assert!(said.starts_with("9 "), "letter {place}: {said}");
        tried += 1;
    }
    assert!(tried > 800, "{tried}");
}

#[test]
fn nonce_unique_single_use_per_agent() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        let nonce = Nonce::random().unwrap();
        let text = nonce.as_str();
        assert_eq!(text.len(), 20);
        assert!(
            text.bytes().all(|letter| letter.is_ascii_alphanumeric()),
            "{text}"
        );
        assert!(seen.insert(text.to_owned()), "{text} came twice");
    }
    // A challenge is consumed by its verdict: `judge` takes it by value, and it can't be cloned.
}

#[test]
fn question_is_keylimes() {
    let terms = terms(&SoftTpm::new(1), r#"{"mask": "0x800000"}"#);
    let ask = |progress: &Progress, extent| {
        let nonce = Nonce::random().unwrap();
        let challenge = Challenge::new(nonce, &terms, Asked::default(), progress, extent);
        let target = challenge.target(ApiVersion::NEWEST);
        let (path, query) = target.split_once('?').unwrap();
        let rest = query.split_once('&').unwrap().1.to_owned();
        (path.to_owned(), rest)
    };
    let fresh = Progress::new(ApiVersion::NEWEST);
    for (name, progress, extent, partial) in [
        ("first", &fresh, Extent::Full, 0),
        ("key unknown", &fresh, Extent::Partial, 0),
        ("new connection", &passed_before(), Extent::Full, 0),
        ("later", &passed_before(), Extent::Partial, 1),
    ] {
        let expected = format!("mask=0x800000&partial={partial}&ima_ml_entry=0");
        let asked = ask(progress, extent);
        assert_eq!(
            asked,
            ("/v2.6/quotes/integrity".to_owned(), expected),
            "{name}"
        );
    }
}
