//! The agent's machine, driven over an in-memory connection with an in-memory TPM.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a step that fails is a failed test"
)]

mod bench;
mod dice;
mod keys;
mod logs;
mod model;
mod mutations;
mod notices;
mod requests;
mod sequences;
