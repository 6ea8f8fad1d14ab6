//! An agent with a TPM in memory.

use std::path::Path;
use std::sync::Arc;

use agent_core::agent::AgentConfig;
use agent_core::tpm::FakeTpm;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::route::ApiVersions;
use agent_core::wire::text::Uuid;
use agent_linux::node::Node;
use agent_linux::queue::{Outlet, queue};
use agent_linux::revocations::{Revocations, TrustRules};

pub(crate) fn uuid() -> Uuid {
    Uuid::parse("d432fbb3-d2f1-4a97-9ef7-75bd81c00000").unwrap()
}

/// The agent, and what it hands over. Without a journal it takes no revocations.
pub(crate) fn node(revocations: Option<Arc<Revocations>>) -> (Arc<Node<FakeTpm>>, Outlet) {
    let revocations = revocations.unwrap_or_else(|| {
        let nowhere = Path::new("/nonexistent");
        let rules = TrustRules::default();
        Arc::new(Revocations::open_in(nowhere, nowhere, 0, rules))
    });
    let config = AgentConfig {
        uuid: uuid(),
        versions: ApiVersions::all(),
        bank: HashAlg::Sha256,
        scheme: SignAlg::Ecdsa,
        ak_handle: 0,
        max_sealed_bytes: 1 << 20,
        max_unpacked_bytes: 8 << 20,
    };
    let (inlet, work) = queue();
    let node = Node::new(config, FakeTpm::new(1), inlet, revocations);
    (Arc::new(node), work)
}
