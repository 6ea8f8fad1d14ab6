//! Why a command failed, and with which exit code: the one place where errors of all kinds meet.

use std::path::PathBuf;
use std::time::Duration;

use verifier_host::evidence::public::PublicError;
use verifier_host::link::LinkError;
use verifier_host::pki::PkiError;
use verifier_host::policy::tpm::PolicyError;
use verifier_host::transport::TransportError;

use crate::ca::CaError;
use crate::cli::{PromptError, SettingsError, UsageError};
use crate::client::{ClientError, UploadError};
use crate::deposit::made::MakeError;
use crate::deposit::record::StateError;
use crate::deposit::terms::TermsError;
use crate::policy::tool::ToolError;
use crate::policy::{FetchError, PolicyFileError, PolicyKind};
use crate::seal::SealError;
use crate::trust::TrustError;
use crate::trust::known::KnownError;
use crate::trust::pin::PinError;

/// How the program ends. The numbers are part of its interface: scripts tell failures apart by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It happened.
    Done = 0,
    /// Something else went wrong.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A file of this machine can't be used: configuration, certificates, CA, payload.
    Local = 3,
    /// Registrar, verifier or agent can't be reached, or refuses the request.
    Peer = 4,
    /// The node isn't trusted: its keys, its certificate, its quote. Nothing was sealed to it.
    Untrusted = 5,
    /// The verifier refused the node: it didn't boot what the policy wants. It got no key.
    Refused = 6,
    /// The payload arrived, its script failed; or a revocation arrived, and an action failed.
    Script = 7,
    /// The key arrived, the node couldn't use the payload.
    Payload = 8,
    /// It took too long.
    Timeout = 9,
    /// There is no such node or policy, it is there already, or several match.
    Conflict = 10,
}

