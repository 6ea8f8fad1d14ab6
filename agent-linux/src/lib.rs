//! The keyhalf agent on Linux.

pub mod config;
pub mod identity;
pub mod landing;
pub mod log;
pub mod memory;
pub mod net;
pub mod node;
pub mod notifier;
pub mod register;
pub mod run;
pub mod script;
pub mod tpm;
pub mod worker;
