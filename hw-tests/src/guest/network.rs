//! Where a guest and the servers meet.
//!
//! QEMU's user-mode network connects from the host's side to whatever address the guest asks for; 10.0.2.2, its name for the
//! host, leads to 127.0.0.1 alone. So servers listen at addresses of 192.0.2.0/24, which the scenario's network namespace
//! takes for its own, and a guest calls them by the same addresses as everybody else.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Result;
use crate::node::PORT;

/// A guest's own address.
pub const GUEST: &str = "10.0.2.15";

/// An address for servers that guests can call, and that nobody else in this process has.
///
/// # Errors
/// The namespace can't take the addresses for its own; all are given away.
pub fn reachable_address() -> Result<Ipv4Addr> {
    static OURS: OnceLock<bool> = OnceLock::new();
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let route = ["route", "replace", "local", "192.0.2.0/24", "dev", "lo"];
    let ours = OURS.get_or_init(|| {
        let added = Command::new("ip").args(route).status();
        added.is_ok_and(|status| status.success())
    });
    match NEXT.fetch_add(1, Ordering::Relaxed) {
        _ if !ours => Err(format!("ip {} failed", route.join(" ")).into()),
        last @ 1..=254 => Ok(Ipv4Addr::new(192, 0, 2, last)),
        _ => Err("no address of 192.0.2.0/24 is left".into()),
    }
}

/// What QEMU is told so that the guest's agent can be called at this address of the host.
pub fn forward(host: Ipv4Addr) -> String {
    format!("hostfwd=tcp:{host}:{PORT}-{GUEST}:{PORT}")
}
