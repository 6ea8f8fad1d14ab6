//! Machines that really boot: kernel, initramfs and TPM in QEMU.

mod early;
mod early_boot;
mod failures;
mod firmware;
mod harness;
mod identity;
mod integration;
mod luks;
mod measured;
mod power;
mod provision;
mod pull;
mod replay;
mod root;
mod steps;
mod tool;
mod update;
