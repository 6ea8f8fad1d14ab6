//! What `bare/` proves of agent-core: it needs neither std nor an allocator, and doesn't panic.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod disassembly;
mod features;
mod links;
mod panics;
mod program;
mod targets;
