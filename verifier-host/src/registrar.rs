//! The registrar: which EK and AK a node's identifier stands for.
//!
//! An identifier belongs to the TPM that activates a credential for it first, until an administrator deletes it. What anyone
//! can say without a TPM (a registration that isn't activated) is kept in memory, beside the claims of others, and changes
//! nothing that is on record.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::http::{Listening, Stop};
use crate::store::Store;

pub(crate) mod claim;
mod pending;
mod routes;

pub(crate) use claim::Claim;

/// A registrar with both of its ports bound, not serving yet.
pub struct Registrar {
    plain: Listening,
    tls: Listening,
}

impl Registrar {
    /// Binds the plain port, where nodes register, and the TLS port, where administrators ask too.
    ///
    /// # Errors
    /// The system's, with the address that can't be bound.
    pub async fn bind(
        store: Store,
        plain: SocketAddr,
        tls: SocketAddr,
        config: Arc<ServerConfig>,
    ) -> io::Result<Self> {
        let router = routes::router(store);
        let named = |address: SocketAddr| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"))
        };
        Ok(Self {
            plain: Listening::bind(plain, None, router.clone())
                .await
                .map_err(named(plain))?,
            tls: Listening::bind(tls, Some(config), router)
                .await
                .map_err(named(tls))?,
        })
    }

    /// Where it listens: the plain port, the TLS port.
    ///
    /// # Errors
    /// The system's.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.plain.address()?, self.tls.address()?))
    }

    /// Serves both ports until told to stop.
    pub async fn serve(self, stop: Stop) {
        tokio::join!(self.plain.serve(stop.clone()), self.tls.serve(stop));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;
