//! What the verifier answers to tenants, and to whom.

pub mod access;
pub mod v2;
