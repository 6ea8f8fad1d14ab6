//! What the verifier tells of a node's payload: `GET /v3.0/agents/{id}/payload`, asked by a tenant.
//!
//! All of it is the verifier's word, but what carries a signature.

use agent_core::wire::manifest::Manifest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ca::is_signed_by;

/// All that it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PayloadView {
    /// The deposit that counts.
    pub deposit: Option<DepositView>,
    /// The last verdict.
    pub attestation: Option<AttestationView>,
    /// The last boot that was seen.
    pub boot: Option<BootView>,
    /// Whether the boot counters went back, and the tenant has to confirm.
    pub cleared_tpm: bool,
    /// When V was released.
    pub releases: Vec<ReleaseView>,
    /// When it wasn't.
    pub refusals: Vec<RefusalView>,
    /// What the node said.
    pub receipts: Vec<ReceiptView>,
}

/// The deposit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositView {
    /// Which one, in hex.
    pub payload_id: String,
    /// When it was whole, in seconds since 1970.
    pub received_at: u64,
    /// The manifest's bytes in base64.
    pub manifest: String,
    /// Its signature in base64.
    pub signature: String,
    /// The signer's certificate in base64.
    pub signer: String,
}

impl DepositView {
    /// The manifest and its bytes, if the signer that it names signed it, and whose certificate's digest it is. Whether that is
    /// the right signer, the caller has to know.
    #[must_use]
    pub fn signed_manifest(&self) -> Option<SignedManifest> {
        let decode = |text: &String| BASE64.decode(text).ok();
        let bytes = decode(&self.manifest)?;
        let (signature, signer) = (decode(&self.signature)?, decode(&self.signer)?);
        let manifest = Manifest::parse(&bytes).ok()?;
        let holds = is_signed_by(&signer, &bytes, &signature);
        holds.then_some(SignedManifest {
            manifest,
            bytes,
            signer,
        })
    }
}

/// A manifest with a good signature by some signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The signer's certificate, DER.
    pub signer: Vec<u8>,
}

/// The last verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AttestationView {
    /// `none`, `pass` or `fail`.
    pub status: String,
    /// When, in seconds since 1970.
    pub at: Option<u64>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// The last boot that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BootView {
    /// The TPM's count of resets.
    pub reset_count: u32,
    /// Its count of restarts since.
    pub restart_count: u32,
    /// False after a loss of power.
    pub safe: bool,
    /// Whether the cap PCR is capped, if it was quoted.
    pub capped: Option<bool>,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReleaseView {
    /// Of which payload, in hex.
    pub payload_id: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// In which boot: resets.
    pub reset_count: u32,
    /// In which boot: restarts.
    pub restart_count: u32,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RefusalView {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Why, by its code.
    pub code: String,
    /// In which boot: resets, if a quote was there.
    #[serde(default)]
    pub reset_count: Option<u32>,
    /// In which boot: restarts.
    #[serde(default)]
    pub restart_count: Option<u32>,
    /// Of which payload, in hex.
    #[serde(default)]
    pub payload_id: Option<String>,
}

/// One receipt, in base64 but for the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ReceiptView {
    /// When it came, in seconds since 1970.
    pub at: u64,
    /// The receipt's bytes.
    pub receipt: String,
    /// The session's challenge.
    pub challenge: String,
    /// The values of the quoted PCRs.
    pub subject_data: String,
    /// The quote.
    pub message: String,
    /// Its signature.
    pub signature: String,
}

/// The codes and details of a refusal, in the shape of JSON:API.
#[must_use]
pub fn error_of(body: &[u8]) -> Option<(String, String)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.pointer("/errors/0")?;
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let code = text("code");
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    if code.is_empty() || code.len() > 40 || !code.bytes().all(plain) {
        return None;
    }
    let printable = |letter: &char| !letter.is_control();
    let detail = text("detail").chars().filter(printable).take(300).collect();
    Some((code.to_owned(), detail))
}
