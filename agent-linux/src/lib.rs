//! The keyhalf agent on Linux.

pub mod identity;
pub mod net;
pub mod tpm;
