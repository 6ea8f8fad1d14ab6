//! keyhalf.
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub mod store;
pub mod transport;
