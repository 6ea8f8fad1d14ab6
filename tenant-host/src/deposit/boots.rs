//! What became of a payload, boot by boot: the verifier's releases and refusals, and the node's receipts.

use std::collections::BTreeMap;

use agent_core::wire::manifest::{CapPcr, PayloadId};
use agent_core::wire::receipt::{Reached, Receipt};
use agent_core::wire::text::Uuid;
use serde_json::{Value, json};
use verifier_host::evidence::public::AkPublic;

use super::receipt::{self, Checked, ReceiptFault};
use super::view::{PayloadView, RefusalView, ReleaseView};

/// All boots that are known of, and what can't be put to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boots {
    /// By resets and restarts, oldest first.
    pub boots: BTreeMap<(u32, u32), Boot>,
    /// Receipts that don't hold: when they came, and why not.
    pub bad_receipts: Vec<(u64, ReceiptFault)>,
    /// Refusals before any quote.
    pub refusals: Vec<RefusalView>,
}

/// One boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// V was released: the verifier's word.
    pub releases: Vec<ReleaseView>,
    /// V was refused: the verifier's word.
    pub refusals: Vec<RefusalView>,
    /// What the node said: when it came, and what.
    pub receipts: Vec<(u64, Checked)>,
}

impl Boots {
    /// Sorts what the verifier tells. Every receipt is checked; `cap` is that of the deposit of this number.
    #[must_use]
    pub fn sort(
        view: &PayloadView,
        agent: &Uuid,
        ak: &AkPublic,
        cap: Option<&(PayloadId, CapPcr)>,
    ) -> Self {
        let mut sorted = Self::default();
        let of_deposit = |receipt: &Receipt| {
            cap.filter(|(id, _)| *id == receipt.payload_id)
                .map(|(_, cap)| cap.clone())
        };
        for receipt in &view.receipts {
            match receipt::check(ak, agent, receipt, of_deposit) {
                Ok(checked) => sorted
                    .boot(checked.reset_count, checked.restart_count)
                    .receipts
                    .push((receipt.at, checked)),
                Err(fault) => sorted.bad_receipts.push((receipt.at, fault)),
            }
        }
        for release in &view.releases {
            sorted
                .boot(release.reset_count, release.restart_count)
                .releases
                .push(release.clone());
        }
        for refusal in &view.refusals {
            match (refusal.reset_count, refusal.restart_count) {
                (Some(resets), Some(restarts)) => {
                    sorted.boot(resets, restarts).refusals.push(refusal.clone());
                }
                _ => sorted.refusals.push(refusal.clone()),
            }
        }
        sorted
    }

    fn boot(&mut self, resets: u32, restarts: u32) -> &mut Boot {
        self.boots.entry((resets, restarts)).or_default()
    }

    /// For programs.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let boots = self.boots.iter().map(|((resets, restarts), boot)| {
            let releases = boot.releases.iter();
            let releases: Vec<Value> = releases
                .map(|release| json!({ "payload_id": release.payload_id, "at": release.at }))
                .collect();
            let receipts: Vec<Value> = boot.receipts.iter().map(receipt_json).collect();
            json!({
                "reset_count": resets, "restart_count": restarts, "releases": releases,
                "refusals": boot.refusals.iter().map(refusal_json).collect::<Vec<_>>(), "receipts": receipts,
            })
        });
        let bad = self
            .bad_receipts
            .iter()
            .map(|(at, fault)| json!({ "at": at, "fault": fault.to_string() }));
        json!({
            "boots": boots.collect::<Vec<_>>(),
            "bad_receipts": bad.collect::<Vec<_>>(),
            "refusals": self.refusals.iter().map(refusal_json).collect::<Vec<_>>(),
        })
    }
}

fn refusal_json(refusal: &RefusalView) -> Value {
    json!({ "at": refusal.at, "code": refusal.code, "payload_id": refusal.payload_id })
}

fn receipt_json((at, checked): &(u64, Checked)) -> Value {
    let receipt = &checked.receipt;
    json!({
        "at": at,
        "payload_id": receipt.payload_id.to_string(),
        "stage": receipt.reached.name(),
        "received": receipt.reached >= Reached::Received,
        "opened": receipt.reached >= Reached::Opened,
        "unpacked": receipt.reached >= Reached::Unpacked,
        "exit_code": receipt.exit_code,
        "signal": receipt.signal,
        "timed_out": receipt.timed_out,
        "duration_ms": receipt.duration_ms,
        "error": receipt.error.as_ref().map(|error| error.as_str()),
        "capped": checked.capped,
    })
}

/// A receipt in words.
#[must_use]
pub fn in_words(checked: &Checked) -> String {
    let receipt = &checked.receipt;
    let mut parts = Vec::new();
    let stages = [Reached::Received, Reached::Opened, Reached::Unpacked];
    let reached = stages.iter().filter(|stage| receipt.reached >= **stage);
    let reached: Vec<&str> = reached.map(|stage| stage.name()).collect();
    parts.push(match reached.as_slice() {
        [] => "refused by the node".to_owned(),
        reached => reached.join(", "),
    });
    let took = receipt
        .duration_ms
        .map_or_else(String::new, |ms| format!(" ({ms} ms)"));
    match (receipt.exit_code, receipt.signal, receipt.timed_out) {
        (_, _, true) => parts.push(format!("script stopped at its time limit{took}")),
        (Some(code), _, _) => parts.push(format!("script exit code {code}{took}")),
        (None, Some(signal), _) => parts.push(format!("script ended by signal {signal}{took}")),
        (None, None, _) if receipt.reached == Reached::Finished => {
            parts.push("no script to run".to_owned());
        }
        (None, None, _) => {}
    }
    match checked.capped {
        Some(true) => parts.push("capped".to_owned()),
        Some(false) if receipt.reached >= Reached::Unpacked => parts.push("NOT capped".to_owned()),
        Some(false) => parts.push("not capped".to_owned()),
        None => {}
    }
    if let Some(error) = &receipt.error {
        parts.push(format!("error: {error}"));
    }
    parts.join("; ")
}
