//! The agent, over mutual TLS that is pinned to the certificate it registered with.

use std::sync::Arc;

use agent_core::wire::quote::PcrMask;
use agent_core::wire::route::ApiVersion;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use rustls::ClientConfig;
use serde::Deserialize;
use verifier_host::link::{Endpoint, Limits, Method};

use super::{Caller, ClientError, Peer, newest_common};
use crate::delivery::Outcome;
use crate::delivery::OutcomeAnswer;
use crate::seal::Sealed;

/// An agent.
pub struct Agent {
    caller: Caller,
    version: ApiVersion,
}

/// What an agent says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentInfo {
    /// The largest sealed payload that it takes, in bytes; agents of ours tell it.
    pub max_sealed_bytes: Option<u64>,
    /// The most that a payload may unpack to, in bytes; agents of ours tell it.
    pub max_unpacked_bytes: Option<u64>,
}

/// The agent's first quote: over PCR 16 alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IdentityQuote {
    /// The quote's text.
    pub quote: String,
    /// The hash of its bank.
    pub hash_alg: String,
    /// The kind of its transport key.
    pub enc_alg: String,
    /// The scheme of its signature.
    pub sign_alg: String,
    /// The transport key, PEM.
    pub pubkey: String,
}

/// The agent's quote over PCRs that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IntegrityQuote {
    /// The quote's text.
    pub quote: String,
    /// The hash of its bank.
    pub hash_alg: String,
    /// The transport key, PEM.
    pub pubkey: String,
}

impl Agent {
    /// Connects and agrees on a version; a version that is given isn't asked for.
    ///
    /// # Errors
    /// [`ClientError::NoCommonVersion`] and whatever keeps the agent from answering.
    pub async fn connect(
        endpoint: Endpoint,
        tls: Arc<ClientConfig>,
        limits: Limits,
        version: Option<ApiVersion>,
    ) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        struct Versions {
            #[serde(default)]
            supported_version: Option<String>,
            #[serde(default)]
            supported_versions: Vec<String>,
        }
        let mut caller = Caller::new(Peer::Agent, endpoint, tls, limits);
        if let Some(version) = version {
            return Ok(Self { caller, version });
        }
        let answer = caller.get("/version").await?;
        let Versions {
            supported_version,
            supported_versions: mut versions,
        } = caller.results("tell its API version", &answer)?;
        versions.extend(supported_version);
        let version = newest_common(&versions).ok_or_else(|| ClientError::NoCommonVersion {
            endpoint: caller.link.peer().clone(),
            versions: versions.join(", "),
        })?;
        Ok(Self { caller, version })
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.caller.link.peer()
    }

    /// The version that is spoken.
    #[must_use]
    pub const fn version(&self) -> ApiVersion {
        self.version
    }

    fn path(&self, route: &str) -> String {
        format!("/v{}/{route}", self.version)
    }

    /// What it says about itself; nothing where it has no such route.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn info(&mut self) -> Result<AgentInfo, ClientError> {
        let answer = self.caller.get(&self.path("agent/info")).await?;
        match answer.status {
            400 | 404 | 405 => Ok(AgentInfo::default()),
            _ => self.caller.results("describe itself", &answer),
        }
    }

    /// A quote over its transport key for this nonce.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn identity(&mut self, nonce: &str) -> Result<IdentityQuote, ClientError> {
        let path = self.path(&format!("quotes/identity?nonce={nonce}"));
        let answer = self.caller.send_patiently(Method::GET, &path, None).await?;
        self.caller.results("quote its identity", &answer)
    }

    /// A quote over these PCRs for this nonce, without logs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn integrity(
        &mut self,
        nonce: &str,
        pcrs: PcrMask,
    ) -> Result<IntegrityQuote, ClientError> {
        let mask = pcrs.bits();
        let path = self.path(&format!(
            "quotes/integrity?nonce={nonce}&mask=0x{mask:x}&partial=0&ima_ml_entry=0"
        ));
        let answer = self.caller.send_patiently(Method::GET, &path, None).await?;
        self.caller.results("quote its PCRs", &answer)
    }

    /// Gives it U, encrypted to its transport key, and the payload.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_half(
        &mut self,
        encrypted_u: &[u8],
        auth_tag: &str,
        sealed: &Sealed,
    ) -> Result<(), ClientError> {
        // Base64 and hexadecimal need no escaping, so the body is written without another copy of the payload.
        let key = BASE64.encode(encrypted_u);
        let mut body =
            String::with_capacity(sealed.bytes().len() / 3 * 4 + key.len() + auth_tag.len() + 128);
        body.push_str("{\"encrypted_key\":\"");
        body.push_str(&key);
        body.push_str("\",\"auth_tag\":\"");
        body.push_str(auth_tag);
        body.push_str("\",\"payload\":\"");
        BASE64.encode_string(sealed.bytes(), &mut body);
        body.push_str("\"}");
        let path = self.path("keys/ukey");
        let body = Some(Bytes::from(body));
        let answer = self
            .caller
            .send_patiently(Method::POST, &path, body)
            .await?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(self.caller.refused("take its half of the key", &answer))
        }
    }

    /// What it answers to a challenge, in hex; `None` while it has no key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prove(&mut self, challenge: &str) -> Result<Option<String>, ClientError> {
        #[derive(Deserialize)]
        struct Proof {
            hmac: String,
        }
        let answer = self
            .caller
            .get(&self.path(&format!("keys/verify?challenge={challenge}")))
            .await?;
        match answer.status {
            400..=499 => Ok(None),
            _ => Ok(Some(
                self.caller
                    .results::<Proof>("prove that it has the key", &answer)?
                    .hmac,
            )),
        }
    }

    /// What became of the payload with this digest; `None` if the agent doesn't tell such things.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn outcome(&mut self, sealed_sha256: &str) -> Result<Option<Outcome>, ClientError> {
        let answer = self.last_outcome().await?;
        Ok(answer.map(|outcome| outcome.of(sealed_sha256)))
    }

    /// Whether the last payload that this agent had failed; `false` if it doesn't tell such things.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn last_payload_failed(&mut self) -> Result<bool, ClientError> {
        let answer = self.last_outcome().await?;
        Ok(answer.is_some_and(OutcomeAnswer::tells_of_failure))
    }

    async fn last_outcome(&mut self) -> Result<Option<OutcomeAnswer>, ClientError> {
        let answer = self.caller.get(&self.path("payload/outcome")).await?;
        match answer.status {
            400 | 404 | 405 => Ok(None),
            _ => self
                .caller
                .results("tell what became of the payload", &answer)
                .map(Some),
        }
    }
}