/// Why a payload isn't sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// There is nothing whose terms could be kept.
    #[error(
        "the verifier has no deposit of this node whose manifest is signed: `-c update --push-model` deposits one"
    )]
    Nothing,
    /// Another signer signed it.
    #[error(
        "the last deposit is by another signer than this CA's, and the node takes the one that it pins: --cert (or --signer) names the CA of the last one; `-c update --push-model` begins anew"
    )]
    Foreign,
    /// It is for another node.
    #[error("the verifier shows a deposit of another node: look at the verifier")]
    AnotherNode,
    /// The node has other keys.
    #[error(
        "the node registered with another EK or AK than the last deposit was sealed for: if that is right, `-c update --push-model` begins anew"
    )]
    OtherKeys,
    /// The verifier would revoke another certificate than the payload brings.
    #[error(
        "the payload would bring the node certificate {brought}, and the verifier would revoke {} if the node failed: `-c update --push-model` tells it of the new one",
        .known.map_or_else(|| "none".to_owned(), |known| format!("certificate {known}"))
    )]
    AnotherCertificate {
        /// The serial number that the verifier knows.
        known: Option<u64>,
        /// The serial number of the payload's.
        brought: u64,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command line.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Certificates for TLS.
    #[error(
        "{0}. --tls-dir names the directory with client-cert.crt, client-private.pem and cacert.crt, as the verifier makes it in its cv_ca"
    )]
    Tls(#[from] PkiError),
    /// A server or an agent.
    #[error(transparent)]
    Client(Box<ClientError>),
    /// The tenant's certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No passphrase was given.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A list that the verifier doesn't take.
    #[error(
        "the verifier doesn't take the revocation list: {reason}. It is in the CA's directory all the same; run this again"
    )]
    ListNotTaken {
        /// The verifier's reason.
        reason: String,
    },
    /// A node whose certificate is revoked, and which the verifier doesn't revoke.
    #[error("{source}. Its certificate is revoked in {} all the same: run this again when that is settled", ca.display())]
    HalfRevoked {
        /// What failed.
        source: Box<Failure>,
        /// The CA.
        ca: PathBuf,
    },
    /// The node got no key that revocations could be signed with.
    #[error(
        "{uuid} isn't revoked: {reason}. Revocations are signed with the key of the CA that a node was added with (--cert)"
    )]
    NoRevocationKey {
        /// The node.
        uuid: String,
        /// The verifier's reason.
        reason: String,
    },
    /// The payload.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The policy.
    #[error("--tpm_policy: {0}")]
    Policy(#[from] PolicyError),
    /// A runtime or measured-boot policy.
    #[error("{0}. Nothing was sent")]
    PolicyFile(#[from] PolicyFileError),
    /// A tool for policies.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The verifier has no such policy.
    #[error("the verifier has no {} {name}: `-c list{}` shows which it has, `-c add{}` adds one", kind.noun(), kind.word(), kind.word())]
    NoPolicy {
        /// Its kind.
        kind: PolicyKind,
        /// Its name.
        name: String,
    },
    /// The verifier has a policy of that name, and another one was given.
    #[error("the verifier has a {} {name} already, and another one is given: `-c update{}` replaces it, `-c delete{}` ends it, {}-name alone attests by it", kind.noun(), kind.word(), kind.word(), kind.option())]
    PolicyExists {
        /// Its kind.
        kind: PolicyKind,
        /// Its name.
        name: String,
    },
    /// The verifier keeps a policy, for a node that is attested by it.
    #[error("the verifier keeps the {} {name}: {reason}. `-c delete` takes a node from it", kind.noun())]
    PolicyInUse {
        /// Its kind.
        kind: PolicyKind,
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The verifier has no room for policies of a kind.
    #[error("the verifier at {verifier} keeps no {}, so it can't evaluate one either: nothing was changed. Attest by --tpm_policy alone, or use a verifier that does", kind.noun())]
    PoliciesNotKept {
        /// The kind.
        kind: PolicyKind,
        /// Where the verifier is.
        verifier: String,
    },
    /// The verifier has the node or a policy for it already.
    #[error("the verifier doesn't take {uuid} with these policies: {reason}")]
    EnrolConflict {
        /// The node.
        uuid: String,
        /// The verifier's reason.
        reason: String,
    },
    /// The endorsement key.
    #[error("{0}. Nothing was sent")]
    Trust(#[from] TrustError),
    /// The file of known endorsement keys.
    #[error("{0}. Nothing was sent")]
    Known(#[from] KnownError),
    /// A key that the registrar gave.
    #[error(
        "the registrar's record of {uuid} has a key that isn't accepted: {source}. Nothing was sent"
    )]
    Key {
        /// The node.
        uuid: String,
        /// What is wrong with the key.
        source: PublicError,
    },
    /// The agent's first quote.
    #[error("the agent at {agent} didn't prove that it is {uuid}: {reason}. Nothing was sent")]
    Identity {
        /// Where the agent is.
        agent: String,
        /// The node.
        uuid: String,
        /// What is wrong.
        reason: String,
    },
    /// The agent's transport key.
    #[error("the agent's transport key can't be used: {0}")]
    Transport(#[from] TransportError),
    /// The payload is larger than the agent takes.
    #[error(
        "the sealed payload has {have} bytes{unpacked}, {whose} limit is {limit}: nothing was sent. {remedy}"
    )]
    TooLarge {
        /// Its size.
        have: u64,
        /// ` when unpacked`, or nothing.
        unpacked: &'static str,
        /// The limit.
        limit: u64,
        /// Whose limit it is.
        whose: &'static str,
        /// What can be done.
        remedy: &'static str,
    },
    /// The node is at the verifier already.
    #[error(
        "{uuid} is at the verifier already (state {state}): `-c update` replaces what it has, `-c delete` ends it"
    )]
    Exists {
        /// The node.
        uuid: String,
        /// Its state there.
        state: String,
    },
    /// The registrar or the verifier knows no such node.
    #[error("{who} knows no node {uuid}. {hint}")]
    Unknown {
        /// Which server.
        who: &'static str,
        /// The node.
        uuid: String,
        /// What can be done.
        hint: &'static str,
    },
    /// No node, or several, registered with an address.
    #[error("{0}")]
    Ambiguous(String),
    /// The verifier kept a record that was to be deleted.
    #[error(
        "the verifier still has {uuid} after {seconds} s, though it accepted to delete it: try again, or look at the verifier's log"
    )]
    NotGone {
        /// The node.
        uuid: String,
        /// How long was waited.
        seconds: u64,
    },
    /// An update that failed after the older record was deleted.
    #[error(
        "{source}. The node's older record at the verifier is deleted already: `-c add` starts anew"
    )]
    AfterRemoval {
        /// What failed.
        source: Box<Failure>,
    },
    /// The endorsement key isn't known as the node's.
    #[error("{0}. Nothing was sealed or sent")]
    Pin(#[from] PinError),
    /// A deposit can't be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A payload isn't sealed anew.
    #[error("{0}. Nothing was sealed or sent")]
    Rotate(#[from] RotateError),
    /// A file of the tenant's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node hasn't registered.
    #[error("{uuid} {}", not_registered(*waited))]
    NotRegistered {
        /// The node.
        uuid: String,
        /// How long was waited.
        waited: Option<Duration>,
    },
    /// The node is at the verifier already.
    #[error(
        "{uuid} is at the verifier already: `-c rotate` seals its payload anew, `-c update --push-model` replaces all that it has, `-c delete` ends it"
    )]
    ExistsForPush {
        /// The node.
        uuid: String,
    },
    /// Any boot of the machine would pass.
    #[error(
        "the policy names no PCR of the boot (0 to 9, 11 to 14) and no log, so any system booted on that machine would get the payload: name one in --tpm_policy, or give --runtime-policy or --mb-policy; --allow-weak-policy insists. Nothing was sent"
    )]
    WeakPolicy,
    /// A deposit that took too long.
    #[error("the verifier doesn't have the payload: it took longer than --timeout. Last seen: {0}")]
    DepositTimeout(String),
    /// The operator stopped it.
    #[error("stopped")]
    Stopped,
    /// What was made at the verifier went again, or didn't.
    #[error("{source}. {}", taken_back(uuid, result))]
    TakenBack {
        /// What failed.
        source: Box<Failure>,
        /// The node.
        uuid: String,
        /// Why the record is still there, if it is.
        result: Result<(), String>,
    },
    /// A request of another version, or a damaged one.
    #[error(
        "the request for {uuid} (format {format}) can't be read by this program: queue it again"
    )]
    RequestFormat {
        /// The node.
        uuid: String,
        /// Its format.
        format: u32,
    },
    /// The thread that seals ended early.
    #[error("sealing the payload was interrupted")]
    Interrupted,
    /// The signals that stop a delivery can't be listened for.
    #[error("can't listen for signals: {0}")]
    Signals(std::io::Error),
    /// Its memory would be readable for others.
    #[error("can't keep core dumps and debuggers away: {0}")]
    Memory(std::io::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// Standard output can't be written.
    #[error("can't write to standard output: {0}")]
    Output(std::io::Error),
}

