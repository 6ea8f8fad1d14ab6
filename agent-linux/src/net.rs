//! The agent's network sides.

pub mod call;
pub mod serve;
pub mod stream;
pub mod tls;
