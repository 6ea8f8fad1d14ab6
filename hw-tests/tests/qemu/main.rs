//! Machines that really boot: kernel, initramfs and TPM in QEMU.

mod early;
mod firmware;
mod harness;
mod identity;
mod integration;
mod pull;
mod steps;
mod tool;
