//! What the verifier answers to tenants and to nodes that call by themselves, and to whom.

pub mod v2;
pub mod v3;
