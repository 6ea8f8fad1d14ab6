//! What is deposited for a node, and which deposits are taken.
//!
//! The verifier can't read a payload; it checks what it can, so that a mistake is told to the tenant and not to a machine in
//! its boot: the manifest's shape, for whom it is, the blob's digest, V's length.

use agent_core::payload::release::V_BYTES;
use agent_core::wire::manifest::Manifest;
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::evidence::public::EkPublic;
use crate::rounds::terms::Terms;

/// A deposited payload, without V and without its sealed bytes.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// What the tenant says of it.
    pub manifest: Manifest,
    /// The manifest's exact bytes.
    pub bytes: Vec<u8>,
    /// The tenant's signature over them.
    pub signature: Vec<u8>,
    /// The certificate of the signing key, DER.
    pub signer: Vec<u8>,
    /// U for the node's TPM.
    pub u_blob: Vec<u8>,
    /// Name of the file with the sealed bytes.
    pub file: String,
    /// When it was complete, in seconds since 1970.
    pub received_at: u64,
    /// To which boot a payload for one boot went.
    pub spent: Option<Spent>,
}

/// The boot that a payload for one boot went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// This one, which may ask again until its cap.
    By((u32, u32)),
    /// One before the TPM was cleared: nobody can ask again.
    Gone,
}

/// A deposit whose sealed bytes haven't come yet.
pub struct Draft {
    /// What the tenant says of it.
    pub manifest: Manifest,
    /// The manifest's exact bytes.
    pub bytes: Vec<u8>,
    /// The tenant's signature over them.
    pub signature: Vec<u8>,
    /// The certificate of the signing key, DER.
    pub signer: Vec<u8>,
    /// U for the node's TPM.
    pub u_blob: Vec<u8>,
    /// The verifier's half.
    pub v: Zeroizing<Vec<u8>>,
}

/// Why a deposit isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The body, the manifest or something beside it breaks a rule.
    #[error("{what}")]
    Manifest {
        /// Which.
        what: String,
    },
    /// The policy lets every boot pass.
    #[error(
        "the node's policy names no PCR that the boot extends (0 to 9, 11 to 14): every boot would get this payload; add the \
         node with a tpm_policy, or insist (allow_weak_policy)"
    )]
    WeakPolicy,
    /// More sealed bytes than are taken.
    #[error("the payload has {have} sealed bytes, at most {most} are taken (--max-payload-bytes)")]
    TooLarge {
        /// How many the manifest says.
        have: u64,
        /// The limit.
        most: u64,
    },
}

#[derive(Deserialize)]
struct Body {
    manifest: String,
    signature: String,
    signer: String,
    u_blob: String,
    v: Zeroizing<String>,
    #[serde(default)]
    allow_weak_policy: bool,
}

/// For whom a deposit must be.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// Its identifier.
    pub id: &'a Uuid,
    /// What the tenant said when it added the node.
    pub terms: &'a Terms,
    /// Whether its policies decide about what it booted.
    pub is_judged: bool,
    /// The endorsement key on record.
    pub ek: Option<&'a EkPublic>,
}

impl Draft {
    /// Reads the body of a deposit for this node, of at most `most` sealed bytes.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn parse(body: &[u8], node: Node<'_>, most: u64) -> Result<Self, DraftError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            wrong(format!(
                "the body is not the JSON object expected, at line {line} column {column}"
            ))
        })?;
        let bytes = decode("manifest", &body.manifest)?;
        let draft = Self {
            manifest: Manifest::parse(&bytes).map_err(|error| wrong(error.to_string()))?,
            bytes,
            signature: bounded("signature", &body.signature, MAX_SIGNATURE_BYTES)?,
            signer: bounded("signer", &body.signer, MAX_SIGNER_BYTES)?,
            u_blob: bounded("u_blob", &body.u_blob, MAX_U_BLOB_BYTES)?,
            v: Zeroizing::new(decode("v", &body.v)?),
        };
        draft.fits(node)?;
        let have = draft.manifest.sealed_bytes;
        if have > most {
            return Err(DraftError::TooLarge { have, most });
        }
        if !node.is_judged && !body.allow_weak_policy {
            return Err(DraftError::WeakPolicy);
        }
        Ok(draft)
    }

    fn fits(&self, node: Node<'_>) -> Result<(), DraftError> {
        let manifest = &self.manifest;
        let ek = node.ek.ok_or_else(|| {
            wrong("the node isn't registered here, so its endorsement key isn't known".to_owned())
        })?;
        let u_blob: [u8; 32] = Sha256::digest(&self.u_blob).into();
        let bank = manifest.cap.bank;
        let terms = node.terms;
        for (holds, what) in [
            (manifest.agent == *node.id, "agent is another node"),
            (
                manifest.ek_name == ek.name().as_bytes(),
                "ek_name isn't the registered endorsement key's",
            ),
            (
                manifest.ak_name == terms.ak.name().as_bytes(),
                "ak_name isn't the attestation key's that the node was added with",
            ),
            (
                manifest.u_blob_sha256 == u_blob,
                "u_blob_sha256 isn't the digest of u_blob",
            ),
            (self.v.len() == V_BYTES, "v doesn't have 32 bytes"),
            (
                manifest.sealed_bytes > 0,
                "sealed_bytes is 0: an empty payload isn't sealed",
            ),
            (
                terms.policy.fits(bank) && terms.accepts_hash(bank),
                "cap_bank isn't a bank that the node's tpm_policy and accepted hashes are about",
            ),
        ] {
            if !holds {
                return Err(wrong(what.to_owned()));
            }
        }
        Ok(())
    }
}

fn wrong(what: String) -> DraftError {
    DraftError::Manifest { what }
}

fn decode(name: &'static str, text: &str) -> Result<Vec<u8>, DraftError> {
    let decoded = BASE64_STANDARD.decode(text);
    decoded.map_err(|_| wrong(format!("{name} is no base64")))
}

fn bounded(name: &'static str, text: &str, most: usize) -> Result<Vec<u8>, DraftError> {
    let bytes = decode(name, text)?;
    if (1..=most).contains(&bytes.len()) {
        Ok(bytes)
    } else {
        let have = bytes.len();
        Err(wrong(format!(
            "{name} has {have} bytes, 1 to {most} are taken"
        )))
    }
}

/// DER of an ECDSA P-256 signature takes 72 at most.
const MAX_SIGNATURE_BYTES: usize = 128;
const MAX_SIGNER_BYTES: usize = 4096;
/// With an RSA-2048 EK it takes 326.
const MAX_U_BLOB_BYTES: usize = 1024;
