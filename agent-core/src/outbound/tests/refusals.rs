//! What a verifier or somebody on the way may try, each refused by name.

use super::*;

/// What a test does to a play before it begins.
type Change = fn(&mut Play);

/// What a verifier could put in place of the deposit. It has no key of the tenant's: what it makes up is signed by nobody, and
/// what it has is signed as it was.
#[test]
fn a_verifier_cannot_forge_a_payload() {
    let rows: [(&str, Change, Fault); 16] = [
        (
            "another payload",
            |play| forge(play, |manifest| manifest.sealed_sha256 = [6; 32]),
            Fault::Signature(VerifyError::Mismatch),
        ),
        (
            "another script",
            |play| {
                forge(play, |manifest| {
                    manifest.script = Some("evil.sh".try_into().unwrap());
                });
            },
            Fault::Signature(VerifyError::Mismatch),
        ),
        (
            "another floor",
            |play| forge(play, |manifest| manifest.floor = Some(9)),
            Fault::Signature(VerifyError::Mismatch),
        ),
        (
            "another cap",
            |play| forge(play, |manifest| manifest.cap.pcr = 14),
            Fault::Signature(VerifyError::Mismatch),
        ),
        (
            "forged signature",
            |play| play.signed = Some(b"something else".to_vec()),
            Fault::Signature(VerifyError::Mismatch),
        ),
        (
            "foreign signer",
            |play| play.signer = b"certificate of the verifier".to_vec(),
            Fault::Signer,
        ),
        (
            "no signer is trusted",
            |play| play.machine.config.signers.clear(),
            Fault::Signer,
        ),
        (
            "one of another node",
            |play| play.manifest.agent = Uuid::parse("node-2").unwrap(),
            Fault::Agent,
        ),
        (
            "one for another endorsement key",
            |play| play.manifest.ek_name = name_of(&FakeTpm::new(2).identity().ek_public),
            Fault::EkName,
        ),
        (
            "one for another attestation key",
            |play| play.manifest.ak_name = name_of(&FakeTpm::new(2).identity().ak_public),
            Fault::AkName,
        ),
        (
            "U changed",
            |play| *play.u_blob.last_mut().unwrap() ^= 1,
            Fault::UBlob,
        ),
        (
            "U of another TPM",
            |play| {
                play.u_blob = FakeTpm::new(2).wrap(&U).to_vec();
                play.manifest.u_blob_sha256 = Sha256::digest(&play.u_blob).into();
            },
            Fault::U,
        ),
        (
            "no blob of U",
            |play| {
                play.u_blob = std::vec![0, 1, 7, 0, 9, 1];
                play.manifest.u_blob_sha256 = Sha256::digest(&play.u_blob).into();
            },
            Fault::U,
        ),
        ("V changed", |play| play.v = [0x33; 32], Fault::AuthTag),
        (
            "sealed to no segments",
            |play| play.manifest.sealed_bytes = 16,
            Fault::Size { sealed_bytes: 16 },
        ),
        (
            "larger than it may be",
            |play| play.manifest.sealed_bytes = 1 << 40,
            Fault::TooLarge {
                sealed_bytes: 1 << 40,
                limit: 1 << 20,
            },
        ),
    ];
    for (name, change, fault) in rows {
        let mut play = Play::new(Mode::Provision);
        change(&mut play);
        let end = play.run(40, &plain);
        assert_eq!(end, Some(End::BadPayload(fault)), "{name}");
        ends_well(&play, name);
        assert!(!play.events.iter().any(|event| event == "unpack"), "{name}");
        // The tenant is told, as far as it is known of what.
        let receipt = play.receipts.last().expect(name);
        assert!(receipt.reached < Reached::Opened, "{name}");
        assert!(receipt.error.is_some(), "{name}");
    }
}

/// A manifest that the tenant has signed, with something changed afterwards.
fn forge(play: &mut Play, change: fn(&mut Manifest)) {
    play.signed = Some(play.manifest_bytes());
    change(&mut play.manifest);
}

