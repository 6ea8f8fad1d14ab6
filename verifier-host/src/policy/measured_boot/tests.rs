use agent_core::wire::quote::PCR_COUNT;

use super::*;
use crate::evidence::eventlog::EventType;

fn file(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/eventlog/");
    std::fs::read(format!("{path}{name}")).unwrap()
}

fn read(text: &str) -> MeasuredBootPolicy {
    MeasuredBootPolicy::read(text.as_bytes()).unwrap()
}

/// What a policy says of a real log in the SHA-256 bank.
fn judged(policy: &str, log: &str) -> Result<(), String> {
    let bytes = file(&format!("{log}.bin"));
    let log = EventLog::parse(&bytes).unwrap();
    let result = read(policy).judge(&log, HashAlg::Sha256);
    result.map_err(|failure| failure.to_string())
}

fn rules(rules: &str, more: &str) -> String {
    format!(r#"{{"version": 1, "rules": [{rules}]{more}}}"#)
}

#[test]
fn what_is_made_from_a_log_takes_it_and_no_other() {
    let logs = ["ovmf-efi-stub", "ovmf-uki", "ovmf-shim-grub"];
    for (made_from, kind) in [
        ("ovmf-efi-stub", Kind::EfiStub),
        ("ovmf-uki", Kind::Uki),
        ("ovmf-shim-grub", Kind::ShimGrub),
        ("ovmf-efi-stub", Kind::Exact),
        ("ovmf-uki", Kind::Exact),
        ("ovmf-shim-grub", Kind::Exact),
    ] {
        let bytes = file(&format!("{made_from}.bin"));
        let log = EventLog::parse(&bytes).unwrap();
        let text = create(&log, kind).unwrap();
        let policy = read(&text);
        for bank in [HashAlg::Sha256, HashAlg::Sha384] {
            if log.has_bank(bank) {
                assert_eq!(
                    policy.judge(&log, bank),
                    Ok(()),
                    "{made_from} {kind:?} {bank:?}"
                );
            }
        }
        assert!(policy.judge(&log, HashAlg::Sha512).is_err());
        for other in logs.into_iter().filter(|other| *other != made_from) {
            assert!(
                judged(&text, other).is_err(),
                "{made_from} {kind:?} took {other}"
            );
        }
    }
}

#[test]
fn kinds_are_recognised() {
    for (log, kind) in [
        ("ovmf-efi-stub", Kind::EfiStub),
        ("ovmf-uki", Kind::Uki),
        ("ovmf-shim-grub", Kind::ShimGrub),
        ("tss-hcrtm", Kind::Exact),
    ] {
        let bytes = file(&format!("{log}.bin"));
        let log = EventLog::parse(&bytes).unwrap();
        assert_eq!(Kind::of(&log), kind);
        assert_eq!(Kind::from_name(kind.name()), Some(kind));
    }
    let bytes = file("cel-example.bin");
    let log = EventLog::parse(&bytes).unwrap();
    let error = create(&log, Kind::Uki).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the log has no images in PCR 4, so it is of no machine that boots by uki"
    );
}

const CONFIG: &str = r#""pcr": 7, "event": "EV_EFI_VARIABLE_DRIVER_CONFIG""#;

/// The digest of the only entry of the log's dbx, and another one.
const BARRED: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const FREE: &str = "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";

/// Microsoft Corporation UEFI CA 2011, which signed shim.
const CA: &str = "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507";

