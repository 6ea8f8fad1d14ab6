//! Looks whether scenarios can have more than one user here: `cfg(one_user)` if not.

use std::fs;
use std::os::unix::fs::MetadataExt;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=USER");
    println!("cargo::rustc-check-cfg=cfg(one_user)");
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    // Each line is a range of user numbers: the first inside, the first outside, how many.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let count = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    let users: u64 = map.lines().filter_map(count).sum();
    if !is_root || users <= NOBODY {
        println!(
            "cargo::warning=scenarios as another user are ignored: they need root (user 0: {is_root}, users here: {users})"
        );
        println!("cargo::rustc-cfg=one_user");
    }
}

/// The highest number that they use.
const NOBODY: u64 = 65534;
