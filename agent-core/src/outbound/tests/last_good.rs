//! The last good copy: when one is kept, when it is tried, and each refusal by name.

use super::*;

/// A day, which the tenant of these tests allows.
const LIMIT: u64 = 86_400;
/// When the copy of these tests is kept.
const KEPT_AT: u64 = 1_800_000_000;

/// What a test does to a node with a copy, in the boot after the one that kept it.
type Change = fn(&mut Play, &mut Vec<u8>);

/// A node that may keep copies, before its first boot.
fn allowed() -> Play {
    let mut play = Play::new(Mode::Provision);
    play.machine.config.last_good = true;
    play.manifest.last_good_seconds = Some(LIMIT);
    play.wall = Some(KEPT_AT);
    play
}

/// The node of this play in its next boot, an hour later, and the copy that it kept.
fn rebooted(mut before: Play) -> (Play, Vec<u8>) {
    assert_eq!(before.run(40, &plain), Some(End::Finished));
    let copy = before.copy.take().expect("no copy was kept");
    (next_boot(&before), copy)
}

fn next_boot(before: &Play) -> Play {
    let mut play = Play::new(Mode::Provision);
    play.machine = Outbound::new(before.machine.config.clone());
    play.tpm = before.tpm.clone();
    play.tpm.caps = 0;
    for pcr in [15, 16] {
        play.tpm.pcr_reset(pcr).unwrap();
    }
    play.manifest = before.manifest.clone();
    play.wall = Some(KEPT_AT + 3600);
    play
}

fn lost(_: &str, _: usize) -> Option<Option<Reply>> {
    Some(None)
}

impl Play {
    fn fall_back(&mut self, copy: &[u8]) {
        let random = Secret::zeroed();
        let moment = Moment {
            now: self.now,
            wall: self.wall,
            dice: 0,
            random: &random,
        };
        self.machine
            .fall_back(&moment, copy, &Signatures, &mut self.tpm);
    }

    fn says(&self, what: &str) -> bool {
        self.events.iter().any(|event| event.starts_with(what))
    }
}

#[test]
fn lost_link_opens_the_copy() {
    let (mut play, copy) = rebooted(allowed().with_counter(Some(3), Some(5)));
    assert_eq!(play.run(4, &lost), None);
    assert!(play.machine.awaits_copy());
    play.events.clear();
    play.fall_back(&copy);
    assert_eq!(play.run(10, &lost), Some(End::Finished));
    // Capped before the script runs, by what the play checks; nothing is asked, reported, or kept again.
    assert_eq!(play.events, ["reread", "unpack", "run"]);
    assert_eq!((play.tpm.caps, play.tpm.counter), (1, Some(5)));
    assert!(!play.machine.awaits_copy());
}

#[test]
fn nothing_is_kept_unless_both_allow_it() {
    type Unless = fn(&mut Play);
    let rows: [(&str, Unless, &str); 9] = [
        ("the node", |play| play.machine.config.last_good = false, ""),
        (
            "the tenant",
            |play| play.manifest.last_good_seconds = None,
            "forget: the tenant allows none",
        ),
        (
            "one boot",
            |play| play.manifest.deliver = Deliver::Once,
            "forget: the tenant allows none",
        ),
        (
            "no clock",
            |play| play.wall = None,
            "forget: the system's clock",
        ),
        (
            "another bank",
            |play| play.manifest.cap = CapPcr::at_zero(15, HashAlg::Sha384),
            "forget: the policy selects",
        ),
        (
            "moved",
            |play| {
                while !play.released() {
                    assert_eq!(play.run(1, &plain), None);
                }
                let digest = HashAlg::Sha256.digest([&b"x"[..]]);
                play.tpm.pcr_extend(7, HashAlg::Sha256, &digest).unwrap();
            },
            "forget: PCRs have moved",
        ),
        (
            "capped meanwhile",
            |play| {
                while !play.released() {
                    assert_eq!(play.run(1, &plain), None);
                }
                let digest = HashAlg::Sha256.digest([&b"x"[..]]);
                play.tpm.pcr_extend(15, HashAlg::Sha256, &digest).unwrap();
            },
            "forget: PCRs have moved",
        ),
        ("not unpacked", |play| play.unpacks = false, ""),
        ("another key", |play| play.v = [9; 32], ""),
    ];
    for (name, unless, word) in rows {
        let mut play = allowed();
        unless(&mut play);
        assert!(play.run(40, &plain).is_some(), "{name}");
        assert!(play.copy.is_none(), "{name}");
        assert!(!play.says("keep"), "{name}");
        assert_eq!(play.says("forget"), !word.is_empty(), "{name}");
        assert!(play.says(word), "{name}: {:?}", play.events);
    }
    assert!(rebooted(allowed()).1.len() > 1000);
}

