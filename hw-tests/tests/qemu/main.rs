//! Machines that really boot: kernel, initramfs and TPM in QEMU.

mod pull;
