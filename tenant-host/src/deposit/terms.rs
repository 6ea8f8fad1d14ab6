//! On which terms a payload is deposited: when it is released, what runs, what ends a boot's chance.

use agent_core::wire::manifest::{CapPcr, DEFAULT_CAP_PCR, Deliver, MAX_CAP_VALUES, Manifest};
use agent_core::wire::quote::{Digest, HashAlg};
use agent_core::wire::text::parse_hex;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The script that runs unless another is named.
///
/// Source: `payload_script` in Keylime's agent.conf.
pub const DEFAULT_SCRIPT: &str = "autorun.sh";

/// The longest span that is taken: ten years.
const MAX_SPAN_SECONDS: u64 = 10 * 366 * 24 * 3600;

/// When a payload is to be released, before it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In one boot.
    Once,
    /// In every boot.
    PerBoot,
    /// In every boot until this time, in seconds since 1970.
    Until(u64),
    /// In every boot for so many seconds after the sealing.
    For(u64),
}

/// Which script is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptWish {
    /// None.
    None,
    /// This one, which the payload must have.
    Named(String),
}

/// What was asked for; the rest is as it was, or as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// When it is released.
    pub deliver: Option<When>,
    /// The floor.
    pub floor: Option<u64>,
    /// What runs.
    pub script: Option<ScriptWish>,
    /// How long a copy may be opened, in seconds; `Some(None)` for never.
    pub last_good: Option<Option<u64>>,
    /// The PCR that is capped.
    pub cap_pcr: Option<u8>,
    /// Its values that count as uncapped, in hex.
    pub cap_values: Vec<String>,
}

/// The terms of one deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it is released.
    pub deliver: Deliver,
    /// The floor.
    pub floor: Option<u64>,
    /// What runs.
    pub script: Option<String>,
    /// How long a copy may be opened, in seconds.
    pub last_good_seconds: Option<u64>,
    /// What ends a boot's chance.
    pub cap: CapPcr,
}

/// Why terms can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TermsError {
    /// `--deliver` is none of its words.
    #[error(
        "--deliver {text:?}: once, per-boot, or until=TIME with a time such as 2030-01-31T12:00:00Z or +7d"
    )]
    When {
        /// What was given.
        text: String,
    },
    /// The time is over.
    #[error("--deliver until={until}: that is over, it is {now} now (seconds since 1970)")]
    Over {
        /// The end, in seconds since 1970.
        until: u64,
        /// Now.
        now: u64,
    },
    /// The payload has no such script.
    #[error("--script {name:?}: the payload has no file of that name at its top")]
    NoScript {
        /// The name.
        name: String,
    },
    /// A value of the cap PCR isn't one of its bank.
    #[error("--cap-value {text:?} is no {} value: {} hexadecimal digits", bank.name(), 2 * bank.digest_bytes())]
    CapValue {
        /// What was given.
        text: String,
        /// The bank.
        bank: HashAlg,
    },
    /// More values of the cap PCR than a manifest holds.
    #[error("--cap-value: {have} values, at most {MAX_CAP_VALUES} fit into the manifest")]
    CapValues {
        /// How many were given.
        have: usize,
    },
    /// The floor can't count on.
    #[error("the last floor {last} can't be counted on")]
    Floor {
        /// The last one.
        last: u64,
    },
    /// A floor below the last one.
    #[error("--floor {wanted} is below the last one, {last}: the node would refuse it")]
    FloorBack {
        /// What was given.
        wanted: u64,
        /// The last one.
        last: u64,
    },
    /// No bank has a value for every PCR of the policy.
    #[error(
        "--tpm_policy has no SHA-256, SHA-384 or SHA-512 bank of which every PCR has a value: quotes are of one bank"
    )]
    NoBank,
}

impl Wishes {
    /// The terms: what was asked for, else what the last deposit had, else what is usual.
    ///
    /// # Errors
    /// [`TermsError`].
    pub fn resolve(
        &self,
        last: Option<&Manifest>,
        bank: HashAlg,
        files: &[String],
        now: u64,
    ) -> Result<Terms, TermsError> {
        Ok(Terms {
            deliver: self.deliver(last, now)?,
            floor: self.floor(last)?,
            script: self.script(last, files)?,
            last_good_seconds: self
                .last_good
                .unwrap_or_else(|| last.and_then(|last| last.last_good_seconds)),
            cap: self.cap(last, bank)?,
        })
    }

    fn deliver(&self, last: Option<&Manifest>, now: u64) -> Result<Deliver, TermsError> {
        let deliver = match self.deliver {
            Some(When::Once) => Deliver::Once,
            Some(When::PerBoot) => Deliver::PerBoot,
            Some(When::Until(time)) => Deliver::Until(time),
            Some(When::For(span)) => Deliver::Until(now.saturating_add(span)),
            None => last.map_or(Deliver::PerBoot, |last| last.deliver),
        };
        match deliver {
            Deliver::Until(until) if until <= now => Err(TermsError::Over { until, now }),
            deliver => Ok(deliver),
        }
    }

    fn floor(&self, last: Option<&Manifest>) -> Result<Option<u64>, TermsError> {
        let last = last.and_then(|last| last.floor);
        match (self.floor, last) {
            (Some(wanted), Some(last)) if wanted < last => {
                Err(TermsError::FloorBack { wanted, last })
            }
            (Some(wanted), _) => Ok(Some(wanted)),
            (None, Some(last)) => last
                .checked_add(1)
                .map(Some)
                .ok_or(TermsError::Floor { last }),
            (None, None) => Ok(None),
        }
    }