#[test]
fn each_condition_holds_or_says_what_would_allow_it() {
    let open = r#", "open": [7]"#;
    let config = |must: &str| {
        rules(
            &format!(r#"{{"name": "r", {CONFIG}, "must": {must}}}"#),
            open,
        )
    };
    let text = |must: &str, more: &str| {
        rules(
            &format!(r#"{{"name": "r", "pcr": 8, "event": "EV_IPL", "must": {{"text": {must}}}}}"#),
            more,
        )
    };
    let open8 = r#", "open": [8]"#;
    let all = |more: &str| {
        rules(
            &format!(
                r#"{{"name": "pk", {CONFIG}, "must": {{"variable": {{"name": "PK"}}}}}},
        {{"name": "kek", {CONFIG}, "must": {{"variable": {{"name": "KEK"}}}}}},
        {{"name": "db", {CONFIG}, "must": {{"variable": {{"name": "db"}}}}}},
        {{"name": "dbx", {CONFIG}, "must": {{"variable": {{"name": "dbx"}}}}}},
        {{"name": "on", {CONFIG}, "must": {{"secure_boot": true}}}},
        {{"name": "end", "pcr": 7, "event": "EV_SEPARATOR", "must": "separator"}}{more}"#
            ),
            "",
        )
    };
    let authority = |must: &str| {
        format!(
            r#", {{"name": "authority", "pcr": 7, "event": "EV_EFI_VARIABLE_AUTHORITY", "must": {must}}}"#
        )
    };
    let shim = r#"{"digest": {"sha256": ["ef611239b24f977f968379a9c9547b8da480557b8e0b2a83c66b3cea6034b330", "23b2707ff70880b82fad7c96835b1b287e5d0663885d801a98badefb831fb2dd"]}}"#;
    let shim = authority(shim).replace("\"authority\"", "\"shim\"");
    let by = |certificate: &str| authority(&format!(r#"{{"signed_by": ["{certificate}"]}}"#));
    let on = "event 4 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): the variable \"SecureBoot\"";
    for (name, policy, expected) in [
        ("secure boot on", config(r#"{"secure_boot": true}"#), ""),
        ("secure boot off", config(r#"{"secure_boot": false}"#), on),
        (
            "dbx has it",
            config(&format!(r#"{{"dbx_at_least": ["{BARRED}"]}}"#)),
            "",
        ),
        (
            "dbx lacks it",
            config(&format!(r#"{{"dbx_at_least": ["{BARRED}", "{FREE}"]}}"#)),
            "wants 4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a in it, which it lacks (1 missing)",
        ),
        (
            "PK is it",
            config(
                r#"{"variable": {"name": "PK", "sha256": ["fb514c4fa21477bbdb7979173141de6d852b0df3a260da6602873c1c7f9666ab"]}}"#,
            ),
            "",
        ),
        (
            "PK is another",
            config(&format!(
                r#"{{"variable": {{"name": "PK", "sha256": ["{FREE}"]}}}}"#
            )),
            "add fb514c4fa21477bbdb7979173141de6d852b0df3a260da6602873c1c7f9666ab to sha256",
        ),
        (
            "no such variable",
            config(r#"{"variable": {"name": "dbt"}}"#),
            "rule \"r\" wants 1 events in PCR 7 (EV_EFI_VARIABLE_DRIVER_CONFIG), and the log has 0",
        ),
        (
            "command line equals",
            text(
                r#"{"equals": ["/vmlinuz console=ttyS0 panic=-1 ro"]}"#,
                open8,
            ),
            "",
        ),
        (
            "command line differs",
            text(
                r#"{"equals": ["/vmlinuz console=ttyS0 panic=-1 rw"]}"#,
                open8,
            ),
            "the log has 0 that it takes",
        ),
        (
            "command line matches",
            text(r#"{"matches": "/vmlinuz console=tty.* ro"}"#, open8),
            "",
        ),
        (
            "matches not to its end",
            text(r#"{"matches": "/vmlinuz console=tty"}"#, open8),
            "the log has 0 that it takes",
        ),
        (
            "matches not from its start",
            text(r#"{"matches": "console=ttyS0 panic=-1 ro"}"#, open8),
            "the log has 0 that it takes",
        ),
        (
            "a label isn't measured",
            text(r#"{"matches": "kernel_cmdline: .*"}"#, open8),
            "the log has 0 that it takes",
        ),
        (
            "closed",
            text(r#"{"matches": "/vmlinuz.*"}"#, ""),
            "no rule allows event 34 (PCR 8, EV_IPL): the text \"[ -z (hd0,gpt1)/EFI/debian",
        ),
        ("all commands", text(r#"{"matches": ".*"}"#, ""), ""),
        ("signed by", all(&format!("{}{shim}", by(CA))), ""),
        (
            "signed by another",
            all(&format!("{}{shim}", by(FREE))),
            &format!("add {CA} to signed_by") as &str,
        ),
        (
            "PCR 7 unlisted",
            all(&by(CA)),
            "no rule allows event 30 (PCR 7, EV_EFI_VARIABLE_AUTHORITY): the variable \"SbatLevel\"",
        ),
        (
            "an empty PCR",
            r#"{"version": 1, "empty": [11, 12]}"#.to_owned(),
            "",
        ),
        (
            "a PCR that isn't empty",
            r#"{"version": 1, "empty": [5]}"#.to_owned(),
            "its PCR must be empty",
        ),
    ] {
        let result = judged(&policy, "ovmf-shim-grub");
        if expected.is_empty() {
            assert_eq!(result, Ok(()), "{name}");
        } else {
            let failure = result.expect_err(name);
            assert!(failure.contains(expected), "{name}: {failure}");
        }
    }
}

#[test]
fn counts_are_kept() {
    let images = |limits: &str| {
        let digests = [
            "80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8",
            "a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265",
            "5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31",
        ]
        .join("\", \"");
        let images = format!(
            r#"{{"name": "images", "pcr": 4, "event": "EV_EFI_BOOT_SERVICES_APPLICATION", "must": {{"digest": {{"sha256": ["{digests}"]}}}}{limits}}}"#
        );
        let others = r#"{"name": "actions", "pcr": 4, "event": "EV_EFI_ACTION", "must": {"text": {"matches": "(Calling|Returning from) EFI Application from Boot Option"}}},
            {"name": "end", "pcr": 4, "event": "EV_SEPARATOR", "must": "separator"}"#;
        judged(&rules(&format!("{images}, {others}"), ""), "ovmf-shim-grub")
    };
    assert_eq!(images(""), Ok(()));
    assert_eq!(images(r#", "min": 4, "max": 4"#), Ok(()));
    let few = images(r#", "min": 5"#).unwrap_err();
    assert!(few.contains("rule \"images\" wants 5 events in PCR 4 (EV_EFI_BOOT_SERVICES_APPLICATION), and the log has 4"), "{few}");
    let many = images(r#", "max": 3"#).unwrap_err();
    assert!(
        many.contains("no rule allows event 43")
            && many.contains("takes 3 events of this kind, and has them"),
        "{many}"
    );
}

/// A log whose digests are what was measured and whose words are another's: what root on the machine can send.
#[test]
fn lies_about_types_and_data_do_not_help() {
    let secure_boot = rules(
        &format!(r#"{{"name": "on", {CONFIG}, "must": {{"secure_boot": true}}}}"#),
        r#", "open": [7]"#,
    );
    // Booted without Secure Boot.
    let honest = Words::of("ovmf-uki");
    let (off, end) = (4, 9);
    let refuses = |log: &Words, expected: &str| {
        let bytes = log.bytes();
        let log = EventLog::parse(&bytes).unwrap();
        let failure = read(&secure_boot).judge(&log, HashAlg::Sha256).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    };
    refuses(&honest, "rule \"on\" refuses event 4");

    let mut relabelled = honest.clone();
    relabelled.kinds[off] = EventType::ACTION.0;
    refuses(&relabelled, "rule \"on\" refuses event 4");

    let mut claims = honest.clone();
    *claims.data[off].last_mut().unwrap() = 1;
    refuses(&claims, "the log doesn't say what was measured here");

    // After the boot, root extends PCR 7 by what a good boot would have measured, and calls the rest something else.
    let mut appended = honest.clone();
    appended.kinds[off] = EventType::IPL.0;
    appended.data[off] = b"something".to_vec();
    appended.kinds[end] = EventType::IPL.0;
    let good = [&honest.data[off][..honest.data[off].len() - 1], &[1]].concat();
    appended.push(7, EventType::VARIABLE_DRIVER_CONFIG.0, &good);
    refuses(
        &appended,
        "event 4 (PCR 7, EV_IPL): what it calls \"something\"",
    );
    appended.data[off] = honest.data[off].clone();
    refuses(&appended, "rule \"on\" refuses event 4");
    // Even a log that says nothing wrong: too late.
    let mut late = honest.clone();
    late.push(7, EventType::VARIABLE_DRIVER_CONFIG.0, &good);
    late.data[off] = late.data[off + 1].clone();
    refuses(&late, "event 4");

    let mut unmeasured = honest.clone();
    unmeasured.kinds[off] = EventType::NO_ACTION.0;
    let bytes = unmeasured.bytes();
    let log = EventLog::parse(&bytes).unwrap();
    let (lied, true_log) = (log.replay(HashAlg::Sha256).unwrap(), honest.bytes());
    let truth = EventLog::parse(&true_log)
        .unwrap()
        .replay(HashAlg::Sha256)
        .unwrap();
    let differ: Vec<_> = (0..PCR_COUNT)
        .filter(|pcr| lied.value(*pcr) != truth.value(*pcr))
        .collect();
    assert_eq!(
        differ,
        [7],
        "an event that isn't extended is missed in the replay"
    );
}

/// A log taken apart, to be put together with other words.
#[derive(Clone)]
struct Words {
    header: Vec<u8>,
    pcrs: Vec<u32>,
    kinds: Vec<u32>,
    digests: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
}

impl Words {
    fn of(name: &str) -> Self {
        let bytes = file(&format!("{name}.bin"));
        let log = EventLog::parse(&bytes).unwrap();
        let mut events = log.events();
        let first = events.next().unwrap();
        let mut words = Self {
            header: bytes[..32 + first.data.len()].to_vec(),
            pcrs: vec![0],
            kinds: vec![0],
            digests: vec![vec![]],
            data: vec![vec![]],
        };
        for event in events {
            words.pcrs.push(event.pcr);
            words.kinds.push(event.kind.0);
            words
                .digests
                .push(event.digest(HashAlg::Sha256).unwrap().to_vec());
            words.data.push(event.data.to_vec());
        }
        words
    }

    fn push(&mut self, pcr: u32, kind: u32, data: &[u8]) {
        self.pcrs.push(pcr);
        self.kinds.push(kind);
        self.digests.push(HashAlg::Sha256.digest([data]).to_vec());
        self.data.push(data.to_vec());
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for number in 1..self.pcrs.len() {
            let head = [self.pcrs[number], self.kinds[number], 1];
            bytes.extend(head.map(u32::to_le_bytes).concat());
            bytes.extend([0x0B, 0]);
            bytes.extend(&self.digests[number]);
            let size = u32::try_from(self.data[number].len()).unwrap();
            bytes.extend(size.to_le_bytes());
            bytes.extend(&self.data[number]);
        }
        bytes
    }
}

#[test]
fn policies_are_refused_with_their_part() {
    let rule = |rule: &str| rules(rule, "");
    let must = |must: &str| {
        rule(&format!(
            r#"{{"name": "r", "pcr": 4, "event": "EV_IPL", "must": {must}}}"#
        ))
    };
    for (name, text, expected) in [
        (
            "no JSON",
            "x".to_owned(),
            "it is no measured-boot policy in JSON",
        ),
        (
            "a list",
            "[]".to_owned(),
            "it is no measured-boot policy in JSON",
        ),
        (
            "another version",
            r#"{"version": 2, "rules": []}"#.to_owned(),
            "its version is 2, and version 1 is understood",
        ),
        (
            "rules without a version",
            r#"{"rules": []}"#.to_owned(),
            "missing field `version`",
        ),
        (
            "no rule",
            r#"{"version": 1, "rules": []}"#.to_owned(),
            "neither rules nor builtins",
        ),
        (
            "an unknown field",
            r#"{"version": 1, "rule": []}"#.to_owned(),
            "unknown field `rule`",
        ),
        (
            "an unknown field of a rule",
            rule(r#"{"name": "r", "pcr": 4, "event": "EV_IPL", "must": "separator", "often": 1}"#),
            "unknown field `often`",
        ),
        (
            "an unknown condition",
            must(r#"{"anything": true}"#),
            "unknown variant `anything`",
        ),
        (
            "two conditions",
            must(r#"{"secure_boot": true, "signed_by": []}"#),
            "in JSON",
        ),
        (
            "IMA's PCR",
            rule(r#"{"name": "r", "pcr": 10, "event": "EV_IPL", "must": "separator"}"#),
            "rule \"r\": PCR 10 is none of 0 to 9, 11 to 15",
        ),
        (
            "no type",
            rule(r#"{"name": "r", "pcr": 4, "event": "IPL", "must": "separator"}"#),
            "rule \"r\": \"IPL\" is no type of events",
        ),
        (
            "what isn't measured",
            rule(r#"{"name": "r", "pcr": 4, "event": "EV_NO_ACTION", "must": "separator"}"#),
            "is no type of events that are measured",
        ),
        (
            "more than at most",
            rule(r#"{"name": "r", "pcr": 4, "event": "EV_IPL", "must": "separator", "max": 0}"#),
            "rule \"r\": it wants 1 to 0 events",
        ),
        (
            "a name twice",
            rule(
                r#"{"name": "r", "pcr": 4, "event": "EV_IPL", "must": "separator"}, {"name": "r", "pcr": 5, "event": "EV_IPL", "must": "separator"}"#,
            ),
            "rule \"r\": another rule has this name",
        ),
        (
            "no digest",
            must(r#"{"digest": {"sha256": []}}"#),
            "rule \"r\": sha256 lists no digest",
        ),
        (
            "no bank",
            must(r#"{"digest": {}}"#),
            "rule \"r\": it lists no bank",
        ),
        (
            "an unknown bank",
            must(r#"{"digest": {"sha3": ["00"]}}"#),
            "\"sha3\" is none of sha1",
        ),
        (
            "a short digest",
            must(r#"{"digest": {"sha256": ["00"]}}"#),
            "\"00\", which is no digest of 32 bytes",
        ),
        (
            "no text",
            must(r#"{"text": {"equals": []}}"#),
            "equals lists no text",
        ),
        (
            "no expression",
            must(r#"{"text": {"matches": "("}}"#),
            "no regular expression",
        ),
        (
            "an expression that leaves its group",
            must(r#"{"text": {"matches": "a)|(b"}}"#),
            "no regular expression",
        ),
        (
            "a huge expression",
            must(r#"{"text": {"matches": "(a{1000}){1000}"}}"#),
            "no regular expression",
        ),
        (
            "an owner that is none",
            must(r#"{"variable": {"name": "x", "owner": "me"}}"#),
            "owner \"me\" is no GUID",
        ),
        (
            "open without rules",
            r#"{"version": 1, "empty": [1], "open": [2]}"#.to_owned(),
            "open lists PCR 2: no rule is about it",
        ),
        (
            "PCR 24",
            r#"{"version": 1, "empty": [24]}"#.to_owned(),
            "empty lists PCR 24",
        ),
        (
            "a rule in an empty PCR",
            rules(
                r#"{"name": "r", "pcr": 4, "event": "EV_IPL", "must": "separator"}"#,
                r#", "empty": [4]"#,
            ),
            "its PCR is listed in empty",
        ),
        (
            "certificates in an open PCR",
            rules(
                &format!(
                    r#"{{"name": "r", "pcr": 7, "event": "EV_IPL", "must": {{"signed_by": ["{CA}"]}}}}"#
                ),
                r#", "open": [7]"#,
            ),
            "signed_by says nothing in an open PCR",
        ),
        (
            "a builtin of nothing",
            r#"{"version": 1, "builtins": [{"uki": {}}]}"#.to_owned(),
            "builtin uki: it needs images or signed_by",
        ),
        (
            "half a reference state",
            r#"{"scrtm_and_bios": []}"#.to_owned(),
            "missing field",
        ),
    ] {
        let error = MeasuredBootPolicy::read(text.as_bytes())
            .expect_err(name)
            .to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let large = vec![b' '; MAX_MEASURED_BOOT_POLICY_BYTES + 1];
    let error = MeasuredBootPolicy::read(&large).unwrap_err();
    assert!(matches!(error, MeasuredBootPolicyError::TooLarge { .. }));
}

#[test]
fn an_empty_object_says_nothing_loudly() {
    let policy = read(" {} ");
    assert!(policy.says_nothing());
    assert_eq!(policy.pcrs(), PcrMask::EMPTY);
    assert_eq!(judged("{}", "tss-hcrtm"), Ok(()));
    let other = read(r#"{"version": 1, "empty": [12]}"#);
    assert!(!other.says_nothing());
    assert_eq!(other.pcrs(), PcrMask::EMPTY.with(12));
}

/// The document's examples, each in the section that is named by its builtin.
#[test]
fn examples_of_the_document_hold() {
    let document = include_str!("../../../docs/measured-boot-policy.md");
    let examples: Vec<&str> = document
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let logs = [
        "ovmf-shim-grub",
        "ovmf-uki",
        "ovmf-efi-stub",
        "ovmf-shim-grub",
    ];
    assert_eq!(examples.len(), logs.len());
    for (example, log) in examples.into_iter().zip(logs) {
        assert_eq!(judged(example, log), Ok(()), "{example}");
        for other in logs.into_iter().filter(|other| *other != log) {
            assert!(judged(example, other).is_err(), "{other}: {example}");
        }
    }
}

#[test]
fn certificates_alone_can_decide() {
    let policy = |certificate: &str| {
        format!(r#"{{"version": 1, "builtins": [{{"uki": {{"signed_by": ["{certificate}"]}}}}]}}"#)
    };
    let off = judged(&policy(CA), "ovmf-uki").unwrap_err();
    assert!(
        off.contains("rule \"uki: secure boot\" refuses event 4"),
        "{off}"
    );
    let other = judged(&policy(FREE), "ovmf-shim-grub").unwrap_err();
    assert!(
        other.contains("event 25 (PCR 7, EV_EFI_VARIABLE_AUTHORITY)"),
        "{other}"
    );
    // Shim measures more there than certificates.
    let shim = judged(&policy(CA), "ovmf-shim-grub").unwrap_err();
    assert!(shim.contains("event 30"), "{shim}");
}

mod keylime {
    use super::*;

    fn refstate() -> serde_json::Value {
        serde_json::from_slice(&file("ovmf-shim-grub.refstate.json")).unwrap()
    }

    fn verdict(refstate: &serde_json::Value, log: &[u8]) -> Result<(), String> {
        let policy = MeasuredBootPolicy::read(refstate.to_string().as_bytes());
        let policy = policy.map_err(|error| error.to_string())?;
        let log = EventLog::parse(log).unwrap();
        let result = policy.judge(&log, HashAlg::Sha256);
        result.map_err(|failure| failure.to_string())
    }

    #[test]
    fn reference_states_of_keylimes_tool_are_taken_as_they_are() {
        let log = file("ovmf-shim-grub.bin");
        assert_eq!(verdict(&refstate(), &log), Ok(()));
        let policy = MeasuredBootPolicy::read(&file("ovmf-shim-grub.refstate.json")).unwrap();
        assert!(!policy.says_nothing());
        assert_eq!(policy.pcrs().bits(), 0x43FF);
        let parsed = EventLog::parse(&log).unwrap();
        let failure = policy.judge(&parsed, HashAlg::Sha384).unwrap_err();
        assert_eq!(failure.event(), "measured_boot.policy_example");
        for other in ["ovmf-uki", "ovmf-efi-stub", "tss-hcrtm", "cel-example"] {
            let bytes = file(&format!("{other}.bin"));
            assert!(verdict(&refstate(), &bytes).is_err(), "{other}");
        }
    }

    #[test]
    fn each_field_of_the_reference_state_decides() {
        let log = file("ovmf-shim-grub.bin");
        let other = format!("0x{FREE}");
        for (pointer, value, expected) in [
            (
                "/kernels/0/shim_authcode_sha256",
                other.clone().into(),
                "is not shim_authcode_sha256",
            ),
            (
                "/kernels/0/grub_authcode_sha256",
                other.clone().into(),
                "is not grub_authcode_sha256",
            ),
            (
                "/kernels/0/kernel_authcode_sha256",
                other.clone().into(),
                "is not kernel_authcode_sha256",
            ),
            (
                "/kernels/0/initrd_plain_sha256",
                other.clone().into(),
                "is not initrd_plain_sha256",
            ),
            (
                "/kernels/0/kernel_cmdline",
                "/vmlinuz quiet".into(),
                "does not match kernel_cmdline",
            ),
            (
                "/kernels",
                serde_json::json!([]),
                "kernels of the reference state: it lists none",
            ),
            (
                "/scrtm_and_bios/0/scrtm/sha256",
                other.clone().into(),
                "is not scrtm",
            ),
            (
                "/scrtm_and_bios/0/platform_firmware/1/sha256",
                other.clone().into(),
                "is not in platform_firmware",
            ),
            (
                "/scrtm_and_bios/0/platform_firmware",
                serde_json::json!([]),
                "2 parts of platform_firmware instead of 0",
            ),
            ("/pk", serde_json::json!([]), "event 5 (PCR 7"),
            ("/kek", serde_json::json!([]), "event 6 (PCR 7"),
            ("/db", serde_json::json!([]), "event 7 (PCR 7"),
            ("/dbx/0/SignatureData", other.into(), "event 8 (PCR 7"),
            (
                "/mokdig",
                serde_json::json!([]),
                "its digest is not in mokdig",
            ),
            (
                "/mokxdig",
                serde_json::json!([]),
                "its digest is not in mokxdig",
            ),
        ] {
            let mut refstate = refstate();
            *refstate.pointer_mut(pointer).unwrap() = value;
            let failure = verdict(&refstate, &log).expect_err(pointer);
            assert!(failure.contains(expected), "{pointer}: {failure}");
        }
    }

    /// In Keylime a right SHA-1 digest is enough, though SHA-256 was quoted.
    #[test]
    fn digests_of_other_banks_do_not_count() {
        let mut log = file("ovmf-shim-grub.bin");
        let parsed = EventLog::parse(&log).unwrap();
        let separator = parsed.events().nth(9).unwrap();
        let digest = separator.digest(HashAlg::Sha256).unwrap();
        let at = digest.as_ptr() as usize - log.as_ptr() as usize;
        log[at] ^= 1;
        let failure = verdict(&refstate(), &log).unwrap_err();
        assert!(
            failure.starts_with("event 9 (PCR 7, EV_SEPARATOR)"),
            "{failure}"
        );
    }
}
