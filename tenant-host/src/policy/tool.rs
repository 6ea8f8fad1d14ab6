//! What the tools for policies share: files in and out, and why a tool fails.

use std::io;
use std::path::{Path, PathBuf};

use verifier_host::policy::runtime::{KeyError, MAX_POLICY_BYTES, PolicyKey, RuntimePolicyError};

use super::next_boot::NextBootError;
use super::{MAX_KEY_BYTES, PolicyFileError, read};
use crate::error::Exit;

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
    /// A boot that can't be predicted.
    #[error(transparent)]
    NextBoot(#[from] NextBootError),
}

impl ToolError {
    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        Exit::Local
    }
}

/// Reads a policy of any kind.
pub(crate) fn read_policy(path: &Path) -> Result<Vec<u8>, ToolError> {
    read_bounded(path, MAX_POLICY_BYTES)
}

/// Reads a public key or a certificate.
pub(crate) fn read_key(path: &Path) -> Result<PolicyKey, ToolError> {
    PolicyKey::from_pem(&read_bounded(path, MAX_KEY_BYTES)?).map_err(|source| ToolError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file, or a pipe, of at most so many bytes.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, ToolError> {
    read(path, limit).map_err(|error| match error {
        PolicyFileError::Read { path, source } => ToolError::Read { path, source },
        _ => ToolError::TooLarge {
            path: path.to_owned(),
            limit,
        },
    })
}
