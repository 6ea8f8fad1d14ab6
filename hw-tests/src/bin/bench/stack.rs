//! What stack agent-core is content with.

use std::path::Path;
use std::process::Command;

use hw_tests::Result;
use hw_tests::site::Site;

use crate::figure::{Budget, Figure};

/// What agent-core promises, and its tests hold.
const MAX_BYTES: f64 = 16.0 * 1024.0;

/// The most stack of any public entry, by the program that agent-core's tests measure with.
///
/// # Errors
/// It can't be built, or a step of it fails.
pub(crate) fn core_stack(_: &Site) -> Result<Vec<Figure>> {
    let bare = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent-core/bare");
    let release = std::env::current_exe()?;
    let target = release.parent().and_then(Path::parent);
    let target = target.ok_or("no target directory")?.join("tmp/bare");
    // Without a network: it depends on nothing that this program wasn't built from.
    said_by(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--offline", "--quiet"])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(bare)
            .env_remove("RUSTFLAGS"),
    )?;
    let steps = said_by(&mut Command::new(target.join("release/bare")))?;
    let (value, entry) = deepest(&steps).ok_or("it measured nothing")?;
    Ok(vec![Figure {
        name: "core_stack_bytes",
        value,
        unit: "bytes",
        budget: Budget::AtMost(MAX_BYTES),
        how: format!(
            "the deepest of {} public entries of agent-core, each run on a painted stack in the optimised program of \
             agent-core/bare, TPM in memory included: {entry}",
            steps.lines().count()
        ),
    }])
}

/// What a program says that ends well.
fn said_by(program: &mut Command) -> Result<String> {
    let output = program.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The line `BYTES NAME` with the most bytes.
fn deepest(steps: &str) -> Option<(f64, &str)> {
    let step = |line| -> Option<(f64, _)> {
        let (bytes, name) = str::split_once(line, ' ')?;
        Some((bytes.parse().ok()?, name))
    };
    steps
        .lines()
        .filter_map(step)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
}