#[test]
fn policy_without_a_boot_pcr_keeps_no_copy() {
    let mut play = allowed();
    let mut asked = false;
    while !asked {
        assert_eq!(play.run(1, &plain), None);
        if let Some(round) = &mut play.machine.round
            && let Some(shown) = round.shown.take()
        {
            let quoted = PcrMask::EMPTY.with(10).with(15);
            round.shown = Some(shown.with_pcrs(quoted));
            asked = true;
        }
    }
    assert_eq!(play.run(40, &plain), Some(End::Finished));
    assert!(play.says("forget: the policy selects"), "{:?}", play.events);
}

#[test]
fn each_refusal_by_name() {
    let rows: [(&str, Change, &str); 24] = [
        ("no copy", |_, copy| copy.truncate(50), "its file can't"),
        ("nothing", |_, copy| copy.clear(), "its file can't"),
        ("another format", |_, copy| copy[0] ^= 1, "its file can't"),
        (
            "no deposit",
            |_, copy| *copy.last_mut().unwrap() = b'x',
            "its file can't",
        ),
        (
            "a later time of keeping",
            |play, copy| {
                copy[20..28].copy_from_slice(&(KEPT_AT + 3 * LIMIT).to_be_bytes());
                play.wall = Some(KEPT_AT + 3 * LIMIT + 1);
            },
            "it was changed",
        ),
        (
            "a later clock of the TPM",
            |_, copy| copy[30] ^= 1,
            "it was changed",
        ),
        ("fewer PCRs", |_, copy| copy[38] = 0, "the TPM gives no key"),
        (
            "another manifest's",
            |_, copy| copy[60] ^= 1,
            "it was changed",
        ),
        ("another tag", |_, copy| copy[90] ^= 1, "it was changed"),
        (
            "another blob",
            |_, copy| copy[140] ^= 1,
            "the TPM gives no key",
        ),
        (
            "another key in the blob",
            |_, copy| copy[190] ^= 1,
            "it was changed",
        ),
        (
            "another signer",
            |play, _| play.machine.config.signers[0] = [0; 32],
            "the payload is refused: it is signed by somebody",
        ),
        (
            "another node",
            |play, _| play.machine.config.agent = Uuid::parse("node-2").unwrap(),
            "the payload is refused: it is another node's",
        ),
        (
            "another TPM",
            |play, _| play.tpm = FakeTpm::new(2),
            "the payload is refused: it is for another endorsement key",
        ),
        (
            "no counter",
            |play, _| play.tpm.counter = None,
            "the payload is refused: the node's counter is gone",
        ),
        (
            "an older payload",
            |play, _| play.tpm.counter = Some(6),
            "the payload is refused: it is an old one",
        ),
        (
            "more than is taken",
            |play, _| play.machine.config.max_sealed_bytes = 1,
            "the payload is refused: it has",
        ),
        (
            "other sealed bytes",
            |play, _| play.fetched.push("digest"),
            "its sealed bytes aren't there",
        ),
        ("no clock", |play, _| play.wall = None, "the system's clock"),
        (
            "a clock before the keeping",
            |play, _| play.wall = Some(KEPT_AT - 1),
            "the clock is at",
        ),
        (
            "too old",
            |play, _| play.wall = Some(KEPT_AT + LIMIT + 1),
            "it is too old: kept 86401 seconds ago",
        ),
        (
            "too old by the TPM's clock",
            |play, _| play.tpm.pass((LIMIT + 1) * 1000),
            "it is too old",
        ),
        (
            "another system",
            |play, _| {
                let digest = HashAlg::Sha256.digest([&b"x"[..]]);
                play.tpm.pcr_extend(7, HashAlg::Sha256, &digest).unwrap();
            },
            "the TPM gives no key",
        ),
        (
            "a capped boot",
            |play, _| play.tpm.extend_all_banks(15, CAP_TEXT).unwrap(),
            "this boot is capped",
        ),
    ];
    for (name, change, word) in rows {
        let (mut play, mut copy) = rebooted(allowed().with_counter(Some(3), Some(5)));
        change(&mut play, &mut copy);
        let caps = play.tpm.caps;
        play.fall_back(&copy);
        assert_eq!(play.run(6, &lost), None, "{name}");
        let said = format!("no copy: {word}");
        assert!(play.says(&said), "{name}: {:?}", play.events);
        assert!(!play.says("unpack") && !play.says("run"), "{name}");
        assert_eq!(play.tpm.caps, caps, "{name}");
        // The verifier is asked on; the copy isn't tried again.
        assert!(play.says("session"), "{name}: {:?}", play.events);
        assert!(!play.machine.awaits_copy(), "{name}");
        assert_eq!(play.says("forget"), name == "an older payload", "{name}");
    }
}

