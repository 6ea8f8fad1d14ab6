//! Telling every node that one of them can't be trusted any more.

pub mod message;
mod notify;

pub use notify::{send, sign};
