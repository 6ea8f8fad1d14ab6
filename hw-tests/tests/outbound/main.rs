//! Nodes that call their verifier: one outbound connection, at every boot.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod delivery;
mod edge;
mod last_good;
mod network;
mod push;
mod reading;
mod refusals;
mod release;
mod size;