#[test]
fn payload_that_has_ended_has_no_copy() {
    let mut before = allowed();
    before.manifest.deliver = Deliver::Until(KEPT_AT + 3600);
    let (mut play, copy) = rebooted(before);
    play.wall = Some(KEPT_AT + 3601);
    play.fall_back(&copy);
    play.run(3, &lost);
    assert!(play.says("no copy: the payload has ended"));
}

#[test]
fn at_its_limit_it_still_opens() {
    let (mut play, copy) = rebooted(allowed());
    play.wall = Some(KEPT_AT + LIMIT);
    play.fall_back(&copy);
    assert_eq!(play.run(6, &lost), Some(End::Finished));
}

#[test]
fn any_answer_rules_the_copy_out() {
    for (status, code) in [
        (403, "capped"),
        (403, "spent"),
        (403, "not-passed"),
        (404, "no-payload"),
        (503, "busy"),
        (500, ""),
        (429, ""),
        (200, ""),
    ] {
        let (mut play, copy) = rebooted(allowed());
        let answers = |_: &str, n: usize| Some((n == 0).then(|| Reply::error(status, code)));
        play.run(4, &answers);
        assert!(!play.machine.awaits_copy(), "{status} {code}");
        play.fall_back(&copy);
        play.run(6, &lost);
        assert!(!play.says("reread") && !play.says("unpack"), "{status}");
    }
}

#[test]
fn a_push_agent_keeps_and_does_not_fall_back() {
    let (mut play, copy) = rebooted(allowed());
    play.machine.config.mode = Mode::Push;
    play.run(4, &lost);
    play.fall_back(&copy);
    play.run(6, &lost);
    assert!(!play.machine.awaits_copy() && !play.says("reread"));
    let mut play = allowed();
    play.machine.config.mode = Mode::Push;
    play.run(14, &plain);
    assert!(play.copy.is_some(), "{:?}", play.events);
}

#[test]
fn what_the_verifier_says_against_a_node_takes_its_copy() {
    let failed = |code: &str| {
        Reply::new(
            200,
            format!(
                r#"{{"data":{{"id":"s1","attributes":{{"evaluation":"fail","failure_code":"{code}"}}}}}}"#
            ),
        )
    };
    type Answer<'a> = &'a dyn Fn() -> Reply;
    let rows: [(&str, &str, Answer<'_>, bool); 9] = [
        ("proof", "not-enrolled", &|| failed("not-enrolled"), true),
        (
            "proof",
            "not-registered",
            &|| failed("not-registered"),
            true,
        ),
        ("proof", "no word", &|| failed(""), false),
        (
            "manifest",
            "no-payload",
            &|| Reply::error(404, "no-payload"),
            true,
        ),
        (
            "release",
            "unknown-payload",
            &|| Reply::error(404, "unknown-payload"),
            true,
        ),
        (
            "release",
            "not-passed",
            &|| Reply::error(403, "not-passed"),
            true,
        ),
        ("release", "capped", &|| Reply::error(403, "capped"), false),
        ("offer", "busy", &|| Reply::error(503, "busy"), false),
        ("manifest", "broken", &|| Reply::error(500, ""), false),
    ];
    for (kind, code, answer, takes) in rows {
        let (mut play, _) = rebooted(allowed());
        let once = |asked: &str, n: usize| (asked == kind && n == 0).then(|| Some(answer()));
        for _ in 0..30 {
            if play.says(kind) {
                break;
            }
            play.step(&once);
        }
        // A shell that leaves right now is told too.
        assert_eq!(play.machine.owed_forgetting().is_some(), takes, "{code}");
        play.step(&once);
        assert_eq!(play.says("forget: the verifier says"), takes, "{code}");
    }
}

#[test]
fn failure_after_the_copy_was_opened_is_capped() {
    let (mut play, copy) = rebooted(allowed());
    play.unpacks = false;
    play.fall_back(&copy);
    assert!(matches!(play.run(6, &lost), Some(End::NotUnpacked(_))));
    assert_eq!(play.tpm.caps, 1);
    // A shell that leaves before the end caps too.
    let (mut play, copy) = rebooted(allowed());
    play.fall_back(&copy);
    while !play.says("unpack") {
        assert_eq!(play.run(1, &lost), None);
    }
    assert_eq!(play.machine.cap(&mut play.tpm), Ok(true));
}

#[test]
fn newer_payload_replaces_the_copy() {
    let (mut play, old) = rebooted(allowed().with_counter(Some(3), Some(5)));
    play.manifest.floor = Some(6);
    assert_eq!(play.run(40, &plain), Some(End::Finished));
    let new = play.copy.clone().unwrap();
    assert_ne!(new, old);
    let mut later = next_boot(&play);
    later.fall_back(&old);
    later.run(4, &lost);
    assert!(later.says("no copy: the payload is refused: it is an old one"));
    let mut later = next_boot(&play);
    later.fall_back(&new);
    assert_eq!(later.run(6, &lost), Some(End::Finished));
}
