//! How much memory agent-core is content with: the stack of every public entry, measured in the program, and what is lent.

use std::process::Command;

use agent_core::agent::Agent;
use agent_core::drive::Buffers;
use agent_core::payload::inflate::Inflater;
use agent_core::revocation::Ledger;

use crate::program::{PLAIN, said_by};

/// The most stack that an entry may use.
const MAX_STACK_BYTES: usize = 16 * 1024;

/// The most memory that one connection and the agent may need, stack included, payload excluded.
const MAX_MEMORY_BYTES: usize = 128 * 1024;

#[test]
fn every_entry_keeps_to_its_stack() {
    let steps = steps();
    assert!(steps.len() > 20, "{steps:?}");
    for (bytes, name) in steps {
        println!("{bytes:>6} {name}");
        assert!(bytes > 0, "{name}: nothing was measured");
        assert!(bytes <= MAX_STACK_BYTES, "{name}: {bytes} bytes of stack");
    }
}

#[test]
fn memory_beyond_the_vault_is_bounded() {
    let deepest = steps().into_iter().map(|(bytes, _)| bytes).max().unwrap();
    let parts = [
        ("stack", deepest),
        ("one connection", size_of::<Buffers>()),
        // A vault is counted by its handle.
        ("the agent", size_of::<Agent<&mut [u8]>>()),
        ("what was taken of revocations", size_of::<Ledger>()),
        ("inflating", size_of::<Inflater>()),
    ];
    let all: usize = parts.iter().map(|(_, bytes)| bytes).sum();
    println!("{all} bytes: {parts:?}");
    assert!(all <= MAX_MEMORY_BYTES, "{all} bytes: {parts:?}");
}

/// What each step of the program uses, as it prints it.
fn steps() -> Vec<(usize, String)> {
    let said = said_by(&mut Command::new(&*PLAIN));
    let step = |line: &str| {
        let (bytes, name) = line.split_once(' ').unwrap();
        (bytes.parse().unwrap(), name.to_owned())
    };
    said.lines().map(step).collect()
}
