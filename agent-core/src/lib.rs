//! What the keyhalf agent decides: Keylime's wire, halves of keys, sealed payloads.
//!
//! The crate has no allocator, no socket, no clock and no unsafe code: bytes, time and a [`tpm::Tpm`] go in, a reply and a
//! duty come out. Modules import downward only: `drive -> agent -> {http, payload, tpm} -> {wire, secret}`.
#![no_std]
#![forbid(unsafe_code)]

pub mod payload;
pub mod secret;
pub mod tpm;
pub mod wire;
