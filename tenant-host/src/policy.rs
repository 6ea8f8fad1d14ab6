//! Policies that an operator gives: read, checked as a whole, and ready for the verifier before anything is sent.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::wire::text::Hex;
use sha2::{Digest as _, Sha256};
use verifier_host::policy::runtime::{
    KeyError, MAX_POLICY_BYTES, PolicyKey, RuntimePolicy, RuntimePolicyError,
};

mod allowlist;
pub mod create;
pub mod diff;
pub(crate) mod fetch;
pub mod kind;
pub mod lint;
pub mod next_boot;
pub mod sign;
pub mod tool;

pub use allowlist::AllowlistError;
pub use fetch::FetchError;
pub use verifier_host::policy::{NameError, PolicyKind, PolicyName};

/// The largest key or certificate file.
const MAX_KEY_BYTES: usize = 64 << 10;

/// The largest measured-boot policy; one with the hashes of a whole fleet's boots has some 100 KB.
const MAX_MEASURED_BOOT_BYTES: usize = 4 << 20;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A web server.
    Url(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// What comes from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A runtime policy; signed, if there is a key.
    Policy {
        /// The file of the key that must have signed it.
        key: Option<PathBuf>,
    },
    /// An allowlist, to be converted.
    Allowlist {
        /// A file with regular expressions to exclude.
        exclude: Option<PathBuf>,
    },
}

/// A runtime policy that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeFile {
    /// Where it comes from.
    pub source: Source,
    /// What it is.
    pub form: Form,
    /// The SHA-256 that its bytes must have, in lowercase hexadecimal.
    pub checksum: Option<String>,
}

/// Which runtime policy is meant: one that is given, one that the verifier keeps, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// Its name at the verifier.
    pub name: Option<PolicyName>,
    /// Where it is read.
    pub file: Option<RuntimeFile>,
}

/// Which measured-boot policy is meant: one that is given, one that the verifier keeps, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasuredBootChoice {
    /// Its name at the verifier.
    pub name: Option<PolicyName>,
    /// Where it is read.
    pub file: Option<PathBuf>,
}

/// A runtime policy that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRuntime {
    /// Its bytes; an envelope, if it is signed.
    pub bytes: Vec<u8>,
    /// The public key that it is signed by, PEM; empty if it isn't signed.
    pub key_pem: String,
}

/// A measured-boot policy that was checked, as far as its language allows: a JSON object.
///
/// Source: Keylime's verifier looks into it only when it evaluates a boot log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedMeasuredBoot {
    /// JSON text.
    pub text: String,
    /// Whether it says nothing, so that it accepts every boot log.
    pub is_empty: bool,
}

/// Why a policy can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
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
    /// A web server.
    #[error("can't fetch {url}: {source}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// What happened.
        source: FetchError,
    },
    /// Other bytes than expected.
    #[error("{origin} has the SHA-256 {found}, and --runtime-policy-checksum wants {wanted}")]
    Checksum {
        /// Where the bytes are from.
        origin: Source,
        /// Their digest.
        found: String,
        /// The one that was given.
        wanted: String,
    },
    /// The key of a signed policy.
    #[error("--runtime-policy-sig-key {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The runtime policy.
    #[error(
        "the runtime policy {origin} can't be used: {source}{}",
        next_step(source)
    )]
    Runtime {
        /// Where it is from.
        origin: Source,
        /// What is wrong with it.
        source: RuntimePolicyError,
    },
    /// The allowlist.
    #[error("the allowlist {origin} can't be converted: {source}")]
    Allowlist {
        /// Where it is from.
        origin: Source,
        /// What is wrong with it.
        source: AllowlistError,
    },
    /// The measured-boot policy.
    #[error("the measured-boot policy {} is no JSON object: {reason}", path.display())]
    MeasuredBoot {
        /// Its file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

fn next_step(error: &RuntimePolicyError) -> &'static str {
    match error {
        RuntimePolicyError::NoKey => ". --runtime-policy-sig-key names the signer's key",
        RuntimePolicyError::NotSigned => {
            ". `keyhalf-tenant policy sign` signs it; without --runtime-policy-sig-key it is taken unsigned"
        }
        _ => "",
    }
}

