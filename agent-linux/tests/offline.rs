//! `cap` and `floor` as they are run: what they print, and how they end.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[expect(dead_code, reason = "the contract's tests use all of it")]
mod common;

use std::process::Output;

use tempfile::TempDir;

use common::{Swtpm, program};

/// Runs the program with these words, on a machine without any configuration of the agent's but this file.
fn agent(words: &[&str], file: Option<&str>) -> Output {
    let directory = TempDir::new().unwrap();
    let mut command = program(env!("CARGO_BIN_EXE_keyhalf-agent"));
    command.args(words).env_remove("KEYHALF_CONFIG");
    if let Some(text) = file {
        let path = directory.path().join("agent.conf");
        std::fs::write(&path, text).unwrap();
        command.env("KEYHALF_CONFIG", path);
    }
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn pcr_15(swtpm: &Swtpm) -> String {
    let read = program("tpm2_pcrread")
        .arg("sha1:15+sha256:15+sha384:15")
        .env("TPM2TOOLS_TCTI", swtpm.tcti())
        .output()
        .unwrap();
    assert!(read.status.success());
    String::from_utf8(read.stdout).unwrap()
}

#[test]
fn cap_works_when_nothing_else_does() {
    let swtpm = Swtpm::with_banks("sha1,sha256,sha384");
    let fresh = pcr_15(&swtpm);
    let cap = ["cap", "--tcti", &swtpm.tcti()];
    let capped = agent(&cap, Some("this is no TOML"));
    assert_eq!(code(&capped), 0, "{capped:?}");
    let once = pcr_15(&swtpm);
    for (before, after) in fresh.lines().zip(once.lines()) {
        assert!(before == after || before.contains("15"), "{before} {after}");
        let is_value = before.contains("0x");
        assert_eq!(before != after, is_value, "each bank: {before} {after}");
    }
    assert_eq!(code(&agent(&cap, None)), 0, "again does no harm");
    assert_ne!(pcr_15(&swtpm), once);
}

#[test]
fn exit_codes() {
    let nobody = "swtpm:host=127.0.0.1,port=1";
    let rows: [(&[&str], i32); 8] = [
        (&["--help"], 0),
        (&["cap", "--help"], 0),
        (&["--version"], 0),
        (&[], 2),
        (&["cap", "--cap-pcr", "16"], 2),
        (&["provision"], 2),
        (&["cap", "--tcti", nobody, "--deadline", "100ms"], 10),
        (&["floor", "--tcti", nobody, "--deadline", "100ms"], 10),
    ];
    for (words, wanted) in rows {
        let output = agent(words, Some("[agent]\n"));
        assert_eq!(code(&output), wanted, "{words:?}: {output:?}");
    }
}

#[test]
fn floor_shows_and_makes_the_counter() {
    let swtpm = Swtpm::fresh();
    let tcti = swtpm.tcti();
    let show = ["floor", "--tcti", &tcti];
    let none = agent(&show, None);
    assert_eq!((code(&none), none.stdout.as_slice()), (13, &[][..]));
    let made = agent(&["floor", "--create", "--tcti", &tcti], None);
    assert_eq!(code(&made), 0, "{made:?}");
    let value: u64 = String::from_utf8(made.stdout.clone())
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(value > 0);
    let shown = agent(&show, None);
    assert_eq!((code(&shown), shown.stdout), (0, made.stdout));
}
