//! The registrar and verifier of keyhalf, and what the tenant shares with them.
//!
//! | feature | what it brings |
//! | --- | --- |
//! | none | [`evidence`] (keys, quotes, credentials), [`pki`] (certificates), [`link`] (HTTPS client), [`memory`], [`policy`], [`transport`], [`revocation::told`] |
//! | `server` (default) | the program: the server loop, the registrar, the store and the rounds |
//! | `software-tpm` | [`evidence`]`::software`: a TPM for tests and simulated nodes; no program uses it |
//!
//! Everything that comes from a node or from a peer is hostile until a type of this crate holds it: a value that exists
//! was checked.
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
pub mod envelope;
pub mod evidence;
#[cfg(feature = "server")]
pub mod http;
pub mod link;
pub mod memory;
#[cfg(feature = "server")]
pub mod payloads;
pub mod pki;
#[cfg(feature = "server")]
pub mod policies;
pub mod policy;
#[cfg(feature = "server")]
pub mod program;
#[cfg(feature = "server")]
pub mod push;
#[cfg(feature = "server")]
pub mod registrar;
pub mod revocation;
#[cfg(feature = "server")]
pub mod rounds;
#[cfg(feature = "server")]
pub mod store;
pub mod transport;
#[cfg(feature = "server")]
pub mod unescape;

#[cfg(all(test, feature = "server"))]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod testing;
