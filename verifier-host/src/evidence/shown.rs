//! What a node showed when it failed: enough to judge it again, and to say why. Nothing in it is secret.

use std::collections::BTreeMap;

use agent_core::wire::quote::{DumpError, HashAlg, PcrDump};
use agent_core::wire::text::Hex;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ima::Replayed;

/// Evidence that didn't hold, after its quote was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Version of this form.
    pub version: u32,
    /// What the verifier said of it.
    pub failure: String,
    /// The quoted bank.
    pub bank: String,
    /// The quoted values, in hex, by the numbers of their PCRs.
    pub pcrs: BTreeMap<u8, String>,
    /// The node's `tpm_policy`.
    pub tpm_policy: String,
    /// The name of its runtime policy.
    pub runtime_policy: Option<String>,
    /// The name of its measured-boot policy.
    pub mb_policy: Option<String>,
    /// Its IMA list, where a policy was about it.
    pub ima: Option<ShownList>,
    /// Its boot log in base64, where a policy was about it.
    pub boot_log: Option<String>,
}

/// Lines of an IMA list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownList {
    /// Number of lines before them, which an earlier quote explained.
    pub after: u64,
    /// PCR 10 after those, in hex.
    pub pcr: String,
    /// The line that the quote had to be of, at the earliest.
    pub at_least: u64,
    /// The lines.
    pub lines: String,
    /// Whether there were more than are kept.
    pub is_cut: bool,
}

/// Why evidence can't be judged again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShownError {
    /// Another form.
    #[error("it is evidence of version {found}, and version {known} is understood")]
    Version {
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A bank that isn't quoted.
    #[error("its bank is {bank:?}, which is none of sha256, sha384 and sha512")]
    Bank {
        /// The bank.
        bank: String,
    },
    /// Values that no quote has.
    #[error("its PCR values aren't such of a quote: {0:?}")]
    Values(DumpError),
    /// Text that isn't hexadecimal or base64.
    #[error("its {0} can't be decoded")]
    Text(&'static str),
}

impl Shown {
    /// The values as a quote had them.
    ///
    /// # Errors
    /// [`ShownError`].
    pub fn quoted(&self) -> Result<PcrDump, ShownError> {
        if self.version != VERSION {
            return Err(ShownError::Version {
                found: self.version,
                known: VERSION,
            });
        }
        let bank = HashAlg::from_name(&self.bank).ok_or_else(|| ShownError::Bank {
            bank: self.bank.chars().take(MAX_NAME_CHARS).collect(),
        })?;
        let value = |(pcr, text): (&u8, &String)| {
            let value = crate::policy::from_hex(text);
            Ok((*pcr, value.ok_or(ShownError::Text("PCR values"))?))
        };
        let values = self.pcrs.iter().map(value).collect::<Result<_, _>>()?;
        PcrDump::new(bank, values).map_err(ShownError::Values)
    }

    /// The boot log.
    ///
    /// # Errors
    /// [`ShownError::Text`].
    pub fn boot_log(&self) -> Result<Option<Vec<u8>>, ShownError> {
        let decoded = self
            .boot_log
            .as_ref()
            .map(|text| BASE64_STANDARD.decode(text));
        decoded
            .transpose()
            .map_err(|_| ShownError::Text("boot log"))
    }
}

impl ShownList {
    /// What is known of the lines before these.
    ///
    /// # Errors
    /// [`ShownError::Text`].
    pub fn from(&self) -> Result<Replayed, ShownError> {
        let pcr = crate::policy::from_hex(&self.pcr);
        Ok(Replayed {
            lines: self.after,
            pcr: pcr.ok_or(ShownError::Text("PCR 10"))?,
        })
    }

    /// Lines after what is known, as many as are kept.
    #[must_use]
    pub fn of(lines: &str, from: &Replayed, at_least: u64) -> Self {
        let kept = match lines.len() {
            0..=MAX_KEPT_BYTES => lines,
            _ => {
                let most = lines.floor_char_boundary(MAX_KEPT_BYTES);
                let end = lines[..most].rfind('\n').map_or(0, |end| end + 1);
                &lines[..end]
            }
        };
        Self {
            after: from.lines,
            pcr: Hex(&from.pcr).to_string(),
            at_least,
            lines: kept.to_owned(),
            is_cut: kept.len() < lines.len(),
        }
    }
}

/// The form that is written.
pub const VERSION: u32 = 1;

/// How much of a list is kept: some 100,000 lines.
const MAX_KEPT_BYTES: usize = 16 << 20;

const MAX_NAME_CHARS: usize = 20;
