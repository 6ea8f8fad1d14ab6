//! A deposit as it goes to the verifier: manifest, signature, the blob that holds U, V, and the sealed bytes.

use agent_core::wire::manifest::{
    MAX_MANIFEST_BYTES, MAX_SCRIPT_BYTES, Manifest, ManifestError, NAME_BYTES,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use verifier_host::evidence::credential::{Credential, CredentialError};
use verifier_host::evidence::public::{AkPublic, EkPublic, Name};
use zeroize::Zeroizing;

use super::sealed::SealedFile;
use super::terms::Terms;
use crate::ca::{CaError, PayloadSigner};

/// Room for the request: a manifest, two signatures' worth and a blob, in base64.
const BODY_BYTES: usize = 32 << 10;

/// Whom a deposit is for, by keys that were checked.
#[derive(Clone, Copy)]
pub struct Recipient<'a> {
    /// The endorsement key that U is wrapped to.
    pub ek: &'a EkPublic,
    /// The attestation key that has to be beside it.
    pub ak: &'a AkPublic,
}

/// Why a deposit can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// A key whose name isn't SHA-256's.
    #[error("the {key}'s name algorithm isn't SHA-256, which a manifest needs")]
    Name {
        /// Which key.
        key: &'static str,
    },
    /// The script's name is too long.
    #[error("--script: a name has at most {MAX_SCRIPT_BYTES} characters")]
    Script,
    /// U can't be wrapped.
    #[error("can't wrap the key to the node's TPM: {0}")]
    Credential(#[from] CredentialError),
    /// The manifest can't be signed.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// What was asked for makes no manifest that a node would take.
    #[error("{0}: nothing was sent. The options about it are --script, --cap-pcr and --cap-value")]
    Manifest(#[from] ManifestError),
}

/// A deposit, ready to go.
pub struct Made {
    /// What the tenant says of it.
    pub manifest: Manifest,
    /// The bytes that are signed.
    pub manifest_bytes: Vec<u8>,
    /// The payload.
    pub sealed: SealedFile,
    signature: Vec<u8>,
    signer: Vec<u8>,
    u_blob: Vec<u8>,
}

impl Made {
    /// Wraps U, writes the manifest and signs it.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn new(
        sealed: SealedFile,
        to: Recipient<'_>,
        terms: Terms,
        policy_sha256: [u8; 32],
        signer: &PayloadSigner,
        now: u64,
    ) -> Result<Self, MakeError> {
        let credential = Credential::make(to.ek, to.ak.name(), sealed.u().as_bytes())?;
        let u_blob = [credential.id_object, credential.secret].concat();
        let script = terms.script.as_deref().map(TryInto::try_into).transpose();
        let manifest = Manifest {
            agent: sealed.agent().clone(),
            ek_name: name("endorsement key", to.ek.name())?,
            ak_name: name("attestation key", to.ak.name())?,
            payload_id: sealed.payload_id(),
            floor: terms.floor,
            sealed_sha256: sealed.sha256(),
            sealed_bytes: sealed.bytes(),
            auth_tag: sealed.auth_tag(),
            u_blob_sha256: Sha256::digest(&u_blob).into(),
            policy_sha256,
            cap: terms.cap,
            deliver: terms.deliver,
            script: script.map_err(|_| MakeError::Script)?,
            sealed_at: now,
            last_good_seconds: terms.last_good_seconds,
        };
        let mut text = String::with_capacity(MAX_MANIFEST_BYTES);
        // Texts grow; a longer one than nodes take is found next.
        let _ = manifest.write(&mut text);
        // Read as a node reads it: what it would refuse is never signed.
        let manifest = Manifest::parse(text.as_bytes())?;
        let signature = signer.sign(text.as_bytes())?;
        Ok(Self {
            manifest,
            manifest_bytes: text.into_bytes(),
            sealed,
            signature,
            signer: signer.certificate().to_vec(),
            u_blob,
        })
    }

    /// The body of `PUT payload`, in memory that is wiped when it has been sent: V is in it.
    ///
    /// # Errors
    /// As the JSON writer; texts can always be written.
    pub fn to_body(&self, allow_weak_policy: bool) -> Result<Bytes, serde_json::Error> {
        #[derive(Serialize)]
        struct Body {
            manifest: String,
            signature: String,
            signer: String,
            u_blob: String,
            v: Zeroizing<String>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            allow_weak_policy: bool,
        }
        let body = Body {
            manifest: BASE64.encode(&self.manifest_bytes),
            signature: BASE64.encode(&self.signature),
            signer: BASE64.encode(&self.signer),
            u_blob: BASE64.encode(&self.u_blob),
            v: Zeroizing::new(BASE64.encode(self.sealed.v().as_bytes())),
            allow_weak_policy,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        serde_json::to_writer(&mut *bytes, &body)?;
        Ok(Bytes::from_owner(bytes))
    }
}

fn name(key: &'static str, name: &Name) -> Result<[u8; NAME_BYTES], MakeError> {
    name.as_bytes()
        .try_into()
        .map_err(|_| MakeError::Name { key })
}

/// SHA-256 of the policies that the tenant gave, for audit: the texts with a zero byte between.
#[must_use]
pub fn policy_sha256(tpm_policy: &str, runtime_policy: &[u8], mb_policy: &str) -> [u8; 32] {
    let parts = [tpm_policy.as_bytes(), runtime_policy, mb_policy.as_bytes()];
    Sha256::digest(parts.join(&0)).into()
}

#[cfg(test)]
mod tests;
