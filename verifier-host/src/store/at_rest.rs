//! Secrets in the database are sealed under a key that isn't in it.
//!
//! AES-256-GCM under `at_rest.key`, a fresh 96-bit nonce for each sealing, with uuid and column as associated data: a value
//! moved to another node or another column doesn't open. A stolen database or backup tells nothing without the file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sqlx::SqlitePool;
use thiserror::Error;
use zeroize::Zeroizing;

/// Why secrets can't be sealed or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AtRestError {
    /// The key file can't be read or made.
    #[error("{path}: {source}")]
    File {
        /// The key file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database has sealed data, and the file is gone.
    #[error(
        "{path} is missing, and the database beside it is sealed with that key; restore the file from the backup, or move \
         the database away to start without its nodes"
    )]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// The file isn't a key.
    #[error(
        "{path} holds {have} bytes, an at-rest key has {KEY_BYTES}; restore the file from the backup"
    )]
    Size {
        /// The key file.
        path: PathBuf,
        /// Its size, or one more than a key's if it is larger.
        have: usize,
    },
    /// The file is a key, but not this database's.
    #[error(
        "{path} is not the key that sealed the database beside it; restore the one that belongs to it"
    )]
    Another {
        /// The key file.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system's random number generator: {0}")]
    Random(rand::rngs::SysError),
    /// The sealed value was changed, or belongs to another node or column.
    #[error("a sealed value doesn't open: the database was changed by someone else")]
    Tampered,
    /// The database doesn't answer.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// Seals and opens values for one node and column each. Cheap to clone; the key is wiped with the last clone.
#[derive(Clone)]
pub struct AtRest(Arc<Aes256Gcm>);

impl AtRest {
    /// Takes the key at `path` and proves that it is this database's; a new database gets a new key.
    ///
    /// The file is on disk before the database says that it exists.
    pub(super) async fn load(path: &Path, writer: &SqlitePool) -> Result<Self, AtRestError> {
        let proof: Option<Vec<u8>> = sqlx::query_scalar("SELECT proof FROM at_rest")
            .fetch_optional(writer)
            .await?;
        let key = match (read_key(path)?, &proof) {
            (Some(key), _) => key,
            (None, None) => make_key(path)?,
            (None, Some(_)) => {
                return Err(AtRestError::Missing {
                    path: path.to_owned(),
                });
            }
        };
        let this = Self(Arc::new(Aes256Gcm::new((&*key).into())));
        match proof {
            Some(proof) => {
                let opened = this.open(PROOF_NODE, PROOF_COLUMN, &proof);
                opened.map_err(|_| AtRestError::Another {
                    path: path.to_owned(),
                })?;
            }
            None => {
                let proof = this.seal(PROOF_NODE, PROOF_COLUMN, &[])?;
                sqlx::query("INSERT INTO at_rest (id, proof) VALUES (1, ?)")
                    .bind(proof)
                    .execute(writer)
                    .await?;
            }
        }
        Ok(this)
    }

    /// Seals a value: nonce (12 bytes), ciphertext, tag (16 bytes).
    ///
    /// # Errors
    /// [`AtRestError::Random`].
    pub fn seal(&self, uuid: &str, column: &str, value: &[u8]) -> Result<Vec<u8>, AtRestError> {
        let mut sealed = vec![0; NONCE_BYTES];
        SysRng
            .try_fill_bytes(&mut sealed)
            .map_err(AtRestError::Random)?;
        let ciphertext = {
            let nonce = Nonce::try_from(&sealed[..]).map_err(|_| AtRestError::Tampered)?;
            let aad = associated(uuid, column);
            let payload = Payload {
                msg: value,
                aad: &aad,
            };
            self.0
                .encrypt(&nonce, payload)
                .map_err(|_| AtRestError::Tampered)?
        };
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what [`AtRest::seal`] made for the same node and column.
    ///
    /// # Errors
    /// [`AtRestError::Tampered`].
    pub fn open(
        &self,
        uuid: &str,
        column: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, AtRestError> {
        let (nonce, ciphertext) = sealed
            .split_at_checked(NONCE_BYTES)
            .ok_or(AtRestError::Tampered)?;
        let nonce = Nonce::try_from(nonce).map_err(|_| AtRestError::Tampered)?;
        let aad = associated(uuid, column);
        let payload = Payload {
            msg: ciphertext,
            aad: &aad,
        };
        let opened = self
            .0
            .decrypt(&nonce, payload)
            .map_err(|_| AtRestError::Tampered)?;
        Ok(Zeroizing::new(opened))
    }
}

/// The associated data: both texts with their lengths, so that no two pairs look alike.
fn associated(uuid: &str, column: &str) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in ["keyhalf at rest 1", uuid, column] {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, AtRestError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, error)),
    };
    // One byte more than a key: enough to see that a file is too large, and no second buffer is left unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| file_error(path, error))?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| AtRestError::Size {
        path: path.to_owned(),
        have: bytes.len(),
    })?;
    Ok(Some(Zeroizing::new(key)))
}

fn make_key(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, AtRestError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SysRng
        .try_fill_bytes(&mut key[..])
        .map_err(AtRestError::Random)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(&key[..]).and_then(|()| file.sync_all()))
        .and_then(|()| path.parent().map_or(Ok(()), sync_directory));
    written.map_err(|error| file_error(path, error))?;
    Ok(key)
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

fn file_error(path: &Path, source: std::io::Error) -> AtRestError {
    AtRestError::File {
        path: path.to_owned(),
        source,
    }
}

/// Name of the key in the Keylime directory.
pub const KEY_FILE: &str = "at_rest.key";

/// An AES-256 key.
const KEY_BYTES: usize = 32;

/// The nonce length that GCM is made for.
///
/// Source: NIST SP 800-38D section 8.2.
const NONCE_BYTES: usize = 12;

/// The proof belongs to no node: a uuid is never empty.
const PROOF_NODE: &str = "";
const PROOF_COLUMN: &str = "proof";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_node_and_column_only() {
        let at_rest = AtRest(Arc::new(Aes256Gcm::new(&[9; KEY_BYTES].into())));
        let sealed = at_rest.seal("node-1", "v", b"secret half").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_ne!(sealed, at_rest.seal("node-1", "v", b"secret half").unwrap());

        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (name, uuid, column, bytes, opens) in [
            ("its own", "node-1", "v", &sealed[..], true),
            ("another node", "node-2", "v", &sealed[..], false),
            (
                "another column",
                "node-1",
                "revocation_key",
                &sealed[..],
                false,
            ),
            ("a border moved", "node-1v", "", &sealed[..], false),
            ("a flipped bit", "node-1", "v", &flipped[..], false),
            ("a part", "node-1", "v", &sealed[..5], false),
            ("nothing", "node-1", "v", &[][..], false),
        ] {
            assert_eq!(at_rest.open(uuid, column, bytes).is_ok(), opens, "{name}");
        }
    }
}
