//! The program links without std and without an allocator, and a real payload goes through it.

use std::process::Command;

use crate::program::{PLAIN, build, said_by};

/// It ends well only if every step did: see `bare/src/walk.rs`.
#[test]
fn a_payload_goes_through_it() {
    let steps = said_by(&mut Command::new(&*PLAIN));
    assert!(steps.contains(" unpack\n"), "{steps}");
}

#[test]
fn what_allocates_does_not_link() {
    does_not_build("should-fail-alloc", "no global memory allocator found");
}

#[test]
fn what_needs_std_does_not_link() {
    does_not_build("should-fail-std", "found duplicate lang item `panic_impl`");
}

fn does_not_build(feature: &str, want: &str) {
    let said = build(feature, &["--release", "--features", feature]).unwrap_err();
    assert!(said.contains(want), "{feature}: {said}");
}
