//! Whether this is the node that is meant: its keys, by the registrar's record; its agent, by its first quote.

use std::fmt::Write as _;

use agent_core::wire::quote::{HashAlg, PcrMask};
use agent_core::wire::text::Uuid;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use time::OffsetDateTime;
use verifier_host::evidence::public::{AkPublic, EkPublic};
use verifier_host::evidence::quote::{self, Challenge};

use crate::cli::Settings;
use crate::client::{IdentityQuote, RegistrarRecord};
use crate::error::Failure;
use crate::trust::known::{self, Known};
use crate::trust::{self, Demands, TrustError, Vouched};

/// Characters of a nonce or challenge, as many as Keylime sends.
const NONCE_CHARS: usize = 20;

/// The keys of a node, each checked.
pub(super) struct NodeKeys {
    /// The attestation key.
    pub(super) ak: AkPublic,
    /// `hash_ek` of the endorsement key.
    pub(super) ek_hash: String,
    /// Who vouches for it.
    pub(super) vouched: Vouched,
    /// Whether the node has had it before.
    pub(super) known: Known,
}

/// Checks the keys of a registrar's record: what they may do, who vouches for the EK, and whether it is the one known.
///
/// That AK and EK sit in one TPM is the registrar's word: it activated the one by the other.
pub(super) fn check_keys(
    uuid: &Uuid,
    record: &RegistrarRecord,
    settings: &Settings,
    expected_ek: Option<String>,
) -> Result<NodeKeys, Failure> {
    let bad_key = |source| Failure::Key {
        uuid: uuid.to_string(),
        source,
    };
    let ak = AkPublic::from_base64(&record.aik_tpm).map_err(bad_key)?;
    let ek = EkPublic::from_base64(&record.ek_tpm).map_err(bad_key)?;
    let certificate = record
        .ek_certificate()
        .map_err(|_| TrustError::NotACertificate)?;
    let demands = Demands {
        certificate: settings.require_ek_cert,
        hash: expected_ek,
    };
    let now = trust::unix_time(OffsetDateTime::now_utc());
    let vouched = trust::judge(
        &ek,
        certificate.as_deref(),
        &settings.tpm_cert_store,
        &demands,
        now,
    )?;
    let ek_hash = trust::ek_hash(&ek)?;
    let known = known::check(&settings.known_eks, uuid, &ek_hash)?;
    Ok(NodeKeys {
        ak,
        ek_hash,
        vouched,
        known,
    })
}

/// Checks the agent's first quote: that the registered AK signed it, for this nonce, over this transport key.
///
/// # Errors
/// The reason, in words.
pub(super) fn check_identity(
    ak: &AkPublic,
    identity: &IdentityQuote,
    nonce: &str,
    settings: &Settings,
) -> Result<(), String> {
    let accepted = [
        (
            "hash_alg",
            &identity.hash_alg,
            &settings.accept_hash,
            "accept_tpm_hash_algs",
        ),
        (
            "enc_alg",
            &identity.enc_alg,
            &settings.accept_encryption,
            "accept_tpm_encryption_algs",
        ),
        (
            "sign_alg",
            &identity.sign_alg,
            &settings.accept_signing,
            "accept_tpm_signing_algs",
        ),
    ];
    for (field, value, list, option) in accepted {
        if !list.iter().any(|name| same_algorithm(name, value)) {
            return Err(format!(
                "its {field} {value:?} is not in {option} of tenant.conf ({}): the verifier would refuse it",
                list.join(", ")
            ));
        }
    }
    let bank = HashAlg::from_name(&identity.hash_alg).ok_or_else(|| {
        format!(
            "its hash_alg {:?} is none that quotes can have",
            identity.hash_alg
        )
    })?;
    let challenge = Challenge {
        nonce,
        bank,
        pcrs: PcrMask::EMPTY,
        transport_pem: &identity.pubkey,
        previous: None,
    };
    quote::check(ak, &identity.quote, &challenge)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Whether two names mean one algorithm: `rsa` is `rsa2048`, `ecc` is `ecc256`.
fn same_algorithm(accepted: &str, named: &str) -> bool {
    let full = |name: &str| match name {
        "rsa" => "rsa2048".to_owned(),
        "ecc" => "ecc256".to_owned(),
        other => other.to_owned(),
    };
    full(accepted) == full(named)
}

/// A random text of letters and digits, for a nonce or a challenge.
pub(super) fn random_text() -> Result<String, Failure> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // 4 * 62 = 248: bytes from there on would make the first letters likelier.
    const EVEN: u8 = 248;
    let mut text = String::with_capacity(NONCE_CHARS);
    while text.len() < NONCE_CHARS {
        let mut bytes = [0; 2 * NONCE_CHARS];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|_| Failure::Random)?;
        let wanted = NONCE_CHARS - text.len();
        let letters = bytes
            .iter()
            .filter(|byte| **byte < EVEN)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        text.extend(letters.take(wanted).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

/// What is known of a node's EK, for programs.
pub(super) fn as_json(keys: &NodeKeys) -> Value {
    let (vouched, issuer) = match &keys.vouched {
        Vouched::Certificate { issuer } => ("certificate", Some(issuer)),
        Vouched::Hash => ("hash", None),
        Vouched::Nobody { .. } => ("nobody", None),
    };
    json!({ "hash": keys.ek_hash, "vouched_by": vouched, "issuer": issuer, "first_seen": keys.known == Known::First })
}

/// What there is to say about a node's EK.
pub(super) fn describe(uuid: &Uuid, keys: &NodeKeys, settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    if let Vouched::Nobody { reason } = &keys.vouched {
        lines.push(format!(
            "warning: nobody vouches for this TPM, accepted by require_ek_cert = False: {reason}"
        ));
    }
    if keys.known == Known::First {
        let mut line = format!("first time that {uuid} is seen: EK {}", keys.ek_hash);
        if let Vouched::Certificate { issuer } = &keys.vouched {
            let _ = write!(line, ", certificate by {issuer:?}");
        }
        let _ = write!(line, "; recorded in {}", settings.known_eks.display());
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests;
