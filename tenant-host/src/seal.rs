//! What goes to a node, sealed: the package and the key whose halves take two ways.
//!
//! K is new for each payload, V is random, U = K xor V. Plaintext lives in buffers that are wiped.

use std::io;
use std::path::{Path, PathBuf};

use agent_core::payload::halves::{Half, HalfError, Key};
use agent_core::payload::seal::{
    NONCE_BYTES, OVERHEAD_BYTES, SealError as CipherError, TAG_BYTES, open_single, seal_single,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

mod actions;
mod include;
mod package;

pub use actions::complete as complete_actions;
pub use include::{Entry, EntryKind, Unread, list_file, list_tree, read_tree};
pub use package::{package, package_into};

/// Bytes of a new key and of its halves.
const KEY_BYTES: usize = 32;

/// The largest file that is read for a payload: far above what any agent takes, far below what hurts.
pub const MAX_INPUT_BYTES: u64 = 256 << 20;

/// The largest key file: three lines of at most 44 characters.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A file or directory can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// `--include` names something else than a directory.
    #[error("--include {}: not a directory", path.display())]
    NotADirectory {
        /// What it names.
        path: PathBuf,
    },
    /// `-f` names something else than a file.
    #[error("-f {}: not a file", path.display())]
    NotAFile {
        /// What it names.
        path: PathBuf,
    },
    /// A private file for the work can't be made or used.
    #[error("can't {action} a temporary file: {source}. TMPDIR names another place")]
    Temporary {
        /// What was tried, as a verb.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// More bytes than a payload can have.
    #[error("the payload has {have} bytes packed, more than can be sealed")]
    Unsealable {
        /// Its size.
        have: u64,
    },
    /// The tree holds what a package can't carry.
    #[error("--include: {} is {kind}; only files and directories can be delivered. Remove it, or replace it by what it stands for", path.display())]
    Special {
        /// Which entry.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A name that agents refuse.
    #[error("--include: {path:?} {problem}")]
    Name {
        /// The entry, below the included directory.
        path: PathBuf,
        /// What is wrong with its name.
        problem: &'static str,
    },
    /// A file has the name of a part of the package.
    #[error("--include: {name:?} is a file that the package brings itself: rename yours")]
    Taken {
        /// The name.
        name: String,
    },
    /// An action that no agent would run.
    #[error("--include: the action {name:?} {problem}. Nothing was sent")]
    Action {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A list of actions that no agent would read.
    #[error("--include: action_list {problem}. Nothing was sent")]
    ActionList {
        /// What is wrong.
        problem: &'static str,
    },
    /// More files than agents take.
    #[error(
        "--include: more than {limit} files and directories, which no agent takes: pack them into one archive"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A file that can't be meant to be a payload.
    #[error("{} is larger than {limit} bytes, which no agent takes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The file changed while it was read.
    #[error("{} changed while it was read: try again", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The key file isn't one.
    #[error("the key file {}: {problem}; three base64 lines are needed: the key and its two halves", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The sealed payload doesn't open with the key.
    #[error("the payload {} doesn't open with the key of {}: they don't belong together, or one was changed", payload.display(), key.display())]
    WrongKey {
        /// The payload's file.
        payload: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The zip writer refused.
    #[error("can't pack the payload: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// Too long to encrypt.
    #[error("can't seal the payload: {0:?}")]
    Cipher(CipherError),
    /// Halves that don't fit.
    #[error("can't make the halves of the key: {0:?}")]
    Half(HalfError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// A sealed payload with its key in both halves.
pub struct Sealed {
    key: Key,
    u: Half,
    v: Half,
    bytes: Vec<u8>,
    unpacked_bytes: Option<u64>,
}

impl Sealed {
    /// The half that goes to the agent.
    #[must_use]
    pub const fn u(&self) -> &Half {
        &self.u
    }

    /// The half that goes to the verifier.
    #[must_use]
    pub const fn v(&self) -> &Half {
        &self.v
    }

    /// Nonce, ciphertext and tag.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it unpacks to, if this tenant packed it.
    #[must_use]
    pub const fn unpacked_bytes(&self) -> Option<u64> {
        self.unpacked_bytes
    }

    /// Lowercase hex SHA-256 of [`Sealed::bytes`], by which an agent's outcome names this payload.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// HMAC of a text under the key, in lowercase hex: `auth_tag` of the uuid, the answer to `keys/verify` of a challenge.
    #[must_use]
    pub fn tag(&self, message: &str) -> String {
        hex(&self.key.auth_tag(message.as_bytes()))
    }
}

/// Seals a plaintext under a new key.
///
/// # Errors
/// [`SealError::Random`] without random numbers, [`SealError::Cipher`] if it is too long to encrypt.
pub fn seal(plaintext: &[u8], unpacked_bytes: Option<u64>) -> Result<Sealed, SealError> {
    let key = Key::from_slice(random::<KEY_BYTES>()?.as_slice()).map_err(SealError::Half)?;
    let v = Half::from_slice(random::<KEY_BYTES>()?.as_slice()).map_err(SealError::Half)?;
    let u = key.other_half(&v).map_err(SealError::Half)?;
    let nonce = random::<NONCE_BYTES>()?;
    // Encrypted in place: once sealed, no plaintext is left in the buffer. A failure wipes it.
    let mut bytes = Zeroizing::new(Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES));
    bytes.extend_from_slice(nonce.as_slice());
    bytes.extend_from_slice(plaintext);
    let tag: [u8; TAG_BYTES] =
        seal_single(&key, &nonce, bytes.split_at_mut(NONCE_BYTES).1).map_err(SealError::Cipher)?;
    bytes.extend_from_slice(&tag);
    Ok(Sealed {
        key,
        u,
        v,
        bytes: std::mem::take(&mut *bytes),
        unpacked_bytes,
    })
}

/// Takes a payload that was sealed elsewhere (`-p`, base64 text) with its key file (`-k`), and checks that they fit.
///
/// # Errors
/// [`SealError::KeyFile`] if the file isn't three fitting lines, [`SealError::WrongKey`] if the payload doesn't open with it.
pub fn sealed_elsewhere(key_file: &Path, payload: &Path) -> Result<Sealed, SealError> {
    let problem = |problem| SealError::KeyFile {
        path: key_file.to_owned(),
        problem,
    };
    let text = read_file(key_file, MAX_KEY_FILE_BYTES)?;
    let text = std::str::from_utf8(&text).map_err(|_| problem("it isn't text"))?;
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            BASE64
                .decode(line)
                .map(Zeroizing::new)
                .map_err(|_| problem("a line isn't base64"))
        });
    let mut line = || {
        lines
            .next()
            .unwrap_or_else(|| Err(problem("a line is missing")))
    };
    let (key, u, v) = (line()?, line()?, line()?);
    let key = Key::from_slice(&key).map_err(|_| problem("the key isn't 16 or 32 bytes"))?;
    let u = Half::from_slice(&u).map_err(|_| problem("the second line isn't 16 or 32 bytes"))?;
    let v = Half::from_slice(&v).map_err(|_| problem("the third line isn't 16 or 32 bytes"))?;
    let other = key
        .other_half(&v)
        .map_err(|_| problem("the key and its halves differ in length"))?;
    if other.as_bytes() != u.as_bytes() {
        return Err(problem("the halves don't make the key"));
    }
    let wrong = || SealError::WrongKey {
        payload: payload.to_owned(),
        key: key_file.to_owned(),
    };
    let mut encoded = read_file(payload, MAX_INPUT_BYTES)?;
    encoded.retain(|byte| !byte.is_ascii_whitespace());
    let bytes = BASE64.decode(encoded.as_slice()).map_err(|_| wrong())?;
    let mut trial = Zeroizing::new(bytes.clone());
    open_single(&key, &mut trial).map_err(|_| wrong())?;
    Ok(Sealed {
        key,
        u,
        v,
        bytes,
        unpacked_bytes: None,
    })
}

/// Reads a whole file into memory that is wiped.
///
/// # Errors
/// [`SealError::Read`], and [`SealError::TooLarge`] beyond `limit` bytes.
pub fn read_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let read = |source| SealError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    read_open(path, file, size, limit)
}

/// Reads an open file of a known size. The buffer is never moved, so no copy of the content stays behind.
fn read_open(
    path: &Path,
    file: std::fs::File,
    size: u64,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    use io::Read as _;
    let too_large = || SealError::TooLarge {
        path: path.to_owned(),
        limit,
    };
    let capacity = usize::try_from(size)
        .ok()
        .filter(|_| size <= limit)
        .ok_or_else(too_large)?;
    // One byte more than the size shows whether the file has grown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity + 1));
    file.take(size + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| SealError::Read {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() == capacity {
        Ok(bytes)
    } else {
        Err(SealError::Changed {
            path: path.to_owned(),
        })
    }
}

pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SealError> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng
        .try_fill_bytes(bytes.as_mut_slice())
        .map_err(|error| SealError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Lowercase hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

#[cfg(test)]
mod tests;
