//! Telling every node that one of them can't be trusted any more.

#[cfg(feature = "server")]
pub mod message;
#[cfg(feature = "server")]
mod notify;
pub mod told;

#[cfg(feature = "server")]
pub use notify::{send, sign};
