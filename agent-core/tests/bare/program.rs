//! Builds `bare/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The program for this machine, as it ships: optimised, with lines.
pub(crate) static PLAIN: LazyLock<PathBuf> =
    LazyLock::new(|| build("plain", &["--release"]).unwrap_or_else(|said| panic!("{said}")));

/// Builds a variant for this machine: the program, or what the compiler said.
pub(crate) fn build(variant: &str, arguments: &[&str]) -> Result<PathBuf, String> {
    build_for(&rustc(&["--print", "host-tuple"]), variant, arguments)
}

/// Builds a variant for a target.
pub(crate) fn build_for(
    target: &str,
    variant: &str,
    arguments: &[&str],
) -> Result<PathBuf, String> {
    // All variants are built to the same place.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--color", "never"])
        .args(["--target", target])
        .args(arguments)
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(source())
        // They would replace those of bare/.cargo/config.toml.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let profile = if arguments.contains(&"--release") {
        "release"
    } else {
        "debug"
    };
    let kept = directory.join(format!("{target}-{variant}"));
    fs::copy(directory.join(target).join(profile).join("bare"), &kept).unwrap();
    Ok(kept)
}

/// Where `bare/` is.
pub(crate) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bare")
}

/// A line that the compiler says.
pub(crate) fn rustc(arguments: &[&str]) -> String {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    said_by(Command::new(compiler).args(arguments))
        .trim()
        .to_owned()
}

/// What a tool says on its standard output.
pub(crate) fn said_by(tool: &mut Command) -> String {
    let output = tool
        .output()
        .unwrap_or_else(|error| panic!("{tool:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
