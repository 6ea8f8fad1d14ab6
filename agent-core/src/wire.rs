//! Shapes of what travels, shared by agent, verifier and tenant.

pub mod quote;
