//! What a node must show to pass.

pub mod tpm;
