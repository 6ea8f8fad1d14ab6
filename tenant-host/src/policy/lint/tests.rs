#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use super::*;

fn found(text: &str) -> Vec<String> {
    let findings = lint(&Shaped::read(text.as_bytes().to_vec()).unwrap());
    findings
        .iter()
        .map(|finding| format!("{} {}", finding.level.name(), finding.rule))
        .collect()
}

fn runtime(digests: &str, excludes: &str) -> String {
    let aggregate = "01".repeat(32);
    format!(
        r#"{{"meta": {{"version": 1, "generator": 0}}, "release": 0, "digests": {{"boot_aggregate": ["{aggregate}"], "/bin/x": ["{aggregate}"]{digests}}},
        "excludes": [{excludes}], "keyrings": {{"k": ["{aggregate}"]}}, "ima": {{"ignored_keyrings": [], "log_hash_alg": "sha1",
        "dm_policy": null}}, "ima-buf": {{}}, "verification-keys": ""}}"#
    )
}

#[test]
fn each_rule_for_runtime_policies_finds_its_case() {
    let (long, sha1) = ("ab".repeat(32), "ab".repeat(20));
    let file = |path: &str, digests: &str| {
        let digests = digests.replace("LONG", &long).replace("SHA1", &sha1);
        runtime(&format!(r#", "{path}": [{digests}]"#), "")
    };
    let rows = [
        ("clean", file("/usr/bin/y", "\"LONG\""), vec![]),
        (
            "writable",
            file("/tmp/y", "\"LONG\""),
            vec!["warning writable-path"],
        ),
        (
            "home",
            file("/home/a/y", "\"LONG\""),
            vec!["warning writable-path"],
        ),
        (
            "relative",
            file("usr/bin/y", "\"LONG\""),
            vec!["warning relative-path"],
        ),
        (
            "a space",
            file("/usr/a b", "\"LONG\""),
            vec!["warning space-in-path"],
        ),
        (
            "twice",
            file("/usr/y", "\"LONG\", \"LONG\""),
            vec!["warning duplicate-digest"],
        ),
        (
            "SHA-1 beside",
            file("/usr/y", "\"LONG\", \"SHA1\""),
            vec!["warning weak-hash"],
        ),
        (
            "SHA-1 alone",
            file("/usr/y", "\"SHA1\""),
            vec!["warning weak-hash", "warning digest-length"],
        ),
        (
            "zeros",
            file("/usr/y", &format!("\"{}\"", "00".repeat(32))),
            vec!["warning zero-digest"],
        ),
        ("no digest", file("/usr/y", ""), vec!["error unreadable"]),
        (
            "nothing",
            runtime("", "")
                .replace("\"/bin/x\"", "\"boot_aggregate2\"")
                .replace("boot_aggregate\"", "x\""),
            vec!["warning no-boot-aggregate", "warning relative-path"],
        ),
        (
            "ignored",
            runtime("", "").replace("[], \"log", "[\"k\"], \"log"),
            vec!["warning ignored-keyring"],
        ),
    ];
    for (name, text, wanted) in rows {
        assert_eq!(found(&text), wanted, "{name}");
    }
}

#[test]
fn each_rule_for_expressions_finds_its_case() {
    const DIFFERS: &str = "warning expression-differs";
    let rows: [(&str, &str, &[&str]); 28] = [
        ("a directory", r"/var/log/.*", &[]),
        ("escaped", r"/opt/a\.b\[1\]", &[]),
        ("a class", r"/opt/[]a-z]/x", &[]),
        ("a group", r"/opt/(?:a|b)/x", &[]),
        ("a named group", r"/opt/(?P<n>a)/x", &[]),
        ("scoped flags", r"/opt/(?i:a)/x", &[]),
        ("everything", ".*", &["error excludes-everything"]),
        (
            "everything but nothing",
            ".+",
            &["error excludes-everything"],
        ),
        ("the root", "/", &["error excludes-everything"]),
        ("empty", "", &["error excludes-everything"]),
        (
            "an empty branch",
            "/tmp/.*|",
            &["error excludes-everything"],
        ),
        ("nothing needed", "(/tmp)?", &["error excludes-everything"]),
        ("programs", "/usr/.*", &["warning excludes-system"]),
        ("settings", "/etc/", &["warning excludes-system"]),
        ("a word", "tmp/.*", &["warning never-matches"]),
        ("looks behind", "(?<!a)/x", &["error expression"]),
        ("refers back", r"/(a)\1", &["error expression"]),
        ("broken", "/(", &["error expression"]),
        ("the end", "/opt/x$", &[DIFFERS]),
        ("our end", r"/opt/x\z", &[DIFFERS]),
        ("a property", r"/opt/\p{L}", &[DIFFERS]),
        ("a word's start", r"/opt/\<x", &["error expression"]),
        ("flags", "(?i)/opt/x", &[DIFFERS]),
        ("flags of ours", "/opt/(?U:a*)", &["error expression"]),
        ("a class in a class", "/opt/[a[b]]", &["error expression"]),
        ("classes combined", "/opt/[a-z&&[b]]", &["error expression"]),
        ("a group of ours", "/opt/(?<n>a)", &[DIFFERS]),
        ("a letter", r"/opt/\x{41}", &[DIFFERS]),
    ];
    for (name, expression, wanted) in rows {
        let quoted = serde_json::to_string(expression).unwrap();
        assert_eq!(found(&runtime("", &quoted)), wanted, "{name}");
    }
    assert_eq!(
        found(&runtime("", "\"/opt/a\", \"/opt/a\"")),
        ["warning duplicate-exclude"]
    );
}

#[test]
fn each_rule_for_pcrs_finds_its_case() {
    let rows = [
        ("clean", r#"{"7": ["A", "B"], "mask": "0x80"}"#, vec![]),
        ("two banks", r#"{"7": ["A", "L"]}"#, vec![]),
        (
            "no boot PCR",
            r#"{"23": ["A"]}"#,
            vec!["warning no-boot-pcr"],
        ),
        ("mask alone", r#"{"mask": "0x80"}"#, vec!["error empty"]),
        ("IMA's", r#"{"10": ["A"]}"#, vec!["error reserved-pcr"]),
        (
            "the transport key's",
            r#"{"16": ["A"]}"#,
            vec!["error reserved-pcr"],
        ),
        ("no value", r#"{"7": []}"#, vec!["error no-value"]),
        ("no digest", r#"{"7": ["xyz"]}"#, vec!["error digest"]),
        ("no PCR", r#"{"24": ["A"]}"#, vec!["error unknown-pcr"]),
        (
            "named twice",
            r#"{"7": "A", "7": "A"}"#,
            vec!["error twice"],
        ),
        (
            "no mask",
            r#"{"7": "A", "mask": "all"}"#,
            vec!["error mask"],
        ),
        (
            "SHA-1 alone",
            r#"{"7": ["S"]}"#,
            vec!["error digest-length", "warning weak-hash"],
        ),
        (
            "banks that don't fit",
            r#"{"7": ["A"], "4": ["L"]}"#,
            vec!["error digest-length"],
        ),
        (
            "twice",
            r#"{"7": ["A", "a"]}"#,
            vec!["warning duplicate-digest"],
        ),
        ("zeros", r#"{"0": ["0"]}"#, vec!["warning unextended-pcr"]),
        ("zeros elsewhere", r#"{"12": ["0"]}"#, vec![]),
    ];
    for (name, text, wanted) in rows {
        let digest = |text: String, letter: char, value: String| {
            text.replace(&format!("\"{letter}\""), &format!("\"{value}\""))
        };
        let mut text = digest(text.to_owned(), 'A', "AB".repeat(32));
        for (letter, value) in [
            ('a', "ab".repeat(32)),
            ('B', "cd".repeat(32)),
            ('L', "ab".repeat(48)),
            ('S', "ab".repeat(20)),
        ] {
            text = digest(text, letter, value);
        }
        // A PCR's name looks the same.
        let text = text.replace("[\"0\"]", &format!("[\"{}\"]", "00".repeat(32)));
        assert_eq!(found(&text), wanted, "{name}");
    }
}

/// Keylime's reference state is the one of a log that is told where it is kept.
#[test]
fn each_rule_for_boot_policies_finds_its_case() {
    let state = include_str!(
        "../../../../verifier-host/tests/vectors/eventlog/ovmf-shim-grub.refstate.json"
    );
    let rows = [
        ("Keylime's", state, vec![]),
        ("nothing", "{}", vec!["error empty"]),
        (
            "half a one",
            "{\"scrtm_and_bios\": []}",
            vec!["error unreadable"],
        ),
        (
            "another version",
            "{\"version\": 99, \"rules\": []}",
            vec!["error unreadable"],
        ),
    ];
    for (name, text, wanted) in rows {
        assert_eq!(found(text), wanted, "{name}");
    }
}
