//! The passphrase of an authority, asked for on a terminal.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs a program on a terminal of its own and types one answer after each question, which ends with a colon and a blank.
const TERMINAL: &str = r#"
import os, pty, sys
answers, program = sys.argv[1].split(","), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(program[0], program)
said = b""
while True:
    try:
        piece = os.read(terminal, 1024)
    except OSError:
        break
    if not piece:
        break
    said += piece
    if said.endswith(b": ") and answers:
        os.write(terminal, answers.pop(0).encode() + b"\n")
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// What the tenant says to these words, and its exit code.
fn typed(at: &Path, answers: &str, words: &[&str]) -> (String, i32) {
    let output = Command::new("python3")
        .args([
            "-c",
            TERMINAL,
            answers,
            env!("CARGO_BIN_EXE_keyhalf-tenant"),
        ])
        .args(words)
        .current_dir(at)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (said, output.status.code().unwrap())
}

#[test]
fn passphrase_is_asked_for_and_never_shown() {
    let place = tempfile::tempdir().unwrap();
    let ca = place.path().join("myca");
    let init = ["ca", "init", "-d", "myca"];
    let (said, code) = typed(place.path(), "open sesame,open barley", &init);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("differ") && !ca.exists(), "{said}");

    let (said, code) = typed(place.path(), "open sesame,open sesame", &init);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("sesame"), "{said}");
    let key = fs::read_to_string(ca.join("ca-private.pem")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));

    let create = ["ca", "create", "-d", "myca", "laptop"];
    let (said, code) = typed(place.path(), "open barley", &create);
    assert_ne!(code, 0, "{said}");
    assert!(!ca.join("laptop-cert.crt").exists());
    let (said, code) = typed(place.path(), "open sesame", &create);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("sesame"), "{said}");
    let key = fs::read_to_string(ca.join("laptop-private.pem")).unwrap();
    assert!(key.contains("ENCRYPTED"));
}
