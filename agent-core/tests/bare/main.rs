//! What `bare/` proves of agent-core: it needs neither std nor an allocator.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod features;
mod links;
mod program;
mod targets;
