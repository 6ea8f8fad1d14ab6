#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use agent_core::wire::manifest::{NAME_BYTES, PayloadId};
use agent_core::wire::text::Uuid;

use super::*;

const NOW: u64 = 1_800_000_000;

fn last() -> Manifest {
    Manifest {
        agent: Uuid::parse("node").unwrap(),
        ek_name: [0; NAME_BYTES],
        ak_name: [0; NAME_BYTES],
        payload_id: PayloadId([1; 8]),
        floor: Some(4),
        sealed_sha256: [0; 32],
        sealed_bytes: 17,
        auth_tag: [0; 48],
        u_blob_sha256: [0; 32],
        policy_sha256: [0; 32],
        cap: CapPcr::at_zero(12, HashAlg::Sha256),
        deliver: Deliver::Once,
        script: Some("run".try_into().unwrap()),
        sealed_at: NOW,
        last_good_seconds: Some(60),
    }
}

#[test]
fn deliver_is_one_of_its_words() {
    let over = |text: &str| TermsError::When {
        text: text.to_owned(),
    };
    for (text, wanted) in [
        ("once", Ok(When::Once)),
        ("per-boot", Ok(When::PerBoot)),
        ("until=2027-01-15T08:00:00Z", Ok(When::Until(NOW))),
        ("until=2027-01-15T10:00:00+02:00", Ok(When::Until(NOW))),
        ("until=+90s", Ok(When::For(90))),
        ("until=+7d", Ok(When::For(604_800))),
        ("until=2027-01-15", Err(over("until=2027-01-15"))),
        ("until=1800000000", Err(over("until=1800000000"))),
        (
            "until=1960-01-01T00:00:00Z",
            Err(over("until=1960-01-01T00:00:00Z")),
        ),
        ("until=", Err(over("until="))),
        ("Once", Err(over("Once"))),
        ("", Err(over(""))),
    ] {
        assert_eq!(when(text), wanted, "{text}");
    }
}

#[test]
fn spans_have_units() {
    for (text, wanted) in [
        ("1s", Some(1)),
        ("30m", Some(1800)),
        ("12h", Some(43_200)),
        ("2w", Some(1_209_600)),
        ("3660d", Some(MAX_SPAN_SECONDS)),
        ("3661d", None),
        ("0s", None),
        ("90", None),
        ("h", None),
        ("+1h", None),
        ("-1h", None),
        ("1.5h", None),
        ("1 h", None),
        ("1h30m", None),
        ("99999999999999999999w", None),
    ] {
        assert_eq!(span(text), wanted, "{text}");
    }
}

#[test]
fn terms_are_the_usual_the_last_or_the_asked() {
    let files = ["run".to_owned(), "autorun.sh".to_owned()];
    let usual = Wishes::default().resolve(None, HashAlg::Sha384, &files, NOW);
    assert_eq!(
        usual,
        Ok(Terms {
            deliver: Deliver::PerBoot,
            floor: None,
            script: Some("autorun.sh".to_owned()),
            last_good_seconds: None,
            cap: CapPcr::at_zero(15, HashAlg::Sha384),
        })
    );
    let none = Wishes::default().resolve(None, HashAlg::Sha256, &[], NOW);
    assert_eq!(none.unwrap().script, None);
    let again = Wishes::default().resolve(Some(&last()), HashAlg::Sha256, &files, NOW);
    let before = Terms {
        deliver: Deliver::Once,
        floor: Some(5),
        script: Some("run".to_owned()),
        last_good_seconds: Some(60),
        cap: CapPcr::at_zero(12, HashAlg::Sha256),
    };
    assert_eq!(again, Ok(before.clone()));
    let asked = Wishes {
        deliver: Some(When::For(10)),
        floor: Some(9),
        script: Some(ScriptWish::None),
        last_good: Some(None),
        cap_pcr: Some(11),
        cap_values: vec!["AB".repeat(32), "00".repeat(32)],
    };
    let asked = asked
        .resolve(Some(&last()), HashAlg::Sha256, &files, NOW)
        .unwrap();
    let values: Vec<Vec<u8>> = asked
        .cap
        .values
        .iter()
        .map(|value| value.to_vec())
        .collect();
    assert_eq!(
        (asked.cap.pcr, values),
        (11, vec![vec![0xAB; 32], vec![0; 32]])
    );
    let rest = (
        asked.deliver,
        asked.floor,
        asked.script,
        asked.last_good_seconds,
    );
    assert_eq!(rest, (Deliver::Until(NOW + 10), Some(9), None, None));
}

