//! Making a deposit: the CA, the package, the seal, the manifest. Blocks; touches files and no network.

use std::path::PathBuf;
use std::sync::Arc;

use agent_core::wire::manifest::Manifest;
use agent_core::wire::text::{Hex, Uuid};
use time::OffsetDateTime;
use verifier_host::evidence::public::{AkPublic, EkPublic};
use zeroize::Zeroizing;

use crate::ca::{CaDirectory, NodeIdentity, PayloadSigner};
use crate::cli::{PayloadSource, Settings};
use crate::commands::logs::{self, Beginning};
use crate::deposit::made::{Made, Recipient};
use crate::deposit::record::Record;
use crate::deposit::sealed::SealedFile;
use crate::deposit::terms::{self, TermsError, Wishes};
use crate::deposit::view::SignedManifest;
use crate::error::{Failure, RotateError};
use crate::seal::{Entry, complete_actions, list_file, list_tree};

/// What a deposit is made of.
pub(super) struct Recipe {
    pub(super) uuid: Uuid,
    pub(super) source: PayloadSource,
    pub(super) ca: PathBuf,
    pub(super) wishes: Wishes,
    pub(super) ek: EkPublic,
    pub(super) ak: AkPublic,
    /// The policies' text and their digest; `None` for a rotation, which has those of the last manifest.
    pub(super) policies: Option<(String, [u8; 32])>,
    /// The last deposit as the verifier shows it, for a rotation.
    pub(super) last: Option<SignedManifest>,
    /// The last deposit as this tenant remembers it.
    pub(super) record: Option<Record>,
    /// What was settled with the verifier for a package of a CA.
    pub(super) beginning: Option<Beginning>,
    /// The node's group.
    pub(super) group: Option<String>,
}

/// A deposit and what the verifier is told beside it.
pub(super) struct Load {
    pub(super) made: Made,
    pub(super) signer_sha256: [u8; 32],
    /// JSON text with the certificate's serial number and subject, and the node's group.
    pub(super) metadata: String,
    /// The key that the verifier signs revocations with, PEM; empty without a package.
    pub(super) revocation_key: Zeroizing<String>,
    /// The CA that was made on the way.
    pub(super) new_ca: Option<PathBuf>,
    /// What has to be said.
    pub(super) warnings: Vec<String>,
}

/// Makes a deposit. What is to be included is looked at first: a missing directory makes no CA and no certificate.
pub(super) fn prepare(recipe: Recipe, settings: &Arc<Settings>) -> Result<Load, Failure> {
    let mut included = included(&recipe.source)?;
    let mut warnings = match &recipe.beginning {
        Some(beginning) => {
            let mut warnings = complete_actions(&mut included)?;
            warnings.extend_from_slice(beginning.warnings());
            warnings
        }
        None => Vec::new(),
    };
    if recipe.last.is_some() && !recipe.ca.join("cacert.crt").exists() {
        // No CA is made for a rotation: a new one's signer would be another than the node pins.
        return Err(RotateError::Foreign.into());
    }
    let (passphrase, time) = (settings.ca_passphrase.as_ref(), OffsetDateTime::now_utc());
    let now = super::now();
    let mut ca = CaDirectory::open_or_create(&recipe.ca, passphrase, time)?;
    let signer = ca.payload_signer(passphrase, time)?;
    let last = last_manifest(&recipe, &signer, &mut warnings)?;
    let (bank, policy_sha256) = match (&recipe.policies, &last) {
        (Some((tpm_policy, digest)), _) => (terms::bank_of(tpm_policy)?, *digest),
        (None, Some(last)) => (last.cap.bank, last.policy_sha256),
        (None, None) => return Err(RotateError::Nothing.into()),
    };
    let names: Vec<String> = included.iter().map(|entry| entry.name.clone()).collect();
    let wishes = counted_on(&recipe, &mut warnings)?;
    let terms = wishes.resolve(last.as_ref(), bank, &names, now)?;
    let cap = terms.cap.pcr;
    if let Some((tpm_policy, _)) = &recipe.policies
        && terms::names_pcr(tpm_policy, cap)
    {
        warnings.push(format!(
            "warning: --tpm_policy names PCR {cap}, which is extended once the payload is there: attestations fail from then on. --cap-pcr names another"
        ));
    }
    let identity = |beginning: &Beginning| beginning.identity(&mut ca, &recipe.uuid, settings);
    let identity: Option<NodeIdentity> = recipe.beginning.as_ref().map(identity).transpose()?;
    let sealed = SealedFile::make(&recipe.uuid, identity.as_ref(), &included)?;
    let to = Recipient {
        ek: &recipe.ek,
        ak: &recipe.ak,
    };
    let made = Made::new(sealed, to, terms, policy_sha256, &signer, now)?;
    let begun = recipe
        .beginning
        .as_ref()
        .and_then(|begun| begun.new_ca.clone());
    Ok(Load {
        made,
        signer_sha256: signer.sha256(),
        metadata: logs::metadata(identity.as_ref(), recipe.group.as_deref()),
        revocation_key: identity.map_or_else(Zeroizing::default, |own| own.notifier_private_pem),
        new_ca: begun.or_else(|| ca.was_created().then(|| ca.path().to_owned())),
        warnings,
    })
}

