//! An agent that lies: it stands before a real one, and changes what that answers.

use std::net::Ipv4Addr;

use crate::Result;
use crate::node;
use crate::raw::Client;
use crate::relay::{Front, Lie, Relay};
use crate::site::fresh_address;

/// A man in the middle whose certificate the verifier was told to expect.
pub struct Liar {
    address: Ipv4Addr,
    certificate: String,
    relay: Relay,
}

impl Liar {
    /// Stands before the agent that `behind` leads to.
    ///
    /// # Errors
    /// No address or certificate for it.
    pub fn before(behind: Client, lie: Lie) -> Result<Self> {
        let address = fresh_address();
        let (front, certificate) = Front::self_signed(address)?;
        Ok(Self {
            address,
            certificate,
            relay: Relay::open((address, node::PORT), front, behind, lie)?,
        })
    }

    /// Where it listens, on the agent's port.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What it passes on and what it makes of it.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// From now on, tells another lie.
    pub fn now_tells(&self, lie: Lie) {
        self.relay.now_tells(lie);
    }

    /// Method and path of each request so far.
    pub fn heard(&self) -> Vec<String> {
        let heard = self.relay.heard().into_iter();
        heard
            .map(|exchange| format!("{} {}", exchange.method, exchange.path))
            .collect()
    }
}
