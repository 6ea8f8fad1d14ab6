//! The keyhalf agent on Linux.

pub mod config;
pub mod identity;
pub mod log;
pub mod net;
pub mod tpm;