fn included(source: &PayloadSource) -> Result<Vec<Entry>, Failure> {
    Ok(match source {
        PayloadSource::Package { include, .. } => include
            .as_deref()
            .map(list_tree)
            .transpose()?
            .unwrap_or_default(),
        PayloadSource::File(path) => vec![list_file(path)?],
        PayloadSource::None | PayloadSource::Sealed { .. } => Vec::new(),
    })
}

/// A node that had a floor keeps one: its counter goes on though the verifier begins anew, and would refuse a lower one.
fn counted_on(recipe: &Recipe, warnings: &mut Vec<String>) -> Result<Wishes, Failure> {
    let mut wishes = recipe.wishes.clone();
    let ek_hash = crate::trust::ek_hash(&recipe.ek)?;
    let of_this_tpm = recipe.record.as_ref();
    let of_this_tpm = of_this_tpm.filter(|record| record.ek_hash == ek_hash);
    let last = of_this_tpm.and_then(|record| record.floor);
    if let (None, None, Some(last)) = (&recipe.last, wishes.floor, last) {
        let next = last.checked_add(1).ok_or(TermsError::Floor { last })?;
        warnings.push(format!(
            "note: the last payload for this TPM had the floor {last}, so this one has {next}; --floor sets another"
        ));
        wishes.floor = Some(next);
    }
    Ok(wishes)
}

/// The manifest whose terms a rotation takes over: only one that this CA's signer signed, for this node and its keys. The
/// verifier could show an older one, so what this tenant remembers of the floor counts too.
fn last_manifest(
    recipe: &Recipe,
    signer: &PayloadSigner,
    warnings: &mut Vec<String>,
) -> Result<Option<Manifest>, RotateError> {
    let Some(last) = &recipe.last else {
        return Ok(None);
    };
    if last.signer != signer.certificate() {
        return Err(RotateError::Foreign);
    }
    let mut manifest = last.manifest.clone();
    if manifest.agent != recipe.uuid {
        return Err(RotateError::AnotherNode);
    }
    let keys = (recipe.ek.name().as_bytes(), recipe.ak.name().as_bytes());
    if (&manifest.ek_name[..], &manifest.ak_name[..]) != keys {
        return Err(RotateError::OtherKeys);
    }
    if let Some(record) = &recipe.record {
        if record.payload_id != manifest.payload_id.to_string() {
            warnings.push(format!(
                "warning: the verifier has the deposit {}, this tenant's last one for {} is {}: another tenant deposited, or the verifier went back",
                manifest.payload_id, recipe.uuid, record.payload_id
            ));
        }
        manifest.floor = manifest.floor.max(record.floor);
    }
    Ok(Some(manifest))
}

/// What this tenant remembers of a deposit.
pub(super) fn record_of(load: &Load, ak: &AkPublic, ek_hash: &str) -> Record {
    use base64::Engine as _;
    use sha2::Digest as _;
    let manifest = &load.made.manifest;
    let digest = sha2::Sha256::digest(&load.made.manifest_bytes);
    Record {
        ak_tpm: base64::engine::general_purpose::STANDARD.encode(ak.marshalled()),
        ek_hash: ek_hash.to_owned(),
        payload_id: manifest.payload_id.to_string(),
        floor: manifest.floor,
        manifest_sha256: Hex(&digest).to_string(),
        signer_sha256: Hex(&load.signer_sha256).to_string(),
        sealed_at: manifest.sealed_at,
    }
}

#[cfg(test)]
mod tests;
