//! The HTTP server that registrar and verifier share: connections that can't hold each other up, and answers in Keylime's
//! shape.

mod access;
mod answer;
mod server;

pub use access::{Peer, administrators_only, fallback, supported_versions_only};
pub use answer::{ApiError, created, read, read_json, success};
pub use server::{Listening, Stop, StopSwitch, stop_switch};
