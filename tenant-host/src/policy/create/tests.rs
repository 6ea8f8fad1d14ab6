#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use agent_core::wire::text::Hex;

use verifier_host::policy::runtime::Excludes;

use super::*;

mod archives;
mod logs;
mod trees;

/// What a program makes of some bytes.
fn filter(command: &str, input: &[u8]) -> Vec<u8> {
    let mut words = command.split(' ');
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{command}");
    output.stdout
}

fn run(command: &str, more: &[&Path]) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Paths, each with the text that has its digest.
fn contents(files: &BTreeMap<String, Digest>, known: &[&str]) -> Vec<String> {
    let text = |digest: &Digest| {
        let has = |text: &&&str| FileHash::Sha256.of(&mut text.as_bytes()).unwrap().0 == *digest;
        let unknown = || Hex(digest).to_string();
        known
            .iter()
            .find(has)
            .map_or_else(unknown, |text| (*text).to_owned())
    };
    files
        .iter()
        .map(|(path, digest)| format!("{path}={}", text(digest)))
        .collect()
}
