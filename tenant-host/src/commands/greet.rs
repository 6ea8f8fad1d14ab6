//! The agent's first answers.

use std::net::IpAddr;

use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use verifier_host::link::{Endpoint, Limits};
use verifier_host::pki::{Credentials, ServerTrust, client_config};

use super::resolve;
use crate::cli::Arguments;
use crate::client::{Agent, AgentInfo, IdentityQuote, RegistrarRecord};
use crate::error::Failure;

/// Where the agent is: for this tenant, and for the verifier.
pub(super) struct Place {
    /// Where this tenant finds it.
    pub(super) agent: Endpoint,
    /// The address that the verifier is told.
    pub(super) for_verifier: String,
    certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Place {
    /// The place that the arguments name, else the one that the node registered with.
    pub(super) async fn find(
        arguments: &Arguments,
        uuid: &Uuid,
        record: &RegistrarRecord,
    ) -> Result<Self, Failure> {
        let unusable = |reason: &str| Failure::Identity {
            agent: record
                .ip
                .clone()
                .unwrap_or_else(|| "an unknown address".to_owned()),
            uuid: uuid.to_string(),
            reason: reason.to_owned(),
        };
        let host = arguments.targethost.clone().or_else(|| record.ip.clone());
        let host =
            host.ok_or_else(|| unusable("it registered without an address: -t gives one"))?;
        let port = arguments.targetport.or(record.port);
        let port = port.ok_or_else(|| unusable("it registered without a port: -tp gives one"))?;
        let certificate = record.tls_certificate().ok_or_else(|| {
            unusable("it registered without a TLS certificate; agents are talked to over mutual TLS alone")
        })?;
        let first = |addresses: Vec<IpAddr>| addresses.first().map(IpAddr::to_string);
        let address = first(resolve(&host).await?).unwrap_or(host);
        let for_verifier = match &arguments.cv_targethost {
            Some(other) => first(resolve(other).await?).unwrap_or_else(|| other.clone()),
            None => address.clone(),
        };
        Ok(Self {
            agent: Endpoint {
                host: address,
                port,
            },
            for_verifier,
            certificate,
        })
    }
}

/// What the agent answers before it is given anything.
pub(super) struct Greeting {
    /// The agent, connected.
    pub(super) agent: Agent,
    /// What it says about itself.
    pub(super) info: AgentInfo,
    /// Its first quote, not checked yet.
    pub(super) identity: IdentityQuote,
}

impl Greeting {
    /// Connects to the agent, whose certificate must be the one that it registered, and asks.
    pub(super) async fn exchange(
        place: &Place,
        uuid: &Uuid,
        credentials: &Credentials,
        limits: Limits,
        version: Option<ApiVersion>,
        nonce: &str,
    ) -> Result<Self, Failure> {
        let trust = ServerTrust::Pinned(place.certificate.clone());
        let tls = client_config(&trust, Some(credentials)).map_err(|error| Failure::Identity {
            agent: place.agent.to_string(),
            uuid: uuid.to_string(),
            reason: format!("the TLS certificate that it registered can't be used: {error}"),
        })?;
        let mut agent = Agent::connect(place.agent.clone(), tls, limits, version).await?;
        let info = if agent.version() >= ApiVersion::WITH_INFO {
            agent.info().await?
        } else {
            AgentInfo::default()
        };
        let identity = agent.identity(nonce).await?;
        Ok(Self {
            agent,
            info,
            identity,
        })
    }
}
