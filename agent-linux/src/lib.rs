//! The keyhalf agent on Linux: agent-core decides, this crate gives it a TPM, a network, memory, files and processes.
//!
//! | modules | what they do |
//! | --- | --- |
//! | [`config`], [`log`] | what the operator says, and is told |
//! | [`tpm`], [`identity`], [`register`] | who this node is, and how the registrar learns it |
//! | [`net`] | sockets, TLS, deadlines |
//! | [`node`], [`queue`], [`worker`] | the agent under its lock; the work that it hands over |
//! | [`memory`], [`landing`], [`job`], [`script`] | where a payload lives, lands and runs |
//! | [`notifier`], [`actions`] | whose revocation notices count, and what they set off |
//! | [`run`] | all of it together, from start to stop |

pub mod actions;
pub mod config;
pub mod identity;
pub mod job;
pub mod landing;
pub mod log;
pub mod memory;
pub mod net;
pub mod node;
pub mod notifier;
pub mod queue;
pub mod register;
pub mod run;
pub mod script;
pub mod tpm;
pub mod worker;
