//! Logs of IMA.

use verifier_host::policy::runtime::{Digests, RuntimePolicy};

use super::*;

fn policy(log: &str, keyrings: bool, buffers: bool) -> Result<(RuntimePolicy, LeftOut), LogError> {
    let excludes = Excludes::parse(vec!["/tmp/".to_owned()]).unwrap();
    let ignored = [".ignored".to_owned()];
    let choice = LogChoice {
        keyrings,
        buffers,
        ignored: &ignored,
        excludes: &excludes,
    };
    let mut draft = Draft::default();
    let left_out = read_ima_log(log.as_bytes(), choice, &mut draft)?;
    let mut bytes = Vec::new();
    draft.write(&mut bytes).unwrap();
    Ok((RuntimePolicy::read(&bytes, None).unwrap(), left_out))
}

fn names(digests: &Digests) -> Vec<&str> {
    let sorted = digests.sorted().into_iter();
    sorted.map(|(name, _)| name).collect()
}

fn log() -> String {
    let key = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let key = Hex(key.cert.der()).to_string();
    let template = "11".repeat(20);
    let (sha1, sha256) = ("ab".repeat(20), "ab".repeat(32));
    [
        format!("10 {template} ima {sha1} boot_aggregate"),
        format!("10 {template} ima-ng sha1:{sha1} /bin/a"),
        format!("10 {template} ima-ng sha256:{sha256} /bin/a"),
        format!("10 {template} ima-sig sha256:{sha256} /bin/signed 030204aabbccdd0001ff"),
        format!("10 {template} ima-sig sha256:{sha256} /bin/unsigned "),
        format!("10 {template} ima-ngv2 ima:sha256:{sha256} /bin/v2"),
        format!("10 {template} ima-ng sha256:{sha256} /tmp/x"),
        format!(
            "10 {} ima-ng sha256:{} /var/log/violated",
            "00".repeat(20),
            "00".repeat(32)
        ),
        format!("10 {template} ima-buf sha256:{sha256} .builtin_trusted_keys {key}"),
        format!("10 {template} ima-buf sha256:{sha256} .ignored {key}"),
        format!("10 {template} ima-buf sha256:{sha256} kexec-cmdline 726f6f74"),
        String::new(),
    ]
    .join("\n")
}

#[test]
fn what_a_log_has_is_allowed() {
    let (all, left_out) = policy(&log(), true, true).unwrap();
    let paths = names(&all.digests);
    assert_eq!(
        paths,
        [
            "/bin/a",
            "/bin/signed",
            "/bin/unsigned",
            "/bin/v2",
            "boot_aggregate"
        ]
    );
    assert_eq!(all.digests.get(b"/bin/a").unwrap().iter().count(), 2);
    assert_eq!(names(&all.keyrings), [".builtin_trusted_keys"]);
    assert_eq!(names(&all.buffers), ["kexec-cmdline"]);
    assert_eq!(
        left_out.lines(),
        ["left out: 1 violations: /var/log/violated"]
    );
    let (files, left_out) = policy(&log(), false, false).unwrap();
    assert!(files.keyrings.is_empty() && files.buffers.is_empty());
    assert_eq!(left_out.iter().count(), 3);
}

/// The kernel's binary form of a list says the same as its text.
#[test]
fn a_binary_log_is_read_as_its_text() {
    let vectors = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../verifier-host/tests/vectors/ima/"
    );
    let excludes = Excludes::default();
    let choice = LogChoice {
        keyrings: true,
        buffers: true,
        ignored: &[],
        excludes: &excludes,
    };
    let [text, binary] = ["guest.txt", "guest.bin"].map(|name| {
        let mut draft = Draft::default();
        read_ima_log(
            &fs::read(format!("{vectors}{name}")).unwrap(),
            choice,
            &mut draft,
        )
        .unwrap();
        let mut bytes = Vec::new();
        draft.write(&mut bytes).unwrap();
        RuntimePolicy::read(&bytes, None).unwrap()
    });
    assert_eq!(text.digests, binary.digests);
    assert!(text.digests.contains("boot_aggregate"), "{text:?}");
}

#[test]
fn a_line_that_isnt_one_is_named() {
    let (digest, hash) = ("ab".repeat(32), "11".repeat(20));
    let rows = [
        ("prose", "hello".to_owned()),
        ("no digest", format!("10 {hash} ima-ng")),
        (
            "a template hash that is none",
            format!("10 11 ima-ng sha256:{digest} /x"),
        ),
        (
            "another template",
            format!("10 {hash} mine sha256:{digest} /x"),
        ),
        ("no name", format!("10 {hash} ima-ng sha256:{digest}")),
        ("an empty line", String::new()),
    ];
    for (name, line) in rows {
        let log = format!("10 {hash} ima-ng sha256:{digest} /x\n{line}\n");
        let error = policy(&log, false, false).unwrap_err();
        assert_eq!(error.line, 2, "{name}: {error}");
    }
    let short = format!("10 {hash} ima-ng sha256:abcd /x\n");
    let (_, left_out) = policy(&short, false, false).unwrap();
    assert_eq!(left_out.iter().count(), 1, "{left_out:?}");
    assert!(policy("", false, false).is_ok());
}
