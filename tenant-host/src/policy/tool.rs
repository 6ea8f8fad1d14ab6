//! What the tools for policies share: files in and out, and why a tool fails.

use std::io;
use std::path::{Path, PathBuf};

use verifier_host::evidence::eventlog::EventLogError;
use verifier_host::policy::measured_boot::CreateError;
use verifier_host::policy::runtime::{KeyError, MAX_POLICY_BYTES, PolicyKey, RuntimePolicyError};
use verifier_host::policy::tpm::PolicyError;

use super::create::{ArchiveError, LogError, PcrReadError};
use super::diff::DiffError;
use super::kind::{KindError, Shaped};
use super::next_boot::NextBootError;
use super::sign::SignError;
use super::{MAX_KEY_BYTES, PolicyFileError, read};
use crate::error::Exit;

pub(super) mod write;

pub use write::Target;

/// Why a tool didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// A file that can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that can't be meant.
    #[error("{} is larger than {limit} bytes, which is more than is taken", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file that can't be written.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that would be lost.
    #[error("{} is there already: --force replaces it", path.display())]
    Exists {
        /// Which one.
        path: PathBuf,
    },
    /// A key that would be lost.
    #[error("{} is there already, and a key is never replaced: remove it, or sign with it by --key", path.display())]
    KeyExists {
        /// Which one.
        path: PathBuf,
    },
    /// A file that is written to all the time.
    #[error("{} changed each time it was read: --exclude leaves it out, or try again when it is quiet", path.display())]
    Changing {
        /// Which one.
        path: PathBuf,
    },
    /// An image or a package.
    #[error("can't read {}: {source}", path.display())]
    Archive {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: ArchiveError,
    },
    /// A log.
    #[error("can't read {}: {source}", path.display())]
    Log {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: LogError,
    },
    /// An event log.
    #[error("{} is no event log that can be used: {source}", path.display())]
    EventLog {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: EventLogError,
    },
    /// A measured-boot policy that can't be made.
    #[error("can't make a policy of {}: {source}", path.display())]
    MeasuredBoot {
        /// The log.
        path: PathBuf,
        /// Why not.
        source: CreateError,
    },
    /// Values of PCRs.
    #[error("can't use {}: {source}", path.display())]
    PcrRead {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: PcrReadError,
    },
    /// PCRs that no policy may fix.
    #[error("--pcrs: {0}")]
    Pcrs(#[source] PolicyError),
    /// An expression to exclude paths by.
    #[error("--exclude: {0}")]
    Exclude(#[source] RuntimePolicyError),
    /// Nothing to make a policy of.
    #[error("a policy of what? Give at least one of {0}")]
    NoSource(&'static str),
    /// A file that is no policy of any kind.
    #[error("{}: {source}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KindError,
    },
    /// Policies that can't be compared.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// A policy that can't be signed.
    #[error("can't sign with {}: {source}", path.display())]
    Sign {
        /// The key.
        path: PathBuf,
        /// Why not.
        source: SignError,
    },
    /// Options for reaching a node.
    #[error("{0}")]
    Options(String),
    /// A thread that ended early.
    #[error("hashing was interrupted")]
    Thread,
    /// The key of a signed policy.
    #[error("the key {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A runtime policy.
    #[error("{} is no runtime policy that can be used: {source}", path.display())]
    Runtime {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RuntimePolicyError,
    },
    /// Something that can't be judged, or judged by.
    #[error("{what} can't be used: {reason}")]
    Judging {
        /// What.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A node that hasn't failed by a policy.
    #[error(
        "the verifier keeps no evidence of {uuid}: it hasn't failed by a policy since it was added, or the verifier is not keyhalf's"
    )]
    NoEvidence {
        /// The node.
        uuid: String,
    },
    /// A boot that can't be predicted.
    #[error(transparent)]
    NextBoot(#[from] NextBootError),
}

impl ToolError {
    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NoSource(_)
            | Self::Options(_)
            | Self::Exclude(_)
            | Self::Pcrs(_)
            | Self::Diff(_) => Exit::Usage,
            Self::NextBoot(error) if error.is_of_options() => Exit::Usage,
            Self::Thread => Exit::Other,
            _ => Exit::Local,
        }
    }

    /// An error of reading, for `map_err`.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// Reads a policy of any kind.
pub(crate) fn read_policy(path: &Path) -> Result<Vec<u8>, ToolError> {
    read_bounded(path, MAX_POLICY_BYTES)
}

/// Reads a policy and tells its kind.
pub(crate) fn read_shaped(path: &Path) -> Result<Shaped, ToolError> {
    Shaped::read(read_policy(path)?).map_err(|source| ToolError::Kind {
        path: path.to_owned(),
        source,
    })
}

/// Reads a public key or a certificate.
pub(crate) fn read_key(path: &Path) -> Result<PolicyKey, ToolError> {
    PolicyKey::from_pem(&read_bounded(path, MAX_KEY_BYTES)?).map_err(|source| ToolError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file, or a pipe, of at most so many bytes; `-` is standard input.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, ToolError> {
    let file = if path.as_os_str() == "-" {
        Path::new("/dev/stdin")
    } else {
        path
    };
    read(file, limit).map_err(|error| match error {
        PolicyFileError::Read { path, source } => ToolError::Read { path, source },
        _ => ToolError::TooLarge {
            path: path.to_owned(),
            limit,
        },
    })
}
