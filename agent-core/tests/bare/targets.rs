//! The program links for machines without a system.
//!
//! A target that rustup doesn't have is a failure, unless `KEYHALF_MISSING_TARGETS` names it: whoever sets that says so.

use std::path::Path;

use crate::program::{build_for, rustc};

#[test]
fn x86_64_unknown_none() {
    links_for("x86_64-unknown-none");
}

#[test]
fn thumbv7em_none_eabi() {
    links_for("thumbv7em-none-eabi");
}

#[test]
fn aarch64_unknown_none() {
    links_for("aarch64-unknown-none");
}

fn links_for(target: &str) {
    let library = rustc(&["--print", "target-libdir", "--target", target]);
    if Path::new(&library).is_dir() {
        build_for(target, "plain", &[]).unwrap_or_else(|said| panic!("{target}: {said}"));
        return;
    }
    let missing = std::env::var("KEYHALF_MISSING_TARGETS").unwrap_or_default();
    let is_expected = missing.split_whitespace().any(|name| name == target);
    assert!(
        is_expected,
        "run: rustup target add {target} (or name it in KEYHALF_MISSING_TARGETS)"
    );
    println!("skipped: {target} isn't installed");
}
