//! The TPM: one implementation of [`agent_core::tpm::Tpm`] a file.

pub mod tss;
