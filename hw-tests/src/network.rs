//! A network of hosts that have nothing but their own addresses on it: a bridge, and a network namespace for each host.
//!
//! Most scenarios need no more than an address of their own on the loopback device. Here a host reaches another one only over
//! the wire, so what a story sees arrive has travelled.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Result;
use crate::machine::Machine;
use crate::site::Site;

/// A bridge; whoever isn't on a host of it, such as the operator and the TPMs, lives at the bridge itself.
#[derive(Debug)]
pub struct Network {
    number: u8,
    next: AtomicU8,
}

impl Network {
    /// A network without hosts.
    ///
    /// # Errors
    /// The kernel has no bridges.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let network = Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            next: AtomicU8::new(1),
        };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(network)
    }

    /// A new address of the bridge.
    ///
    /// # Errors
    /// There is no other one.
    pub fn address(&self) -> Result<Ipv4Addr> {
        let address = self.fresh()?;
        ip(&[
            "address",
            "add",
            &format!("{address}/24"),
            "dev",
            &self.bridge(),
        ])?;
        Ok(address)
    }

    /// A new machine on the network, and its address.
    ///
    /// # Errors
    /// No namespace or no wire for it.
    pub fn host(&self, site: &Site) -> Result<(Machine, Ipv4Addr)> {
        let address = self.fresh()?;
        let machine = Machine::with_network(site, &format!("host-{address}"))?;
        let [_, _, network, host] = address.octets();
        let (outer, holder) = (format!("v{network}.{host}"), machine.holder().to_string());
        ip(&[
            "link",
            "add",
            &outer,
            "master",
            &self.bridge(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &holder,
        ])?;
        ip(&["link", "set", &outer, "up"])?;
        for words in [
            &["address", "add", &format!("{address}/24"), "dev", "eth0"][..],
            &["link", "set", "eth0", "up"],
            &["link", "set", "lo", "up"],
        ] {
            run(machine.command("ip").args(words))?;
        }
        Ok((machine, address))
    }

    fn bridge(&self) -> String {
        format!("bridge{}", self.number)
    }

    fn fresh(&self) -> Result<Ipv4Addr> {
        match self.next.fetch_add(1, Ordering::Relaxed) {
            host @ 1..=254 => Ok(Ipv4Addr::new(10, 77, self.number, host)),
            _ => Err("the network is full".into()),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone_with_the_namespace_at_last = ip(&["link", "delete", &self.bridge()]);
    }
}

fn ip(words: &[&str]) -> Result {
    run(Command::new("ip").args(words))
}

fn run(command: &mut Command) -> Result {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {said}", output.status).into())
}
