#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use serde_json::json;
use verifier_host::policy::tpm::PolicyError;

use super::*;
use crate::policy::next_boot::events::Course;

const BANK: HashAlg = HashAlg::Sha256;

/// An expectation of one value, which no measurement gives.
fn expected(pcr: u8) -> Expected {
    Expected {
        pcr,
        courses: vec![Course::default()],
    }
}

#[test]
fn old_and_new_are_allowed_until_the_old_is_dropped() {
    let (zero, a) = ("0".repeat(64), "aa".repeat(32));
    let both = [expected(4), expected(9)];
    let present = |text: &str| text.replace('A', &a).replace('Z', &zero);
    let keep = |text: &str, without: &[u8]| {
        let merged = merge(Some(&present(text)), &both, (Old::Keep, BANK), without);
        merged.map(|merged| (Value::Object(merged.policy), merged.left_out))
    };
    let drop = |text: &str, without: &[u8]| {
        let merged = merge(Some(&present(text)), &both, (Old::Drop, BANK), without);
        merged.map(|merged| (Value::Object(merged.policy), merged.left_out))
    };
    let unpredicted = |pcr| Err(NextBootError::Unpredicted { pcr });
    let rows = [
        (
            "beside",
            keep(r#"{"4": ["A"], "9": "A", "mask": "0x1"}"#, &[]),
            Ok((
                json!({"4": [a, zero], "9": [a, zero], "mask": "0x1"}),
                vec![],
            )),
        ),
        (
            "in their place",
            drop(r#"{"4": ["A"], "9": "A", "mask": "0x1"}"#, &[]),
            Ok((json!({"4": [zero], "9": [zero], "mask": "0x1"}), vec![])),
        ),
        (
            "others stay",
            drop(r#"{"0": "A", "4": "A", "9": "A", "15": ["Z"]}"#, &[]),
            Ok((
                json!({"0": a, "4": [zero], "9": [zero], "15": [zero]}),
                vec![],
            )),
        ),
        (
            "the same again",
            keep(r#"{"4": ["Z", "A"], "9": ["A", "Z"]}"#, &[]),
            Ok((json!({"4": [zero, a], "9": [a, zero]}), vec![])),
        ),
        (
            "what is open stays open",
            keep(r#"{"4": "A"}"#, &[]),
            Ok((json!({"4": [a, zero]}), vec![9])),
        ),
        (
            "until the old goes",
            drop(r#"{"4": "A"}"#, &[]),
            Ok((json!({"4": [zero], "9": [zero]}), vec![])),
        ),
        (
            "without one",
            keep(r#"{"4": "A", "9": "A"}"#, &[9]),
            Ok((json!({"4": [a, zero]}), vec![])),
        ),
        (
            "not predicted",
            keep(r#"{"4": "A", "11": "A"}"#, &[]),
            unpredicted(11),
        ),
        (
            "not predicted, alone",
            drop(r#"{"4": "A", "8": "A"}"#, &[]),
            unpredicted(8),
        ),
        (
            "not predicted, left out",
            keep(r#"{"4": "A", "11": "A"}"#, &[11, 9]),
            Ok((json!({"4": [a, zero]}), vec![])),
        ),
        (
            "another bank",
            keep(r#"{"4": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#, &[]),
            Err(NextBootError::OtherBank { bank: "sha256" }),
        ),
    ];
    for (name, found, wanted) in rows {
        assert_eq!(found, wanted, "{name}");
    }
    let first = merge(None, &both, (Old::Keep, BANK), &[]).unwrap();
    assert_eq!(
        Value::Object(first.policy),
        json!({"4": [zero], "9": [zero]})
    );
    let broken = merge(Some(r#"{"24": "x"}"#), &both, (Old::Keep, BANK), &[]);
    assert!(matches!(
        broken,
        Err(NextBootError::Policy(PolicyError::UnknownPcr { .. }))
    ));
    let entries = merge(
        Some(&present(r#"{"1": "A", "4": "A"}"#)),
        &both,
        (Old::Keep, BANK),
        &[],
    );
    assert_eq!(entries.unwrap().of_entries, [1]);
}
