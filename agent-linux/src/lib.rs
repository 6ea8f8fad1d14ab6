//! The keyhalf agent on Linux: agent-core decides, this crate gives it a TPM, a network, memory, files and processes.
//!
//! | modules | what they do |
//! | --- | --- |
//! | [`config`], [`log`], [`exit`] | what the operator says, and is told |
//! | [`tpm`], [`identity`], [`register`] | who this node is, and how the registrar learns it |
//! | [`net`], [`trust`] | sockets, TLS, deadlines; whose word counts |
//! | [`offline`] | the commands that contact nothing but the TPM |
//! | [`node`], [`queue`], [`worker`] | the agent under its lock; the work that it hands over |
//! | [`memory`], [`spool`], [`landing`], [`job`], [`script`] | where a payload lives, lands and runs |
//! | [`privilege`], [`fence`] | what the agent gives up: root, and files |
//! | [`notifier`], [`revocations`], [`actions`] | whose revocation notices count, what was taken of them, and what they set off |
//! | [`crl`] | revocation lists, put in the place of older ones |
//! | `install` | an initramfs's files, where its maker looks |
//! | [`run`] | all of it together, from start to stop |
//! | [`calling`], [`outbound`] | the agent that calls its verifier, from start to end |
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tss` (default) | [`tpm::tss`]: the TPM over tpm2-tss; with `pull` |
//! | `raw` (default) | `device` with `pull` |
//! | `device` | `tpm::raw`: the TPM without any C library; the program takes it where `tss` is off. Alone: the commands that call a verifier, as small as can be |
//! | `revocations` | [`revocations`]: revocations are acted on; with `pull` |
//! | `pull` | [`run`]: Keylime's pull model, `keyhalf-agent serve`, and TLS 1.2 |
//! | `install` | `install`: `keyhalf-agent install-initramfs`; with `tss` and `raw` |
//! | `plain-http` | `enable_agent_mtls = false`: plain HTTP with anyone who comes, for tests; doesn't compile in a release build |

#[cfg(all(feature = "plain-http", not(debug_assertions)))]
compile_error!("the feature plain-http is for tests: no release build may have it");

#[cfg(feature = "revocations")]
pub mod actions;
pub mod calling;
pub mod config;
#[cfg(feature = "revocations")]
pub mod crl;
#[cfg(feature = "revocations")]
mod der;
pub mod exit;
pub mod fence;
#[cfg(feature = "revocations")]
mod files;
pub mod identity;
#[cfg(feature = "install")]
pub mod install;
pub mod job;
pub mod landing;
pub mod log;
pub mod logs;
mod mailbox;
pub mod memory;
pub mod net;
#[cfg(feature = "pull")]
pub mod node;
#[cfg(feature = "revocations")]
pub mod notifier;
pub mod offline;
pub mod outbound;
mod pem;
pub mod privilege;
#[cfg(feature = "pull")]
pub mod queue;
pub mod register;
#[cfg(feature = "revocations")]
pub mod revocations;
#[cfg(feature = "pull")]
pub mod run;
pub mod script;
pub mod spool;
mod threads;
pub mod tpm;
pub mod trust;
#[cfg(feature = "pull")]
pub mod worker;