#[test]
fn sealed_bytes_in_another_order_are_refused() {
    // The digest is over all of them: another order or segment is another digest, and one more try gets them anew.
    let mut play = Play::new(Mode::Provision);
    play.fetched = std::vec!["digest", "digest"];
    assert_eq!(play.run(40, &plain), Some(End::BadPayload(Fault::Digest)));
    assert!(!play.released());
    let mut play = Play::new(Mode::Provision);
    play.fetched = std::vec!["digest", "whole"];
    assert_eq!(play.run(40, &plain), Some(End::Finished));
}

#[test]
fn a_segment_that_does_not_open_leaves_nothing_and_caps() {
    let mut play = Play::new(Mode::Provision);
    play.unpacks = false;
    let end = play.run(40, &plain);
    assert_eq!(end, Some(End::NotUnpacked("no zip".try_into().unwrap())));
    ends_well(&play, "not unpacked");
    assert_eq!(play.tpm.caps, 1);
    assert_eq!(play.receipts[0].reached, Reached::Opened);
}

#[test]
fn an_older_deposit_is_refused() {
    let floor = |floor, counter| Some(Fault::Floor { floor, counter });
    for (name, counter, manifest, fault, after) in [
        ("older", Some(5), Some(4), floor(Some(4), 5), Some(5)),
        ("made without", Some(5), None, floor(None, 5), Some(5)),
        ("the same", Some(5), Some(5), None, Some(5)),
        ("the next", Some(5), Some(6), None, Some(6)),
        ("sixteen on", Some(5), Some(21), None, Some(21)),
        (
            "seventeen on",
            Some(5),
            Some(22),
            Some(Fault::FloorTooHigh {
                floor: 22,
                counter: 5,
            }),
            Some(5),
        ),
        ("counter gone", None, Some(5), Some(Fault::NoCounter), None),
    ] {
        let mut play = Play::new(Mode::Provision).with_counter(counter, manifest);
        let expected = fault.map_or(End::Finished, End::BadPayload);
        assert_eq!(play.run(40, &plain), Some(expected), "{name}");
        assert_eq!(play.tpm.counter, after, "{name}");
        assert_eq!(play.released(), fault.is_none(), "{name}");
    }
}

#[test]
fn a_deposit_that_does_not_open_raises_no_counter() {
    let mut play = Play::new(Mode::Provision).with_counter(Some(1), Some(2));
    play.v = [0; 32];
    play.run(40, &plain);
    assert_eq!(play.tpm.counter, Some(1));
}

