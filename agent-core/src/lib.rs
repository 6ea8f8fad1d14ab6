//! What the keyhalf agent decides: Keylime's wire, halves of keys, sealed payloads.
//!
//! The crate has no allocator, no socket, no clock and no unsafe code: bytes, time and a [`tpm::Tpm`] go in, a reply and a
//! duty come out. [`drive::serve_one`] is the way in for a program, [`agent::Agent`] for a test; an agent
//! that calls its verifier is an [`outbound::Outbound`]. Modules import downward only: `drive -> {agent, outbound} ->
//! {http, payload, revocation, tpm} -> {wire, secret}`.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `fake-tpm` | a [`tpm::Tpm`] in memory, for tests; never in a product |
#![no_std]
#![forbid(unsafe_code)]
// Input is hostile: a panic here would be someone else's switch.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable
    )
)]
#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test that can't go on should stop")
)]

pub mod agent;
pub mod drive;
pub mod http;
pub mod outbound;
pub mod payload;
pub mod revocation;
pub mod secret;
pub mod tpm;
pub mod wire;
