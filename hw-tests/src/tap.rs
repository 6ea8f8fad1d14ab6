//! Relays before registrar, verifier and agent: everything that the parties say to each other, as one recording.
//!
//! The agent's certificate is its own, so the registrar's relay gives tenants that of the agent's relay in its place.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::Result;
use crate::machine::Machine;
use crate::node::{self, Node};
use crate::raw::{Client, Credential, Reply};
use crate::relay::{Exchange, Front, Relay, honest};
use crate::servers::{REGISTRAR_PORT, REGISTRAR_TLS_PORT, Servers, VERIFIER_PORT, administrator};
use crate::site::{Site, fresh_address};
use crate::traffic::{Message, Party};

/// The servers of an operator, as nodes and tenants find them: through relays.
pub struct Tap<'a, 'site, S> {
    servers: &'a S,
    site: &'site Site,
    address: Ipv4Addr,
    agent: Ipv4Addr,
    relays: Vec<(Leg, Relay)>,
}

/// Between whom a relay stands.
#[derive(Clone, Copy)]
enum Leg {
    AgentToRegistrar,
    TenantToRegistrar,
    TenantToVerifier,
    ToAgent,
}

impl<'a, 'site, S: Servers<'site>> Tap<'a, 'site, S> {
    /// Stands before servers whose machine has a `cv_ca` that keyhalf made.
    ///
    /// # Errors
    /// The relays find no place, or no certificates.
    pub fn before(servers: &'a S) -> Result<Self> {
        let (address, agent) = (fresh_address(), fresh_address());
        let machine = servers.machine();
        let verifier = Client::tls(servers.verifier(), VERIFIER_PORT, administrator(machine)?)?;
        let relays = vec![
            (
                Leg::AgentToRegistrar,
                Relay::open(
                    (address, REGISTRAR_PORT),
                    Front::plain(),
                    Client::plain(servers.registrar(), REGISTRAR_PORT),
                    honest(),
                )?,
            ),
            (
                Leg::TenantToVerifier,
                Relay::open(
                    (address, VERIFIER_PORT),
                    Front::under_ca_of(machine, address)?,
                    verifier,
                    honest(),
                )?,
            ),
        ];
        Ok(Self {
            servers,
            site: servers.site(),
            address,
            agent,
            relays,
        })
    }

    /// Stands before this node's agent too.
    ///
    /// # Errors
    /// As [`Tap::before`].
    pub fn and_before(&mut self, node: &Node<'_>) -> Result {
        let machine = self.servers.machine();
        let (front, certificate) = Front::self_signed(self.agent)?;
        let behind = Client::tls(node.address(), node::PORT, administrator(machine)?)?;
        let relay = Relay::open((self.agent, node::PORT), front, behind, honest())?;
        self.relays.push((Leg::ToAgent, relay));

        let registrar = self.servers.registrar();
        let behind = Client::tls(registrar, REGISTRAR_TLS_PORT, administrator(machine)?)?;
        let front = Front::under_ca_of(machine, self.address)?;
        let ip = self.agent.to_string();
        let lie = Box::new(move |_: &str, truth| point_to(truth, &ip, &certificate));
        let relay = Relay::open((self.address, REGISTRAR_TLS_PORT), front, behind, lie)?;
        self.relays.push((Leg::TenantToRegistrar, relay));
        Ok(())
    }

    /// Where tenants and verifier find the agent.
    pub fn agent(&self) -> Ipv4Addr {
        self.agent
    }

    /// All that went through so far, as it came, relay by relay.
    pub fn heard(&self) -> Vec<Exchange> {
        let relays = self.relays.iter();
        relays.flat_map(|(_, relay)| relay.heard()).collect()
    }

    /// All that was said so far, relay by relay.
    pub fn recording(&self) -> Vec<Message> {
        let heard = self.relays.iter().flat_map(|(leg, relay)| {
            let exchanges = relay.heard().into_iter();
            exchanges.map(|exchange| {
                let (from, to) = leg.parties(&exchange);
                Message::new(from, to, &exchange)
            })
        });
        heard.collect()
    }
}

