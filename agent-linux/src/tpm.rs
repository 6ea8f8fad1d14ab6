//! The TPM: what the agent does with one, over either way to it.
//!
//! [`Commands`] is a way to a TPM: one of its commands a method. Everything else (which keys, when they are loaded, what is
//! flushed, how an odd answer is met) stands once, above it, so that both ways make the same node of the same TPM.
//!
//! | feature | way | what it takes |
//! | --- | --- | --- |
//! | `tss` (default) | [`tss`] | tpm2-tss, a C library with plugins that it opens at run time |
//! | `device` | [`raw`] | the kernel's device or swtpm's socket, nothing else |
//!
//! With both features the program uses `tss`.

mod activation;
mod code;
mod commands;
mod error;
mod key;
mod name;
mod node;
mod nv;
mod outbound;
mod pcr;
mod pem;
#[cfg(feature = "device")]
pub mod raw;
mod room;
mod template;
#[cfg(feature = "tss")]
pub mod tss;
mod value;

pub use code::ResponseCode;
pub use commands::{Commands, Hierarchy, NvPublic, PublicArea};
pub use error::{Cause, TpmError};
pub use name::TctiName;
pub use node::{NodeTpm, Use};
pub use outbound::{Kept, OutboundCommands, PlainTpm};

#[cfg(not(any(feature = "tss", feature = "device")))]
compile_error!(
    "the agent needs a way to its TPM: build it with the feature `tss` (tpm2-tss, the default), `raw` (no C library), or `device` (no C library, agent-driven modes alone)"
);

/// The way to the TPM that the program takes.
#[cfg(feature = "tss")]
pub type HostCommands = tss::Tss;
/// The way to the TPM that the program takes.
#[cfg(all(feature = "device", not(feature = "tss")))]
pub type HostCommands = raw::Raw;

/// The TPM as the program opens it.
pub type HostTpm = NodeTpm<HostCommands>;
