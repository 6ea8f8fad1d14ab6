//! What `bare/` proves of agent-core: it needs neither std nor an allocator, doesn't panic, and is content with little stack.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod disassembly;
mod features;
mod links;
mod panics;
mod program;
mod stack;
mod targets;