#[test]
fn terms_that_no_node_would_take_are_refused() {
    let files = ["autorun.sh".to_owned()];
    let rows: [(&str, Wishes, TermsError); 5] = [
        (
            "over",
            Wishes {
                deliver: Some(When::Until(NOW)),
                ..Wishes::default()
            },
            TermsError::Over {
                until: NOW,
                now: NOW,
            },
        ),
        (
            "no such script",
            Wishes {
                script: Some(ScriptWish::Named("go".to_owned())),
                ..Wishes::default()
            },
            TermsError::NoScript {
                name: "go".to_owned(),
            },
        ),
        (
            "a value of another bank",
            Wishes {
                cap_values: vec!["00".repeat(48)],
                ..Wishes::default()
            },
            TermsError::CapValue {
                text: "00".repeat(48),
                bank: HashAlg::Sha256,
            },
        ),
        (
            "five values",
            Wishes {
                cap_values: vec!["00".repeat(32); 5],
                ..Wishes::default()
            },
            TermsError::CapValues { have: 5 },
        ),
        (
            "floor back",
            Wishes {
                floor: Some(3),
                script: Some(ScriptWish::None),
                ..Wishes::default()
            },
            TermsError::FloorBack { wanted: 3, last: 4 },
        ),
    ];
    for (name, wishes, wanted) in rows {
        let before = (name == "floor back").then(last);
        let result = wishes.resolve(before.as_ref(), HashAlg::Sha256, &files, NOW);
        assert_eq!(result, Err(wanted), "{name}");
    }
    // The last script is gone from the payload.
    let gone = Wishes::default().resolve(Some(&last()), HashAlg::Sha256, &files, NOW);
    assert_eq!(
        gone,
        Err(TermsError::NoScript {
            name: "run".to_owned()
        })
    );
}

#[test]
fn the_cap_bank_follows_the_policy() {
    let value = |bytes: usize| "0".repeat(2 * bytes);
    let policy = |lists: &[&[usize]]| {
        let pcrs = lists.iter().enumerate().map(|(pcr, sizes)| {
            let values: Vec<String> = sizes.iter().map(|size| value(*size)).collect();
            (pcr.to_string(), Value::from(values))
        });
        let mut policy: Map<String, Value> = pcrs.collect();
        policy.insert("mask".to_owned(), "0x0".into());
        Value::Object(policy).to_string()
    };
    for (name, lists, wanted) in [
        ("none", &[][..], Ok(HashAlg::Sha256)),
        ("sha256", &[&[32][..]][..], Ok(HashAlg::Sha256)),
        ("sha384", &[&[48], &[48]], Ok(HashAlg::Sha384)),
        ("sha512", &[&[64]], Ok(HashAlg::Sha512)),
        ("both, one whole", &[&[32, 48], &[48]], Ok(HashAlg::Sha384)),
        ("both", &[&[48, 32], &[32, 48]], Ok(HashAlg::Sha256)),
        ("mixed", &[&[32], &[48]], Err(TermsError::NoBank)),
        ("sha1", &[&[20]], Err(TermsError::NoBank)),
    ] {
        assert_eq!(bank_of(&policy(lists)), wanted, "{name}");
    }
}

#[test]
fn boot_pcrs_are_told_from_others() {
    for (policy, boot, fifteen) in [
        ("{}", false, false),
        (r#"{"mask": "0xff"}"#, false, false),
        (r#"{"15": ["00"], "23": ["00"]}"#, false, true),
        (r#"{"10": ["00"]}"#, false, false),
        (r#"{"9": ["00"]}"#, true, false),
        (r#"{"14": ["00"]}"#, true, false),
    ] {
        assert_eq!(
            (names_boot(policy), names_pcr(policy, 15)),
            (boot, fifteen),
            "{policy}"
        );
    }
}