    fn script(
        &self,
        last: Option<&Manifest>,
        files: &[String],
    ) -> Result<Option<String>, TermsError> {
        let has = |name: &str| files.iter().any(|file| file == name);
        let name = match (&self.script, last) {
            (Some(ScriptWish::None), _) => return Ok(None),
            (Some(ScriptWish::Named(name)), _) => name.clone(),
            (None, Some(last)) => match &last.script {
                Some(name) => name.as_str().to_owned(),
                None => return Ok(None),
            },
            (None, None) if has(DEFAULT_SCRIPT) => DEFAULT_SCRIPT.to_owned(),
            (None, None) => return Ok(None),
        };
        if has(&name) {
            Ok(Some(name))
        } else {
            Err(TermsError::NoScript { name })
        }
    }

    fn cap(&self, last: Option<&Manifest>, bank: HashAlg) -> Result<CapPcr, TermsError> {
        let usual = last.map_or(DEFAULT_CAP_PCR, |last| last.cap.pcr);
        let pcr = self.cap_pcr.unwrap_or(usual);
        let mut cap = CapPcr::at_zero(pcr, bank);
        if self.cap_values.is_empty() {
            let same = last.filter(|last| (last.cap.pcr, last.cap.bank) == (pcr, bank));
            return Ok(same.map_or(cap, |last| last.cap.clone()));
        }
        cap.values.clear();
        for text in &self.cap_values {
            let value = digest(text, bank).ok_or_else(|| TermsError::CapValue {
                text: text.clone(),
                bank,
            })?;
            let have = self.cap_values.len();
            cap.values
                .push(value)
                .map_err(|_| TermsError::CapValues { have })?;
        }
        Ok(cap)
    }
}

/// Reads `once`, `per-boot`, `until=TIME`.
///
/// # Errors
/// [`TermsError::When`].
pub fn when(text: &str) -> Result<When, TermsError> {
    let error = || TermsError::When {
        text: text.to_owned(),
    };
    match text {
        "once" => return Ok(When::Once),
        "per-boot" => return Ok(When::PerBoot),
        _ => {}
    }
    let time = text.strip_prefix("until=").ok_or_else(error)?;
    if let Some(later) = time.strip_prefix('+') {
        return span(later).map(When::For).ok_or_else(error);
    }
    let time = OffsetDateTime::parse(time, &Rfc3339).map_err(|_| error())?;
    let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| error())?;
    Ok(When::Until(seconds))
}

/// Reads a span such as `90s`, `30m`, `12h`, `7d` or `2w`, in seconds.
#[must_use]
pub fn span(text: &str) -> Option<u64> {
    const UNITS: [(char, u64); 5] = [
        ('s', 1),
        ('m', 60),
        ('h', 3600),
        ('d', 24 * 3600),
        ('w', 7 * 24 * 3600),
    ];
    let (number, seconds) = UNITS
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)))?;
    if !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let span = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (1..=MAX_SPAN_SECONDS).contains(&span).then_some(span)
}

/// The bank that a `tpm_policy` is about: the first of SHA-256, SHA-384 and SHA-512 of which each PCR has a value.
///
/// # Errors
/// [`TermsError::NoBank`].
pub fn bank_of(tpm_policy: &str) -> Result<HashAlg, TermsError> {
    // It was parsed and checked before; what isn't an object names no PCR.
    let policy: Map<String, Value> = serde_json::from_str(tpm_policy).unwrap_or_default();
    let has = |values: &Value, bank: HashAlg| {
        let of_bank = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| text.len() == 2 * bank.digest_bytes())
        };
        match values {
            Value::Array(values) => values.iter().any(of_bank),
            single => of_bank(single),
        }
    };
    [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|bank| named(&policy).all(|(_, values)| has(values, *bank)))
        .ok_or(TermsError::NoBank)
}

/// Whether a `tpm_policy` names a PCR that the boot extends: 0 to 9 and 11 to 14.
#[must_use]
pub fn names_boot(tpm_policy: &str) -> bool {
    let policy: Map<String, Value> = serde_json::from_str(tpm_policy).unwrap_or_default();
    let mut pcrs = named(&policy).filter_map(|(name, _)| name.parse::<u8>().ok());
    pcrs.any(|pcr| matches!(pcr, 0..=9 | 11..=14))
}

/// Whether a `tpm_policy` names this PCR.
#[must_use]
pub fn names_pcr(tpm_policy: &str, pcr: u8) -> bool {
    let policy: Map<String, Value> = serde_json::from_str(tpm_policy).unwrap_or_default();
    policy.contains_key(&pcr.to_string())
}

fn named(policy: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    policy.iter().filter(|(name, _)| *name != "mask")
}

fn digest(text: &str, bank: HashAlg) -> Option<Digest> {
    let text = text.as_bytes();
    match bank {
        HashAlg::Sha256 => Digest::from_slice(&parse_hex::<32>(text)?).ok(),
        HashAlg::Sha384 => Digest::from_slice(&parse_hex::<48>(text)?).ok(),
        HashAlg::Sha512 => Digest::from_slice(&parse_hex::<64>(text)?).ok(),
    }
}

#[cfg(test)]
mod tests;
