//! What the tenant remembers of its last deposit for a node, so that no server can show it another one.
//!
//! One file for each node; no secret is in it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use agent_core::wire::text::Uuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The last deposit for a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The attestation key that it was sealed for: base64 of its `TPM2B_PUBLIC`.
    pub ak_tpm: String,
    /// `hash_ek` of the endorsement key.
    pub ek_hash: String,
    /// Which deposit, in hex.
    pub payload_id: String,
    /// Its floor.
    pub floor: Option<u64>,
    /// SHA-256 of its manifest's bytes, in hex.
    pub manifest_sha256: String,
    /// SHA-256 of the signer's certificate, in hex.
    pub signer_sha256: String,
    /// When it was sealed, in seconds since 1970.
    pub sealed_at: u64,
}

/// Why a file of the tenant's state can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It isn't what this program wrote.
    #[error("{} isn't a file that this tenant wrote: {source}. Move it away, or restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Another process works the queue off.
    #[error("another `watch` works on {} already", directory.display())]
    Busy {
        /// The queue.
        directory: PathBuf,
    },
}

/// The directory of one kind of file, named by node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    directory: PathBuf,
}

impl State {
    /// Files in this directory, which is made when the first one is written.
    #[must_use]
    pub const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where they lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of this node.
    #[must_use]
    pub fn path(&self, uuid: &Uuid) -> PathBuf {
        self.directory.join(format!("{uuid}{SUFFIX}"))
    }

    /// Reads a node's file; `None` if it has none.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read<T: DeserializeOwned>(&self, uuid: &Uuid) -> Result<Option<T>, StateError> {
        let path = self.path(uuid);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(fault("read", &path)(source)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StateError::Damaged { path, source })
    }

    /// Writes a node's file whole or not at all, in place of an older one.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn write<T: Serialize>(&self, uuid: &Uuid, value: &T) -> Result<(), StateError> {
        let path = self.path(uuid);
        self.make()?;
        let written = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            serde_json::to_writer_pretty(&mut file, value)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        written().map_err(fault("write", &path))
    }

    /// Removes a node's file. False if there was none.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn remove(&self, uuid: &Uuid) -> Result<bool, StateError> {
        let path = self.path(uuid);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(fault("remove", &path)(source)),
        }
    }

    /// The nodes that have a file, in order.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn nodes(&self) -> Result<Vec<Uuid>, StateError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(fault("read", &self.directory)(source)),
        };
        let mut nodes = Vec::new();
        for entry in entries {
            let name = entry.map_err(fault("read", &self.directory))?.file_name();
            let uuid = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            nodes.extend(uuid.and_then(Uuid::parse));
        }
        nodes.sort_unstable();
        Ok(nodes)
    }

    /// Makes the directory and locks it, until what is returned is dropped.
    ///
    /// # Errors
    /// [`StateError::Busy`] if another process holds it.
    pub fn lock(&self) -> Result<fs::File, StateError> {
        self.make()?;
        let handle = fs::File::open(&self.directory).map_err(fault("open", &self.directory))?;
        match handle.try_lock() {
            Ok(()) => Ok(handle),
            Err(fs::TryLockError::WouldBlock) => Err(StateError::Busy {
                directory: self.directory.clone(),
            }),
            Err(fs::TryLockError::Error(source)) => Err(fault("lock", &self.directory)(source)),
        }
    }

    fn make(&self) -> Result<(), StateError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory);
        made.map_err(fault("make", &self.directory))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn fault(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io {
        action,
        path,
        source,
    }
}

const SUFFIX: &str = ".json";

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    #[test]
    fn a_record_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let state = State::at(root.path().join("deep/deposits"));
        let (node, other) = (Uuid::parse("b.node").unwrap(), Uuid::parse("a").unwrap());
        assert_eq!(state.read::<u64>(&node).unwrap(), None);
        assert_eq!(state.nodes().unwrap(), []);
        for number in [7, 8] {
            state.write(&node, &number).unwrap();
            assert_eq!(state.read::<u64>(&node).unwrap(), Some(number));
        }
        state.write(&other, &1).unwrap();
        assert_eq!(state.nodes().unwrap(), [other, node.clone()]);
        assert!(state.remove(&node).unwrap() && !state.remove(&node).unwrap());
        let lock = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StateError::Busy { .. })));
        drop(lock);
        fs::write(state.path(&node), "{").unwrap();
        let damaged = state.read::<u64>(&node);
        assert!(matches!(damaged, Err(StateError::Damaged { .. })));
    }
}
