//! What the verifier answers to tenants and to nodes that call by themselves, and to whom.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::http::Listening;

pub mod v2;
pub mod v3;

/// Listens for both.
///
/// # Errors
/// The address can't be listened on; the error names it.
pub async fn listen(
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    tenants: v2::Api,
    agents: v3::Api,
) -> io::Result<Listening> {
    let router = v3::routes(agents).merge(v2::routes(tenants));
    Listening::bind(address, Some(tls), router)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
