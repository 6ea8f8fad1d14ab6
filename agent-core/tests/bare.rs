//! agent-core, and everything below it, needs neither std nor an allocator: `bare/` builds, and its variants that need one
//! don't.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn links_without_std_and_without_an_allocator() {
    let bare = lay_out();
    let rows = [
        ("nothing", &[][..], Ok(())),
        (
            "an allocator",
            &["--features", "should-fail-alloc"],
            Err("no global memory allocator found"),
        ),
        (
            "std",
            &["--features", "should-fail-std"],
            Err("found duplicate lang item `panic_impl`"),
        ),
    ];
    for (what, arguments, want) in rows {
        let output = check(&bare, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        match want {
            Ok(()) => assert!(output.status.success(), "with {what}: {said}"),
            Err(text) => {
                assert!(!output.status.success(), "with {what}: it was built");
                assert!(said.contains(text), "with {what}: {said}");
            }
        }
    }
}

/// A copy of `bare/` among the build's files, with the versions of this workspace.
fn lay_out() -> PathBuf {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bare = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    fs::create_dir_all(bare.join("src")).unwrap();
    let manifest = fs::read_to_string(core.join("bare/Cargo.toml")).unwrap();
    let here = format!("path = '{}'", core.display());
    assert!(manifest.contains("path = \"..\""));
    fs::write(
        bare.join("Cargo.toml"),
        manifest.replace("path = \"..\"", &here),
    )
    .unwrap();
    fs::copy(core.join("bare/src/lib.rs"), bare.join("src/lib.rs")).unwrap();
    fs::copy(core.join("../Cargo.lock"), bare.join("Cargo.lock")).unwrap();
    bare
}

fn check(bare: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--color", "never"])
        .args(arguments)
        .arg("--target-dir")
        .arg(bare.join("target"))
        .current_dir(bare)
        .output()
        .unwrap()
}