impl RuntimeFile {
    /// Reads or fetches it, and checks checksum, signature and content, in this order.
    ///
    /// # Errors
    /// [`PolicyFileError`].
    pub async fn read(&self, limits: fetch::Limits) -> Result<CheckedRuntime, PolicyFileError> {
        let (key_path, exclude) = match &self.form {
            Form::Policy { key } => (key.as_deref(), None),
            Form::Allowlist { exclude } => (None, exclude.as_deref()),
        };
        let key = key_path.map(read_key).transpose()?;
        let exclude = exclude
            .map(|path| read(path, MAX_POLICY_BYTES))
            .transpose()?;
        let protected = self.checksum.is_some() || key.is_some();
        let mut bytes = self.bytes(limits, protected).await?;
        self.check_sum(&bytes)?;
        if let Form::Allowlist { .. } = self.form {
            bytes = allowlist::convert(&bytes, exclude.as_deref()).map_err(|source| {
                let origin = self.source.clone();
                PolicyFileError::Allowlist { origin, source }
            })?;
        }
        RuntimePolicy::read(&bytes, key.as_ref()).map_err(|source| {
            let origin = self.source.clone();
            PolicyFileError::Runtime { origin, source }
        })?;
        Ok(CheckedRuntime {
            bytes,
            key_pem: key.map_or_else(String::new, |key| key.pem().to_owned()),
        })
    }

    async fn bytes(
        &self,
        limits: fetch::Limits,
        protected: bool,
    ) -> Result<Vec<u8>, PolicyFileError> {
        match &self.source {
            Source::File(path) => read(path, MAX_POLICY_BYTES),
            Source::Url(url) => {
                let limit = MAX_POLICY_BYTES;
                fetch::fetch(url, protected, limits, limit, fetch::system_roots)
                    .await
                    .map_err(|source| {
                        let url = url.clone();
                        PolicyFileError::Fetch { url, source }
                    })
            }
        }
    }

    fn check_sum(&self, bytes: &[u8]) -> Result<(), PolicyFileError> {
        let Some(wanted) = &self.checksum else {
            return Ok(());
        };
        let found = sha256(bytes);
        if found == *wanted {
            return Ok(());
        }
        Err(PolicyFileError::Checksum {
            origin: self.source.clone(),
            found,
            wanted: wanted.clone(),
        })
    }
}

/// The SHA-256 of a policy's bytes in hexadecimal: what tells policies apart, and what a checksum is compared with.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Hex(&Sha256::digest(bytes)).to_string()
}

/// Reads a measured-boot policy.
///
/// # Errors
/// [`PolicyFileError`].
pub fn read_measured_boot(path: &Path) -> Result<CheckedMeasuredBoot, PolicyFileError> {
    let refused = |reason| PolicyFileError::MeasuredBoot {
        path: path.to_owned(),
        reason,
    };
    let bytes = read(path, MAX_MEASURED_BOOT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
    let parsed = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
    let fields = parsed.map_err(|error| refused(error.to_string()))?;
    Ok(CheckedMeasuredBoot {
        text,
        is_empty: fields.is_empty(),
    })
}

fn read_key(path: &Path) -> Result<PolicyKey, PolicyFileError> {
    let pem = read(path, MAX_KEY_BYTES)?;
    PolicyKey::from_pem(&pem).map_err(|source| {
        let path = path.to_owned();
        PolicyFileError::Key { path, source }
    })
}

/// Reads a file, or a pipe, of at most so many bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, PolicyFileError> {
    use io::Read as _;
    let read = |source| PolicyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(read)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    if bytes.len() > limit {
        let path = path.to_owned();
        return Err(PolicyFileError::TooLarge { path, limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
