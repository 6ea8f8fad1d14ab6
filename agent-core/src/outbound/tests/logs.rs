//! Logs belong to the two bodies of an attestation, and to no other.

use super::*;
use crate::wire::log::Lines;

const BOTH: &str = r#",{"evidence_type":"uefi_log","chosen_parameters":{"format":"application/octet-stream"}},{"evidence_type":"ima_log","chosen_parameters":{"starting_offset":5,"format":"text/plain"}}"#;

#[test]
fn logs_are_offered_and_sent_as_they_are_asked_for() {
    let both = Attached::Collected {
        boot: true,
        ima: Some(Lines::from(5)),
    };
    let offered = ("offer", Attached::Supported);
    let rows = [("", &[offered][..]), (BOTH, &[offered, ("evidence", both)])];
    for (asked, attached) in rows {
        let mut play = Play::new(Mode::Provision);
        play.asked_logs = asked;
        assert_eq!(play.run(50, &|_, _| None), Some(End::Finished));
        assert_eq!(play.attached, attached);
    }
}

#[test]
fn evidence_that_was_lost_is_sent_again_with_its_logs() {
    let mut play = Play::new(Mode::Provision);
    play.asked_logs = BOTH;
    let lost = |kind: &str, before| (kind == "evidence" && before == 0).then_some(None);
    assert_eq!(play.run(50, &lost), Some(End::Finished));
    let kinds: Vec<_> = play.attached.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["offer", "evidence", "evidence"]);
    assert_eq!(play.attached[1], play.attached[2]);
}

#[test]
fn other_evidence_than_a_node_has_ends_it() {
    let mut play = Play::new(Mode::Provision);
    play.asked_logs = r#",{"evidence_type":"other"}"#;
    let end = play.run(50, &|_, _| None);
    assert!(matches!(end, Some(End::Verifier(_))), "{end:?}");
}
