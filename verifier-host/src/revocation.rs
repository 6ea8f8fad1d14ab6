//! Telling every node that one of them can't be trusted any more: a numbered, signed, hash-chained log that reaches each peer.
//!
//! A failure is an entry of its node's log before anybody can know of it ([`News`]). Each peer has a courier, which brings it
//! entries until it has acted on the last one ([`courier`]); the webhook has one too. Nodes without a revocation key have no
//! log. Source: agent-core's `docs/revocation.md`.

#[cfg(feature = "server")]
pub mod anchor;
#[cfg(feature = "server")]
pub mod answer;
#[cfg(feature = "server")]
mod append;
#[cfg(feature = "server")]
pub mod courier;
#[cfg(feature = "server")]
pub mod list;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod message;
#[cfg(feature = "server")]
mod pace;
#[cfg(feature = "server")]
pub mod peer;
#[cfg(feature = "server")]
mod registry;
#[cfg(feature = "server")]
pub mod status;
pub mod told;
#[cfg(feature = "server")]
pub mod webhook;

#[cfg(feature = "server")]
pub use append::{AppendError, News};
#[cfg(feature = "server")]
pub use peer::Peer;
#[cfg(feature = "server")]
pub use registry::{Notifications, Revocations};
