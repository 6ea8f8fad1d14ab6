//! The agent's network sides.

mod address;
pub mod call;
mod clock;
pub(crate) mod crypto;
pub mod reach;
#[cfg(feature = "pull")]
pub mod serve;
pub mod stream;
#[cfg(feature = "pull")]
pub mod tls;