#[test]
fn a_recorded_answer_is_refused() {
    // V of an earlier attestation, under its release key.
    let mut first = Play::new(Mode::Provision);
    first.run(40, &plain);
    let agent = Uuid::parse(AGENT).unwrap();
    let ephemeral = ReleaseKey::from_random(&Secret::zeroed(), &Secret::zeroed());
    let terms = Terms {
        agent: &agent,
        challenge: &[1; 16],
        manifest: &first.manifest_bytes(),
    };
    let old = wrap(&ephemeral, &[9; 32], &terms, &Secret::copy_of(&V)).unwrap();
    let old = STANDARD.encode(old);
    let replay = |kind: &str, _: usize| {
        let body = format!(r#"{{"payload_id":"{ID}","v":"{old}"}}"#);
        (kind == "release").then(|| Some(Reply::new(200, body)))
    };
    let mut play = Play::new(Mode::Provision);
    assert_eq!(play.run(40, &replay), Some(End::BadPayload(Fault::V)));
    ends_well(&play, "replayed");
}

#[test]
fn refusals_of_the_verifier_are_named() {
    for code in [
        "not-passed",
        "not-bound",
        "capped",
        "resumed",
        "cleared-tpm",
        "spent",
        "expired",
        "never-heard-of",
    ] {
        let mut play = Play::new(Mode::Provision);
        let refuse =
            |kind: &str, _: usize| (kind == "release").then(|| Some(Reply::error(403, code)));
        let Some(End::Refused(refusal)) = play.run(40, &refuse) else {
            panic!("{code}");
        };
        assert_eq!(refusal.code, Code::from_name(code));
        assert_eq!(refusal.detail, "d");
        ends_well(&play, code);
    }
}

/// Whatever is answered at whatever point: once a release was asked for, the boot is capped at the end, once; before, never.
#[test]
fn capped_on_every_way_out_after_a_release_was_asked_for() {
    let kinds = [
        "session", "proof", "manifest", "offer", "evidence", "release", "receipt",
    ];
    let answers: [fn() -> Option<Reply>; 9] = [
        || None,
        || Some(Reply::new(200, "")),
        || Some(Reply::new(200, "{}")),
        || {
            Some(Reply::new(
                200,
                r#"{"payload_id":"0707070707070707","v":"AAAA"}"#,
            ))
        },
        || Some(Reply::error(400, "x")),
        || Some(Reply::error(401, "x")),
        || Some(Reply::error(403, "capped")),
        || Some(Reply::error(404, "unknown-payload")),
        || Some(Reply::error(500, "x")),
    ];
    let mut ends = 0;
    for kind in kinds {
        for (n, answer) in answers.iter().enumerate() {
            for from in [0, 1] {
                let mut play = Play::new(Mode::Provision);
                let twist =
                    |asked: &str, before: usize| (asked == kind && before >= from).then(answer);
                let end = play.run(60, &twist);
                let name = format!("{kind} {n} {from}: {end:?}");
                if end.is_some() {
                    ends += 1;
                    ends_well(&play, &name);
                } else {
                    // The shell leaves at its deadline, and caps before.
                    let owed = play.released() && play.tpm.caps == 0;
                    assert_eq!(play.machine.cap(&mut play.tpm), Ok(owed), "{name}");
                    assert_eq!(play.tpm.caps, u32::from(play.released()), "{name}");
                }
            }
        }
    }
    assert!(ends > 60, "{ends}");
}

fn ends_well(play: &Play, name: &str) {
    let capped = u32::from(play.released());
    assert_eq!(play.tpm.caps, capped, "{name}: {:?}", play.events);
    assert!(play.machine.round.is_none() && play.machine.v.is_none());
    let ran = play.events.iter().any(|event| event == "run");
    assert!(!ran || capped == 1, "{name}");
}

#[test]
fn no_script_runs_in_a_boot_that_cannot_be_capped() {
    let mut play = Play::new(Mode::Provision);
    while !play.events.iter().any(|event| event == "unpack") {
        assert_eq!(play.step(&plain), None);
    }
    play.tpm.broken = true;
    let end = play.run(40, &plain);
    assert!(matches!(end, Some(End::NotCapped(_))), "{end:?}");
    assert!(!play.events.iter().any(|event| event == "run"));
    // It is still owed to whoever can.
    play.tpm.broken = false;
    assert_eq!(play.machine.cap(&mut play.tpm), Ok(true));
}

#[test]
fn a_failing_script_is_told() {
    let outcome = ScriptOutcome {
        exit_code: Some(3),
        signal: None,
        timed_out: false,
        duration_ms: 5,
    };
    let mut play = Play::new(Mode::Provision);
    play.script = Ok(outcome);
    assert_eq!(play.run(40, &plain), Some(End::Script(outcome)));
    let last = play.receipts.last().unwrap();
    assert_eq!((last.reached, last.exit_code), (Reached::Finished, Some(3)));

    let mut play = Play::new(Mode::Provision);
    play.script = Err("there is no autorun.sh");
    assert!(matches!(play.run(40, &plain), Some(End::NotRun(_))));
    let last = play.receipts.last().unwrap();
    assert_eq!(last.reached, Reached::Unpacked);
    assert!(last.error.is_some());
}

#[test]
fn a_payload_without_a_script_is_finished_once_it_is_unpacked() {
    let mut play = Play::new(Mode::Provision);
    play.manifest.script = None;
    assert_eq!(play.run(40, &plain), Some(End::Finished));
    assert_eq!(play.receipts.len(), 1);
    assert_eq!(play.receipts[0].reached, Reached::Finished);
    assert_eq!(play.tpm.caps, 1);
}

#[test]
fn quotes_of_another_bank_or_scheme_are_refused() {
    for (from, to) in [("sha256", "sha384"), ("ecdsa", "rsassa")] {
        let mut play = Play::new(Mode::Provision);
        let offered = play.answer("offer", "");
        play.attestation = 0;
        let other = |kind: &str, _: usize| {
            (kind == "offer").then(|| {
                Some(Reply {
                    location: offered.location.clone(),
                    ..Reply::new(201, offered.body.replace(from, to))
                })
            })
        };
        assert_eq!(
            play.run(40, &other),
            Some(End::Verifier(Unusable::Scheme)),
            "{to}"
        );
    }
}
