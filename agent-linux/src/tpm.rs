//! The TPM: what the agent does with one, over a way to it.
//!
//! [`Commands`] is a way to a TPM: one of its commands a method. Everything else (which keys, when they are loaded, what is
//! flushed, how an odd answer is met) stands once, above it, so that all ways make the same node of the same TPM.

mod activation;
mod code;
mod commands;
mod error;
mod key;
mod name;
mod node;
mod nv;
mod pcr;
mod pem;
mod room;
mod template;
pub mod tss;
mod value;

pub use code::ResponseCode;
pub use commands::{Commands, PublicArea};
pub use error::{Cause, TpmError};
pub use name::TctiName;
pub use node::NodeTpm;

/// The TPM as the program opens it.
pub type HostTpm = NodeTpm<tss::Tss>;
