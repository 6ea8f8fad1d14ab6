//! The keyhalf agent on Linux.

pub mod tpm;