impl Leg {
    fn parties(self, exchange: &Exchange) -> (Party, Party) {
        match self {
            Self::AgentToRegistrar => (Party::Agent, Party::Registrar),
            Self::TenantToRegistrar => (Party::Tenant, Party::Registrar),
            Self::TenantToVerifier => (Party::Tenant, Party::Verifier),
            Self::ToAgent => {
                let verifiers = [
                    "/quotes/integrity",
                    "/keys/vkey",
                    "/notifications/",
                    "/revocations/",
                ];
                let is_verifiers = verifiers.iter().any(|route| exchange.path.contains(route));
                let from = if is_verifiers {
                    Party::Verifier
                } else {
                    Party::Tenant
                };
                (from, Party::Agent)
            }
        }
    }
}

/// A registrar's record that names another place and another certificate; any other answer as it is.
fn point_to(mut truth: Reply, ip: &str, certificate: &str) -> Reply {
    if let Ok(mut body) = truth.json()
        && let Some(record) = body["results"].as_object_mut()
        && record.contains_key("mtls_cert")
    {
        record.insert("ip".to_owned(), Value::from(ip));
        record.insert("mtls_cert".to_owned(), Value::from(certificate));
        truth.body = body.to_string();
    }
    truth
}

impl<'site, S: Servers<'site>> Servers<'site> for Tap<'_, 'site, S> {
    fn site(&self) -> &'site Site {
        self.site
    }

    fn machine(&self) -> &Machine {
        self.servers.machine()
    }

    fn registrar(&self) -> Ipv4Addr {
        self.address
    }

    fn verifier(&self) -> Ipv4Addr {
        self.address
    }
}

/// Stands between agents that call and their verifier, which sees no certificate of theirs and so lets no administrator in.
pub struct Wiretap<'a, 'site, S> {
    servers: &'a S,
    site: &'site Site,
    address: Ipv4Addr,
    relay: Relay,
}

impl<'a, 'site, S: Servers<'site>> Wiretap<'a, 'site, S> {
    /// Listens before the verifier of these servers, with a certificate by their CA.
    ///
    /// # Errors
    /// No certificate for it.
    pub fn before(servers: &'a S) -> Result<Self> {
        Self::before_at(servers, fresh_address())
    }

    /// As [`Wiretap::before`], at an address of one's choice.
    ///
    /// # Errors
    /// As [`Wiretap::before`].
    pub fn before_at(servers: &'a S, address: Ipv4Addr) -> Result<Self> {
        let machine = servers.machine();
        let front = Front::under_ca_of(machine, address)?;
        let behind = Client::tls(servers.verifier(), VERIFIER_PORT, Credential::none())?;
        Ok(Self {
            servers,
            site: servers.site(),
            address,
            relay: Relay::open((address, VERIFIER_PORT), front, behind, honest())?,
        })
    }

    /// The man in the middle himself.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }
}

impl<'site, S: Servers<'site>> Servers<'site> for Wiretap<'_, 'site, S> {
    fn site(&self) -> &'site Site {
        self.site
    }

    fn machine(&self) -> &Machine {
        self.servers.machine()
    }

    fn registrar(&self) -> Ipv4Addr {
        self.servers.registrar()
    }

    fn verifier(&self) -> Ipv4Addr {
        self.address
    }
}

/// Sends a verifier what a node has sent it before, and wants each of it refused.
///
/// # Errors
/// It doesn't answer.
///
/// # Panics
/// It takes something.
pub fn takes_nothing_again(verifier: &dyn Servers, recorded: &[Exchange]) -> Result {
    let host = Client::tls(verifier.verifier(), VERIFIER_PORT, Credential::none())?;
    for exchange in recorded {
        // Anybody may open a session, and ask what there is.
        if exchange.method == "GET" || exchange.path.ends_with("/sessions") {
            continue;
        }
        let body = serde_json::from_str(&exchange.body)?;
        let answer = host.send(&exchange.method, &exchange.path, Some(&body))?;
        let (path, status) = (&exchange.path, answer.status);
        assert!(status >= 400, "{path}: {status} {}", answer.body);
    }
    Ok(())
}
