//! `tpm_policy` from values of PCRs.

use std::str::FromStr;

use agent_core::wire::quote::{Digest, HashAlg, PCR_COUNT, PcrMask};
use agent_core::wire::text::Hex;
use serde_json::{Map, Value, json};

use super::digest;

/// PCRs with their values.
pub type Values = Vec<(u8, Digest)>;

/// Why a text is no list of PCRs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no list of PCRs: numbers from 0 to 23 and ranges, such as 0-4,7,9")]
pub struct PcrListError {
    /// What was given, or the part of it that is wrong.
    pub text: String,
}

/// Some PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrList(pub PcrMask);

impl FromStr for PcrList {
    type Err = PcrListError;

    fn from_str(text: &str) -> Result<Self, PcrListError> {
        let number = |part: &str| {
            let number = part.trim().parse::<u8>().ok();
            let refused = || PcrListError {
                text: part.to_owned(),
            };
            number.filter(|pcr| *pcr < PCR_COUNT).ok_or_else(refused)
        };
        let mut mask = PcrMask::EMPTY;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(PcrListError {
                    text: part.to_owned(),
                });
            }
            mask = (first..=last).fold(mask, PcrMask::with);
        }
        Ok(Self(mask))
    }
}

/// Why the output of `tpm2_pcrread` can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrReadError {
    /// Not that output.
    #[error(
        "line {number} is neither a bank nor `NUMBER: 0xVALUE`; is it what `tpm2_pcrread` printed?"
    )]
    Line {
        /// Which one, from 1.
        number: usize,
    },
    /// A value that isn't one of its bank.
    #[error("line {number} has no {} value", bank.name())]
    Value {
        /// Which one, from 1.
        number: usize,
        /// The bank.
        bank: HashAlg,
    },
    /// A PCR that comes twice.
    #[error("line {number} gives PCR {pcr} again")]
    Twice {
        /// Which one, from 1.
        number: usize,
        /// The PCR.
        pcr: u8,
    },
    /// A PCR that isn't there.
    #[error("it has no value for PCR {pcr} in bank {}", bank.name())]
    Missing {
        /// The PCR.
        pcr: u8,
        /// The bank.
        bank: HashAlg,
    },
}

/// The values of these PCRs from the text that `tpm2_pcrread` prints.
///
/// # Errors
/// [`PcrReadError`].
pub fn parse_pcrread(text: &str, bank: HashAlg, pcrs: PcrMask) -> Result<Values, PcrReadError> {
    let mut values = Values::new();
    let mut wanted = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(PcrReadError::Line { number })?;
        let (name, value) = (name.trim(), value.trim());
        if value.is_empty() && !name.starts_with(|letter: char| letter.is_ascii_digit()) {
            wanted = name == bank.name();
            continue;
        }
        let pcr = name
            .parse::<u8>()
            .map_err(|_| PcrReadError::Line { number })?;
        if !wanted || pcr >= PCR_COUNT || !pcrs.contains(pcr) {
            continue;
        }
        if values.iter().any(|(known, _)| *known == pcr) {
            return Err(PcrReadError::Twice { number, pcr });
        }
        let digest = value
            .strip_prefix("0x")
            .or_else(|| value.strip_prefix("0X"))
            .and_then(digest);
        let digest = digest.filter(|digest| digest.len() == bank.digest_bytes());
        values.push((pcr, digest.ok_or(PcrReadError::Value { number, bank })?));
    }
    match pcrs
        .iter()
        .find(|pcr| !values.iter().any(|(known, _)| known == pcr))
    {
        Some(pcr) => Err(PcrReadError::Missing { pcr, bank }),
        None => Ok(values),
    }
}

/// The policy that wants these values, as JSON for `--tpm_policy`.
#[must_use]
pub fn write(values: &Values) -> Value {
    let mut fields = Map::new();
    for (pcr, value) in values {
        fields.insert(pcr.to_string(), json!([Hex(value).to_string()]));
    }
    let mask = values
        .iter()
        .fold(PcrMask::EMPTY, |mask, (pcr, _)| mask.with(*pcr));
    fields.insert("mask".to_owned(), json!(format!("{:#x}", mask.bits())));
    Value::Object(fields)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use verifier_host::policy::tpm::TpmPolicy;

    use super::*;

    #[test]
    fn lists_are_numbers_and_ranges() {
        let rows = [
            ("one", "7", Some(0x80)),
            ("several", "0,2, 4", Some(0x15)),
            ("a range", "0-2,7", Some(0x87)),
            ("all", "0-23", Some(0xff_ffff)),
            ("too high", "24", None),
            ("backwards", "3-1", None),
            ("empty", "", None),
            ("a word", "seven", None),
            ("an end too many", "1,", None),
        ];
        for (name, text, wanted) in rows {
            let list = text.parse::<PcrList>().ok();
            assert_eq!(list.map(|list| list.0.bits()), wanted, "{name}");
        }
    }

    /// The form of tpm2-tools 5.4.
    #[test]
    fn what_tpm2_pcrread_prints_becomes_a_policy() {
        let sha256 = |byte: &str| format!("0x{}", byte.repeat(32));
        let text = format!(
            "  sha1:\n    0 : 0x{}\n  sha256:\n    0 : {}\n    7 : {}\n    10: {}\n",
            "11".repeat(20),
            sha256("AB"),
            sha256("07"),
            sha256("10")
        );
        let read = |text: &str, pcrs: &str| {
            parse_pcrread(text, HashAlg::Sha256, pcrs.parse::<PcrList>().unwrap().0)
        };
        let values = read(&text, "0,7").unwrap();
        let policy = write(&values).to_string();
        let parsed = TpmPolicy::parse(&policy).unwrap();
        assert_eq!(parsed.mask().bits(), 0x81);
        parsed.judge(&values).unwrap();
        assert!(policy.contains(&"ab".repeat(32)));
        let bank = HashAlg::Sha256;
        let twice = format!("{text}    7 : {}\n", sha256("07"));
        let rows = [
            (
                "another bank",
                "  sha1:\n    0 : 0x11\n",
                PcrReadError::Missing { pcr: 0, bank },
            ),
            (
                "a short value",
                "sha256:\n 0 : 0x11\n",
                PcrReadError::Value { number: 2, bank },
            ),
            (
                "no prefix",
                "sha256:\n 0 : 11\n",
                PcrReadError::Value { number: 2, bank },
            ),
            ("twice", &twice, PcrReadError::Twice { number: 7, pcr: 7 }),
            ("prose", "ERROR no TPM\n", PcrReadError::Line { number: 1 }),
        ];
        for (name, text, wanted) in rows {
            assert_eq!(read(text, "0,7"), Err(wanted), "{name}");
        }
    }
}
