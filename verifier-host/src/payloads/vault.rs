//! Sealed payloads on disk: ciphertext, of which nobody here has the key.
//!
//! A file has its name only once it is whole and on disk. What has no deposit, after a crash for example, is removed at start.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// The directory of sealed payloads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vault {
    dir: Arc<Path>,
}

/// A file that is being written; removed unless it is [kept](Incoming::keep).
#[derive(Debug)]
pub struct Incoming {
    file: File,
    path: Unkept,
    hash: Sha256,
    written: u64,
}

impl Vault {
    /// Opens or makes `<keylime-dir>/payloads`, mode 0700, and removes what isn't in `known`.
    ///
    /// # Errors
    /// The system's.
    pub fn open(keylime_dir: &Path, known: &HashSet<String>) -> io::Result<Self> {
        let dir = keylime_dir.join(DIR);
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| known.contains(name)) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { dir: dir.into() })
    }

    /// A new file, which has no name yet that counts.
    ///
    /// # Errors
    /// The system's.
    pub async fn incoming(&self) -> io::Result<Incoming> {
        let mut random = [0; 16];
        SysRng
            .try_fill_bytes(&mut random)
            .map_err(io::Error::other)?;
        let name = agent_core::wire::text::Hex(&random).to_string();
        let path = self.dir.join(format!("{name}.part"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await?;
        Ok(Incoming {
            file,
            path: Unkept(path),
            hash: Sha256::new(),
            written: 0,
        })
    }

    /// Opens a kept file for reading.
    ///
    /// # Errors
    /// The system's.
    pub async fn read(&self, name: &str) -> io::Result<File> {
        File::open(self.dir.join(name)).await
    }

    /// Removes a kept file; who reads it goes on reading. What can't be removed goes at the next start.
    pub fn forget(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.dir.join(name)) {
            tracing::warn!(%error, "a sealed payload can't be removed now");
        }
    }
}

impl Incoming {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// The system's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
        self.file.write_all(bytes).await
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// SHA-256 of what was written.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Brings the file to disk under a name that counts, and says which.
    ///
    /// # Errors
    /// The system's; then nothing is left of it.
    pub async fn keep(mut self) -> io::Result<String> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let kept = self.path.0.with_extension("sealed");
        tokio::fs::rename(&self.path.0, &kept).await?;
        self.path.0.clone_from(&kept);
        if let Some(dir) = kept.parent() {
            File::open(dir).await?.sync_all().await?;
        }
        let name = kept.file_name().and_then(|name| name.to_str());
        let name = name.map(str::to_owned).ok_or(io::ErrorKind::InvalidData)?;
        self.path.0 = PathBuf::new();
        Ok(name)
    }
}

/// A path whose file goes when this is dropped, unless the path was taken out.
#[derive(Debug)]
struct Unkept(PathBuf);

impl Drop for Unkept {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What stays goes at the next start.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

const DIR: &str = "payloads";