fn not_registered(waited: Option<Duration>) -> String {
    match waited {
        Some(waited) => format!(
            "hasn't registered within {} s, so there is no EK to seal to: is its agent running, with this registrar?",
            waited.as_secs()
        ),
        None => "hasn't registered yet, so there is no EK to seal to: --wait waits until it has, --queue notes the request for \
            `keyhalf-tenant watch`; both want --ek-cert or --ek-hash, unless the EK is known"
            .to_owned(),
    }
}

fn taken_back(uuid: &str, result: &Result<(), String>) -> String {
    match result {
        Ok(()) => "The verifier's record was taken back: the next add starts anew".to_owned(),
        Err(reason) => format!(
            "The verifier's record could not be taken back ({reason}): `-c delete -u {uuid}` does it"
        ),
    }
}

impl From<TermsError> for Failure {
    fn from(error: TermsError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Client(error) => error.into(),
            UploadError::Seal(error) => error.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        // Answers of peers make it large, and it is rare.
        Self::Client(Box::new(error))
    }
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Policy(_) | Self::WeakPolicy => Exit::Usage,
            Self::Pin(PinError::File { .. } | PinError::NotACertificate { .. })
            | Self::Pin(PinError::Trust(TrustError::Store { .. }))
            | Self::Make(_)
            | Self::State(_)
            | Self::RequestFormat { .. }
            | Self::Settings(_)
            | Self::Tls(_)
            | Self::Prompt(_)
            | Self::Seal(_)
            | Self::TooLarge { .. } => Exit::Local,
            Self::Ca(
                CaError::Exists { .. } | CaError::Unknown { .. } | CaError::StillValid { .. },
            ) => Exit::Conflict,
            Self::Ca(_) => Exit::Local,
            Self::ListNotTaken { .. } => Exit::Peer,
            Self::Client(error) if error.is_timeout() => Exit::Timeout,
            Self::Client(_) | Self::PoliciesNotKept { .. } => Exit::Peer,
            Self::PolicyFile(PolicyFileError::Fetch { source, .. }) => match source {
                FetchError::Url { .. } | FetchError::Unprotected => Exit::Usage,
                FetchError::NoRoots { .. } | FetchError::Tls(_) => Exit::Local,
                FetchError::Link(error) if is_timeout(error) => Exit::Timeout,
                FetchError::Link(_) | FetchError::Status { .. } => Exit::Peer,
            },
            Self::PolicyFile(_) => Exit::Local,
            Self::Tool(error) => error.exit(),
            Self::Known(KnownError::Io { .. } | KnownError::Line { .. })
            | Self::Trust(TrustError::Store { .. }) => Exit::Local,
            Self::Rotate(RotateError::Nothing)
            | Self::NotRegistered { waited: None, .. }
            | Self::ExistsForPush { .. } => Exit::Conflict,
            Self::Pin(_)
            | Self::Rotate(_)
            | Self::Trust(_)
            | Self::Known(_)
            | Self::Key { .. }
            | Self::Identity { .. }
            | Self::Transport(_) => Exit::Untrusted,
            Self::Exists { .. }
            | Self::Unknown { .. }
            | Self::Ambiguous(_)
            | Self::NoRevocationKey { .. }
            | Self::NoPolicy { .. }
            | Self::PolicyExists { .. }
            | Self::PolicyInUse { .. }
            | Self::EnrolConflict { .. } => Exit::Conflict,
            Self::NotGone { .. }
            | Self::DepositTimeout(_)
            | Self::NotRegistered {
                waited: Some(_), ..
            } => Exit::Timeout,
            Self::AfterRemoval { source }
            | Self::TakenBack { source, .. }
            | Self::HalfRevoked { source, .. } => source.exit(),
            Self::Stopped
            | Self::Interrupted
            | Self::Random
            | Self::Output(_)
            | Self::Signals(_)
            | Self::Memory(_) => Exit::Other,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Whether a link's error means that the time was up.
pub(crate) const fn is_timeout(error: &LinkError) -> bool {
    matches!(error, LinkError::Timeout { .. })
}
