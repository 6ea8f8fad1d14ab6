//! Payloads over the agent-driven API, the tenant's side: what is sealed, on which terms, and what the node says of it.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`. Nothing here opens a socket.

pub mod boots;
pub mod course;
pub mod made;
pub mod receipt;
pub mod record;
pub mod sealed;
pub mod terms;
pub mod view;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
pub(crate) mod software;
