//! The verifier against agents that can do what real ones can't: lie.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod agent;
mod attestation;
mod policies;
mod program;
mod requests;
mod revocation;
mod round;
mod tpm;
