//! The agent's network sides.

pub mod tls;
