//! The registrar's TLS port.

use std::sync::Arc;

use agent_core::wire::text::Uuid;
use rustls::ClientConfig;
use verifier_host::envelope::CURRENT_VERSION;
use verifier_host::link::{Endpoint, Limits, Method};

use super::{Caller, ClientError, Peer, RegistrarRecord, path_of};

/// The registrar.
pub struct Registrar(Caller);

impl Registrar {
    /// The registrar at this place; not connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self(Caller::new(Peer::Registrar, endpoint, tls, limits))
    }

    /// The record of a node that has registered, if there is one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn record(&mut self, uuid: &Uuid) -> Result<Option<RegistrarRecord>, ClientError> {
        let answer = self.0.get(&path_of(uuid)).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        self.0.results("show a node", &answer).map(Some)
    }

    /// The identifiers of all nodes that have registered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&mut self) -> Result<Vec<String>, ClientError> {
        #[derive(serde::Deserialize)]
        struct List {
            uuids: Vec<String>,
        }
        let answer = self.0.get(&format!("/v{CURRENT_VERSION}/agents/")).await?;
        Ok(self.0.results::<List>("list its nodes", &answer)?.uuids)
    }

    /// Deletes a node's record. False if there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&mut self, uuid: &Uuid) -> Result<bool, ClientError> {
        let answer = self.0.send(Method::DELETE, &path_of(uuid), None).await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.0.refused("delete a node", &answer)),
        }
    }
}
