//! What a node shows about itself, and whether it holds: keys, quotes, credentials. No socket, no store, no clock.

mod area;
pub mod certificate;
pub mod certify;
pub mod credential;
pub mod eventlog;
pub mod public;
pub mod pushed;
pub mod quote;
pub mod signature;
#[cfg(any(test, feature = "software-tpm"))]
#[expect(
    clippy::unwrap_used,
    reason = "a test that can't go on has failed, and so has a simulation"
)]
pub mod software;
