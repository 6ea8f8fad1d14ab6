//! The keyhalf agent on Linux: agent-core decides, this crate gives it a TPM, a network, memory, files and processes.
//!
//! | modules | what they do |
//! | --- | --- |
//! | [`config`], [`log`] | what the operator says, and is told |
//! | [`tpm`], [`identity`], [`register`] | who this node is, and how the registrar learns it |
//! | [`net`] | sockets, TLS, deadlines |
//! | [`node`], [`queue`], [`worker`] | the agent under its lock; the work that it hands over |
//! | [`memory`], [`spool`], [`landing`], [`job`], [`script`] | where a payload lives, lands and runs |
//! | [`privilege`], [`fence`] | what the agent gives up: root, and files |
//! | [`notifier`], [`actions`] | whose revocation notices count, and what they set off |
//! | [`run`] | all of it together, from start to stop |
//! | [`outbound`], [`spool`], [`exit`] | the agent that calls its verifier; where sealed bytes wait; how it ends |
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tss` (default) | [`tpm::tss`]: the TPM over tpm2-tss |
//! | `raw` | [`tpm::raw`]: the TPM without any C library; the program takes it where `tss` is off |
//! | `plain-http` | `enable_agent_mtls = false`: plain HTTP with anyone who comes, for tests; doesn't compile in a release build |

#[cfg(all(feature = "plain-http", not(debug_assertions)))]
compile_error!("the feature plain-http is for tests: no release build may have it");

pub mod actions;
pub mod config;
pub mod exit;
pub mod fence;
pub mod identity;
pub mod job;
pub mod landing;
pub mod log;
pub mod memory;
pub mod net;
pub mod node;
pub mod notifier;
pub mod outbound;
pub mod privilege;
pub mod queue;
pub mod register;
pub mod run;
pub mod script;
pub mod spool;
pub mod tpm;
pub mod worker;
