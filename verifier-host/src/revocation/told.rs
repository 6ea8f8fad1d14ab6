//! What administrators ask of revocation logs and are told of them: the bodies of `/v2.6/revocations`.
//!
//! Source: agent-core's `docs/revocation.md`, "Tenant and verifier".

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// `PUT /v2.6/revocations`: begins the log of an anchor and a group, or finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhichLog {
    /// The anchor's name: 64 lowercase hex digits, the SHA-256 of the notifier key's `SubjectPublicKeyInfo`.
    pub anchor: String,
    /// The group that nodes are added with; none is that of the nodes without one.
    #[serde(default)]
    pub group: Option<String>,
}

/// The answer to [`WhichLog`]: where a payload that is sealed now begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The log: the anchor's name, `-`, and 16 hex digits.
    pub log_id: String,
    /// Its last entry's number; 0 before the first.
    pub number: u64,
    /// Hex of the SHA-256 of that entry's `msg`; 64 zeros before the first.
    pub previous: String,
    /// Decimal text of the number of the newest revocation list of that anchor; none without one.
    pub crl_number: Option<String>,
}

/// `GET /v2.6/revocations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// All logs, in the order in which they were begun.
    pub logs: Vec<Log>,
}

/// A log in the list of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The log.
    pub log_id: String,
    /// Its anchor's name.
    pub anchor: String,
    /// Its group; none is that of the nodes without one.
    pub group: Option<String>,
    /// Its last entry's number; 0 before the first.
    pub number: u64,
    /// Decimal text of the number of the newest revocation list of its anchor; none without one.
    pub crl_number: Option<String>,
}

/// `GET /v2.6/revocations/{log_id}?after=N`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// From N+1 on, in order, at most [`MAX_ENTRIES`].
    pub entries: Vec<Entry>,
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    /// The node that it is about; none for a list alone.
    pub agent_id: Option<String>,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// When it was made: RFC 3339, UTC.
    pub time: String,
    /// Why, in one sentence.
    pub reason: String,
    /// Decimal text of the serial of the certificate that the node got with its payload; none without one.
    pub cert_serial: Option<String>,
    /// JSON text, exactly as it was signed.
    pub msg: String,
    /// Base64 of the signature over `msg`.
    pub signature: String,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A node failed, or an operator revoked it.
    Revocation,
    /// A new revocation list, about no node.
    Crl,
}

/// `GET /v2.6/revocations/{log_id}/peers`: how far each node of the group is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The log's last entry.
    pub number: u64,
    /// In the order of their names.
    pub peers: Vec<Peer>,
}

/// How far a node is with a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The node.
    pub agent_id: String,
    /// Where it stands.
    pub state: State,
    /// The last entry that it has acted on, or acknowledged.
    pub position: u64,
    /// Since when it stands there, in seconds since 1970; none if it never answered about this log.
    pub since: Option<u64>,
    /// Why it doesn't go on, where it is unreachable or refuses.
    pub error: Option<String>,
}

/// Where a node stands with a log, or with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its actions have ended, and it has said how.
    Acted,
    /// It took the message; more is not known of an agent of Keylime's.
    Acknowledged,
    /// It has been told, or will be, and hasn't said that its actions have ended.
    Waiting,
    /// It doesn't answer.
    Unreachable,
    /// It answers that it won't take the entry.
    Refuses,
}

/// `GET /v2.6/revocations/{log_id}/{number}`: an entry, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryOutcomes {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// The nodes of its group, in the order of their names.
    pub peers: Vec<PeerOutcome>,
}

/// What came of an entry at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerOutcome {
    /// The node.
    pub agent_id: String,
    /// Where it stands with this entry.
    pub state: State,
    /// In the order in which they ran, at most 64; empty as long as it hasn't said.
    pub actions: Vec<Action>,
    /// Further actions of which nothing more is known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// How an action went. One of `exit_code`, `signal`, `timed_out`, `interrupted` and `error` is there.
///
/// The texts are a node's own: printable and short, but nothing to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// What it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It took too long and was killed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// It had started, and the agent can't say how it ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub interrupted: bool,
    /// Why it wasn't run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it ran, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

/// `POST /v2.6/revocations`: revokes a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// The node.
    pub agent_id: String,
    /// Why, in one sentence of at most [`MAX_REASON_CHARS`] characters.
    pub reason: String,
    /// Base64 of the DER of a revocation list to give with it, newer than all before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<String>,
}

/// `POST /v2.6/revocations/crl`: a newer list of an anchor's CA, for all of its logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewList {
    /// The anchor's name.
    pub anchor: String,
    /// Base64 of its DER.
    pub crl: String,
}

/// The answer to [`NewList`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// One entry in each log of the anchor.
    pub entries: Vec<MadeEntry>,
}

/// An entry that was made; the answer to [`Revoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeEntry {
    /// Its log.
    pub log_id: String,
    /// Its number there.
    pub number: u64,
}

/// `PUT /v2.6/revocations/crl-signer`: from now on the verifier signs revocation lists by itself.
///
/// The key has no `Debug`: nothing may show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The anchor's name.
    pub anchor: String,
    /// PEM of a certificate that may sign revocation lists (`cRLSign`).
    pub certificate: String,
    /// PEM (PKCS#8) of its private key.
    pub key: Zeroizing<String>,
    /// The anchor's list now, base64 of DER: the delegate's numbers go on from it, and what it revokes stays revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<String>,
}

/// `DELETE /v2.6/revocations/crl-signer`: the verifier forgets the key of [`Signer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoSigner {
    /// The anchor's name.
    pub anchor: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls gets a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls gets a reference"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Entries in one answer.
pub const MAX_ENTRIES: u32 = 100;

/// Characters of an operator's reason.
pub const MAX_REASON_CHARS: usize = 512;
