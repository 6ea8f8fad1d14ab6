//! What `GET /v2.x/agents/{uuid}` says about a node: Keylime's fields, and ours that say why.

use std::time::Duration;

use serde::Serialize;

use crate::policy::PolicyName;
use crate::revocation::status::Summary;
use crate::rounds::node::{Node, unix_now};
use crate::rounds::progress::{
    AttestationStatus, Failure, OperationalState, Progress, Unreachable,
};
use crate::rounds::schedule::Rounds;

/// A node as tenants see it. It has no secret: Keylime's `v` is always null here.
#[derive(Debug, Serialize)]
pub struct View {
    operational_state: OperationalState,
    v: Option<()>,
    ip: String,
    port: u16,
    tpm_policy: String,
    meta_data: String,
    has_mb_refstate: u8,
    has_runtime_policy: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_policy_name: Option<PolicyName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mb_policy_name: Option<PolicyName>,
    accept_tpm_hash_algs: Vec<String>,
    accept_tpm_encryption_algs: Vec<String>,
    accept_tpm_signing_algs: Vec<String>,
    hash_alg: String,
    enc_alg: String,
    sign_alg: String,
    verifier_id: &'static str,
    verifier_ip: String,
    verifier_port: u16,
    severity_level: Option<u8>,
    last_event_id: Option<String>,
    attestation_count: u64,
    last_received_quote: u64,
    last_successful_attestation: u64,
    attestation_status: AttestationStatus,
    attestation_period: String,
    maximum_attestation_interval: String,
    /// Whether V is held for this node, and whether its present transport key got it.
    v_provided: Option<bool>,
    /// Why the last evidence didn't hold, with both sides.
    failure: Option<Failure>,
    /// Since when it doesn't answer, and why.
    unreachable: Option<Unreachable>,
    /// How far it is with the revocations that it is told of; absent without a revocation key.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocations: Option<Summary>,
    /// What an operator should know though nothing failed.
    warnings: Vec<&'static str>,
}

impl View {
    /// The node at this moment.
    #[must_use]
    pub fn of(node: &Node, rounds: &Rounds) -> Self {
        let interval = rounds.interval();
        let progress = node.progress();
        let attestation_status = status_of(node, &progress, interval);
        let standing = progress.standing;
        let tally = progress.tally;
        let text = node.terms.text.clone();
        let given = standing.v_given_to.is_some() && standing.v_given_to == standing.pubkey;
        let algorithms = standing.algorithms;
        let algorithm = |pick: fn(&crate::rounds::progress::Algorithms) -> &String| {
            algorithms.as_ref().map(pick).cloned().unwrap_or_default()
        };
        let seconds = interval.as_secs_f64();
        Self {
            operational_state: standing.state,
            v: None,
            ip: text.ip,
            port: text.port,
            tpm_policy: text.tpm_policy,
            meta_data: text.metadata,
            has_mb_refstate: u8::from(text.mb_policy.is_some()),
            has_runtime_policy: u8::from(text.runtime_policy.is_some()),
            runtime_policy_name: text.runtime_policy,
            mb_policy_name: text.mb_policy,
            accept_tpm_hash_algs: text.accept_tpm_hash_algs,
            accept_tpm_encryption_algs: text.accept_tpm_encryption_algs,
            accept_tpm_signing_algs: text.accept_tpm_signing_algs,
            hash_alg: algorithm(|algorithms| &algorithms.hash),
            enc_alg: algorithm(|algorithms| &algorithms.enc),
            sign_alg: algorithm(|algorithms| &algorithms.sign),
            verifier_id: VERIFIER_ID,
            verifier_ip: text.verifier_ip,
            verifier_port: text.verifier_port,
            severity_level: standing.failure.is_some().then_some(EMERGENCY),
            last_event_id: standing
                .failure
                .as_ref()
                .map(|failure| failure.event_id.clone()),
            attestation_count: tally.passes,
            last_received_quote: tally.last_answer,
            last_successful_attestation: tally.last_pass,
            attestation_status,
            attestation_period: format!("{seconds}s"),
            maximum_attestation_interval: format!("{}s", seconds * 5.0),
            v_provided: node.has_v.then_some(given),
            failure: standing.failure,
            unreachable: tally.unreachable,
            revocations: Summary::of(node, attestation_status),
            warnings: if rounds.policies().decide_nothing(&node.terms) {
                vec![NO_POLICY]
            } else {
                vec![]
            },
        }
    }
}

/// What is said about the node's attestation at this moment.
pub(super) fn attestation_status(node: &Node, rounds: &Rounds) -> AttestationStatus {
    node.update(|progress| status_of(node, progress, rounds.interval()))
}

fn status_of(node: &Node, progress: &Progress, interval: Duration) -> AttestationStatus {
    if node.terms.is_push() {
        progress.status_of_caller(unix_now(), silence(interval))
    } else {
        progress.status()
    }
}

/// Seconds without a word after which a node that calls by itself counts as offline.
fn silence(interval: Duration) -> u64 {
    // The clock of the last pass has whole seconds.
    (interval * SILENT_INTERVALS).as_secs() + 2
}

const SILENT_INTERVALS: u32 = 5;

/// The name of the one verifier of a database.
pub const VERIFIER_ID: &str = "default";

/// What an operator must not overlook.
pub const NO_POLICY: &str = "no policy is set: whatever this node boots passes, and gets V";

/// Keylime's number for its severity `emergency`.
const EMERGENCY: u8 = 6;
