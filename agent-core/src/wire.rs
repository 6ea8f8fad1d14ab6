//! Shapes of what travels, shared by agent, verifier and tenant.

pub(crate) mod bytes;
pub mod limits;
pub mod quote;
