//! What the verifier answers to tenants, and to whom.

pub mod v2;
