//! What became of a payload of the push model: by the verifier's word, and by receipts that the node's TPM signed.

use std::fmt::Write as _;

use agent_core::wire::manifest::{CapPcr, PayloadId};
use agent_core::wire::text::{Hex, Uuid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use verifier_host::evidence::public::AkPublic;

use super::{date, now, terms_in_words, terms_json};
use crate::client::RegistrarRecord;
use crate::commands::status::age;
use crate::delivery::printable;
use crate::deposit::boots::{Boot, Boots, in_words};
use crate::deposit::record::Record;
use crate::deposit::view::{PayloadView, SignedManifest};
use crate::error::Exit;

/// What is shown of a node's payload.
pub(in crate::commands) struct PayloadStatus {
    /// Lines for people, each with its newline before it.
    pub(in crate::commands) text: String,
    /// For programs.
    pub(in crate::commands) json: Value,
    /// Not done if a receipt doesn't hold, or the deposit isn't the tenant's.
    pub(in crate::commands) exit: Exit,
}

/// Which attestation key receipts are checked against, and whose word that is.
enum Trusted {
    /// The one that this tenant sealed for.
    Own(AkPublic),
    /// The registrar's: this tenant didn't make the deposit.
    Registrar(AkPublic),
    /// None.
    Nothing,
}

impl PayloadStatus {
    /// Judges what the verifier tells.
    pub(in crate::commands) fn of(
        uuid: &Uuid,
        view: &PayloadView,
        record: Option<&Record>,
        registered: Option<&RegistrarRecord>,
    ) -> Self {
        let mut status = Self {
            text: String::new(),
            json: json!({ "cleared_tpm": view.cleared_tpm }),
            exit: Exit::Done,
        };
        let manifest = status.deposit(uuid, view, record);
        status.tpm(uuid, view);
        let cap = manifest.as_ref().map(|signed| {
            let manifest = &signed.manifest;
            (manifest.payload_id, manifest.cap.clone())
        });
        match trusted_ak(record, registered) {
            Trusted::Own(ak) => {
                status.set("receipts_checked_against", "own");
                status.boots(uuid, view, &ak, cap.as_ref());
            }
            Trusted::Registrar(ak) => {
                status.set("receipts_checked_against", "registrar");
                if !view.receipts.is_empty() {
                    status.line("note:      this tenant didn't make the deposit: receipts are checked against the registrar's AK");
                }
                status.boots(uuid, view, &ak, cap.as_ref());
            }
            Trusted::Nothing => {
                status.set("receipts_checked_against", Value::Null);
                if !view.receipts.is_empty() {
                    status.exit = Exit::Untrusted;
                    status
                        .line("receipts:  none can be checked, since no attestation key is known");
                }
            }
        }
        status
    }

    fn line(&mut self, text: &str) {
        // A string takes everything.
        let _ = write!(self.text, "\n  {text}");
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(members) = self.json.as_object_mut() {
            members.insert(name.to_owned(), value.into());
        }
    }

    /// The deposit: whether it is what it should be, and on which terms.
    fn deposit(
        &mut self,
        uuid: &Uuid,
        view: &PayloadView,
        record: Option<&Record>,
    ) -> Option<SignedManifest> {
        let Some(deposit) = &view.deposit else {
            self.line("payload:   nothing is deposited");
            self.set("deposit", Value::Null);
            return None;
        };
        let signed = deposit.signed_manifest();
        let Some(signed) = signed.filter(|signed| signed.manifest.agent == *uuid) else {
            self.exit = Exit::Untrusted;
            self.line("payload:   the verifier shows a manifest that nobody signed for this node");
            self.set("deposit", json!({ "signed": false }));
            return None;
        };
        let manifest = &signed.manifest;
        let age = age(now().saturating_sub(deposit.received_at));
        self.line(&format!(
            "payload:   {}, {} bytes sealed, deposited {age} ago",
            manifest.payload_id, manifest.sealed_bytes
        ));
        self.line(&format!("terms:     {}", terms_in_words(manifest)));
        let mut json = terms_json(manifest);
        let ours = record.map(|record| is_ours(record, &signed));
        if let Some(members) = json.as_object_mut() {
            members.insert("signed".to_owned(), true.into());
            members.insert("received_at".to_owned(), deposit.received_at.into());
            members.insert("is_last_of_this_tenant".to_owned(), ours.into());
        }
        self.set("deposit", json);
        if ours == Some(false) {
            self.exit = Exit::Untrusted;
            self.line("           this isn't the last deposit that this tenant made: another tenant deposited, or the verifier went back");
        }
        Some(signed)
    }

    /// Attestation, and what the boot counters said.
    fn tpm(&mut self, uuid: &Uuid, view: &PayloadView) {
        if let Some(attestation) = &view.attestation {
            let reason = attestation.reason.as_deref().map(printable);
            let when = attestation
                .at
                .filter(|at| *at > 0)
                .map_or_else(String::new, |at| {
                    format!(" {} ago", age(now().saturating_sub(at)))
                });
            let what = match attestation.status.as_str() {
                "pass" => "passed",
                "fail" => "failed",
                _ => "none yet",
            };
            let why = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            self.line(&format!("attested:  {what}{when}{why}"));
            self.set("attestation", json!({ "status": attestation.status, "at": attestation.at, "reason": attestation.reason }));
        }
        if view.cleared_tpm {
            self.line(&format!(
                "TPM:       its boot counters went back: it was cleared, or it is another one. Nothing is released until you accept that: `keyhalf-tenant -c confirm -u {uuid}`"
            ));
        }
    }

    fn boots(
        &mut self,
        uuid: &Uuid,
        view: &PayloadView,
        ak: &AkPublic,
        cap: Option<&(PayloadId, CapPcr)>,
    ) {
        let boots = Boots::sort(view, uuid, ak, cap);
        for ((resets, restarts), boot) in &boots.boots {
            self.line(&format!(
                "boot {:<5} {}",
                format!("{resets}.{restarts}"),
                boot_in_words(boot)
            ));
        }
        for refusal in &boots.refusals {
            let code = printable(&refusal.code);
            self.line(&format!("refused:   {code}, {}", date(refusal.at)));
        }
        for (at, fault) in &boots.bad_receipts {
            self.exit = Exit::Untrusted;
            self.line(&format!(
                "receipt:   of {} doesn't verify: {fault}",
                date(*at)
            ));
        }
        self.set("history", boots.as_json());
    }
}

/// One boot in words: the verifier's, then the node's.
fn boot_in_words(boot: &Boot) -> String {
    let mut parts = Vec::new();
    for release in &boot.releases {
        let id = printable(&release.payload_id);
        parts.push(format!("{id} released {}", date(release.at)));
    }
    for refusal in &boot.refusals {
        let code = printable(&refusal.code);
        parts.push(format!("refused ({code}) {}", date(refusal.at)));
    }
    for (_, checked) in &boot.receipts {
        let id = checked.receipt.payload_id;
        parts.push(format!("{id} {}", in_words(checked)));
    }
    parts.join("\n             ")
}

fn is_ours(record: &Record, signed: &SignedManifest) -> bool {
    let digest = |bytes: &[u8]| Hex(&Sha256::digest(bytes)).to_string();
    record.manifest_sha256 == digest(&signed.bytes)
        && record.signer_sha256 == digest(&signed.signer)
}

fn trusted_ak(record: Option<&Record>, registered: Option<&RegistrarRecord>) -> Trusted {
    let own = record.map(|record| AkPublic::from_base64(&record.ak_tpm));
    let told = registered.map(|registered| AkPublic::from_base64(&registered.aik_tpm));
    match (own, told) {
        (Some(Ok(ak)), _) => Trusted::Own(ak),
        (_, Some(Ok(ak))) => Trusted::Registrar(ak),
        _ => Trusted::Nothing,
    }
}

#[cfg(test)]
mod tests;
