//! Attesting the nodes, one round after the other.
//!
//! [`round`] decides: a challenge, then evidence, then a verdict, without a socket or a clock. [`schedule`] acts: one task
//! for each node, which asks, hands V over and remembers.

mod attend;
pub mod logs;
pub mod node;
mod policies;
pub mod progress;
pub mod push;
mod revoke;
pub mod round;
pub mod schedule;
pub mod terms;
