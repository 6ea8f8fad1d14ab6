//! `tpm_policy`: which PCR may hold which values.
//!
//! JSON text `{"22": ["hex", ...], "15": "hex", "mask": "0x408000"}`: each named PCR must hold one of its values. What the
//! policy names is always quoted, whatever the mask says, so a named PCR can't go unjudged.
//!
//! Ours besides: `"sets": [{"4": "hex", "9": "hex"}, ...]`, values that belong together. All of one set must hold, so the old
//! kernel with the new command line doesn't pass where each of them was allowed with its own.
//!
//! Source: Keylime's `tpm_policy`; PCR 10 belongs to IMA and PCR 16 to the transport key.

use std::fmt;

use agent_core::wire::quote::{Digest, HashAlg, PCR_COUNT, PcrMask};
use agent_core::wire::text::Hex;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

use super::{Pairs, from_hex};

/// What a `tpm_policy` text can be refused for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not a JSON object.
    #[error("tpm_policy is not a JSON object: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// A key that is neither `mask` nor the number of a PCR.
    #[error("tpm_policy names \"{name}\", which is no PCR; PCRs are \"0\" to \"23\"")]
    UnknownPcr {
        /// The key.
        name: String,
    },
    /// A key that comes twice.
    #[error("tpm_policy names \"{name}\" twice")]
    Twice {
        /// The key.
        name: String,
    },
    /// A PCR that a tenant may not fix.
    #[error("tpm_policy fixes PCR {pcr}, which is reserved: {owner}")]
    Reserved {
        /// The PCR.
        pcr: u8,
        /// Who extends it.
        owner: &'static str,
    },
    /// No value at all: nothing would pass.
    #[error("tpm_policy gives PCR {pcr} no value; a list of hexadecimal digests is needed")]
    NoValue {
        /// The PCR.
        pcr: u8,
    },
    /// Not the hexadecimal text of a digest.
    #[error(
        "tpm_policy wants \"{value}\" in PCR {pcr}, which is no SHA-1, SHA-256, SHA-384 or SHA-512 digest in hexadecimal"
    )]
    NotADigest {
        /// The PCR.
        pcr: u8,
        /// The value, cut to a line.
        value: String,
    },
    /// Sets that aren't what sets are.
    #[error(
        "tpm_policy has {have} sets, and from 1 to {limit} objects of PCRs and digests are taken, each with one PCR at least"
    )]
    Sets {
        /// How many; 0 for what isn't a list, or holds an empty set.
        have: usize,
        /// How many are taken.
        limit: usize,
    },
    /// A mask that is no set of PCRs.
    #[error("tpm_policy has the mask {value}, which is no set of PCRs 0 to 23 in hexadecimal text")]
    Mask {
        /// The mask.
        value: String,
    },
}

/// A policy that can be judged: each PCR that it names, with one value at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmPolicy {
    wanted: Wanted,
    /// One of these must hold; none is no demand.
    sets: Vec<Wanted>,
    mask: PcrMask,
}

/// PCRs in ascending order, each with the values that it may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted(Vec<(u8, Vec<Digest>)>);

/// A PCR that didn't hold what the policy wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrMismatch {
    /// The PCR.
    pub pcr: u8,
    /// What it held; `None` if the quote didn't cover it.
    pub got: Option<Digest>,
    /// What it could have held.
    pub expected: Vec<Digest>,
    /// Which set this is of, from 1, and how many there are; none for a PCR that the policy names by itself.
    pub set: Option<(usize, usize)>,
}

impl TpmPolicy {
    /// Parses the JSON text.
    ///
    /// # Errors
    /// A text that isn't such an object, or a PCR in it that can't be judged.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let json = |error: serde_json::Error| PolicyError::Json {
            reason: error.to_string(),
        };
        // As it stands: reading a set as a value would hide a PCR that it names twice.
        let pairs: Pairs<Box<RawValue>> = serde_json::from_str(text).map_err(json)?;
        let mut policy = Self::default();
        let mut masked = false;
        for (name, raw) in pairs.0 {
            let value = || serde_json::from_str::<Value>(raw.get()).map_err(json);
            match name.as_str() {
                MASK if masked => return Err(PolicyError::Twice { name }),
                MASK => (policy.mask, masked) = (mask(&value()?)?, true),
                SETS if !policy.sets.is_empty() => return Err(PolicyError::Twice { name }),
                SETS => policy.sets = sets(raw.get())?,
                _ => policy.wanted.add(name, &value()?)?,
            }
        }
        let all = policy.sets.iter().chain([&policy.wanted]);
        let named = all.flat_map(|wanted| &wanted.0);
        policy.mask = named.fold(policy.mask, |mask, (pcr, _)| mask.with(*pcr));
        Ok(policy)
    }

    /// The PCRs to quote: the tenant's mask and all that the policy names.
    #[must_use]
    pub const fn mask(&self) -> PcrMask {
        self.mask
    }

    /// Whether no PCR is named, so that every boot passes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.wanted.0.is_empty() && self.sets.is_empty()
    }

    /// Whether this bank can satisfy the policy: each PCR that it names has a value as long as the bank's digest, and so has
    /// each of one set.
    #[must_use]
    pub fn fits(&self, bank: HashAlg) -> bool {
        let any = self.sets.is_empty() || self.sets.iter().any(|set| set.fits(bank));
        any && self.wanted.fits(bank)
    }

    /// Whether it decides about a PCR that the boot itself extends: 0 to 9, 11 to 14. A set that doesn't would let every boot
    /// pass, so each has to.
    #[must_use]
    pub fn names_boot_pcr(&self) -> bool {
        let sets = !self.sets.is_empty() && self.sets.iter().all(Wanted::names_boot_pcr);
        sets || self.wanted.names_boot_pcr()
    }

    /// Refuses a policy that names one of these PCRs, because something else decides about them.
    ///
    /// # Errors
    /// [`PolicyError::Reserved`] with the lowest of them.
    pub fn refuse(&self, reserved: PcrMask, owner: &'static str) -> Result<(), PolicyError> {
        let all = self.sets.iter().chain([&self.wanted]);
        let named = all.flat_map(|wanted| &wanted.0).map(|(pcr, _)| *pcr);
        match named.filter(|pcr| reserved.contains(*pcr)).min() {
            Some(pcr) => Err(PolicyError::Reserved { pcr, owner }),
            None => Ok(()),
        }
    }

    /// Compares verified PCR values with the policy.
    ///
    /// # Errors
    /// The first PCR, in ascending order, that isn't there or holds none of its values; of sets, what is wrong with the one
    /// that comes closest.
    pub fn judge(&self, values: &[(u8, Digest)]) -> Result<(), Box<PcrMismatch>> {
        self.wanted.judge(values)?;
        let mut closest: Option<(usize, PcrMismatch)> = None;
        for (number, set) in (1..).zip(&self.sets) {
            let Err(mismatch) = set.judge(values) else {
                return Ok(());
            };
            let wrong = set.wrong(values);
            if closest.as_ref().is_none_or(|(least, _)| wrong < *least) {
                let set = Some((number, self.sets.len()));
                closest = Some((wrong, PcrMismatch { set, ..*mismatch }));
            }
        }
        closest.map_or(Ok(()), |(_, mismatch)| Err(Box::new(mismatch)))
    }
}

impl Wanted {
    fn add(&mut self, name: String, value: &Value) -> Result<(), PolicyError> {
        let pcr = pcr_number(name.clone())?;
        match self.0.binary_search_by_key(&pcr, |(pcr, _)| *pcr) {
            Ok(_) => return Err(PolicyError::Twice { name }),
            Err(place) => self.0.insert(place, (pcr, digests(pcr, value)?)),
        }
        Ok(())
    }

    fn fits(&self, bank: HashAlg) -> bool {
        let size = bank.digest_bytes();
        let has = |values: &[Digest]| values.iter().any(|value| value.len() == size);
        self.0.iter().all(|(_, values)| has(values))
    }

    fn names_boot_pcr(&self) -> bool {
        let boot = |pcr: u8| matches!(pcr, 0..=9 | 11..=14);
        self.0.iter().any(|(pcr, _)| boot(*pcr))
    }

    fn mismatches(&self, values: &[(u8, Digest)]) -> impl Iterator<Item = PcrMismatch> {
        self.0.iter().filter_map(|(pcr, expected)| {
            let mut values = values.iter();
            let got = values
                .find(|(number, _)| number == pcr)
                .map(|(_, value)| value);
            let holds = got.is_some_and(|value| expected.contains(value));
            (!holds).then(|| PcrMismatch {
                pcr: *pcr,
                got: got.cloned(),
                expected: expected.clone(),
                set: None,
            })
        })
    }

    fn judge(&self, values: &[(u8, Digest)]) -> Result<(), Box<PcrMismatch>> {
        let first = self.mismatches(values).next();
        first.map_or(Ok(()), |mismatch| Err(Box::new(mismatch)))
    }

    fn wrong(&self, values: &[(u8, Digest)]) -> usize {
        self.mismatches(values).count()
    }
}

impl fmt::Display for PcrMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.got {
            Some(got) => write!(f, "PCR {} held {}, wanted ", self.pcr, Hex(got))?,
            None => write!(f, "PCR {} was not in the quote, wanted ", self.pcr)?,
        }
        match self.expected.as_slice() {
            [one] => write!(f, "{}", Hex(one))?,
            several => {
                f.write_str("one of")?;
                several
                    .iter()
                    .try_for_each(|value| write!(f, " {}", Hex(value)))?;
            }
        }
        match self.set {
            None | Some((_, 1)) => Ok(()),
            Some((number, all)) => write!(f, " (set {number}, the closest of {all})"),
        }
    }
}

fn pcr_number(name: String) -> Result<u8, PolicyError> {
    let number = name.parse::<u8>().ok().filter(|number| {
        let canonical = number.to_string() == name;
        canonical && *number < PCR_COUNT
    });
    match number {
        None => Err(PolicyError::UnknownPcr { name }),
        Some(pcr) => match RESERVED.iter().find(|(reserved, _)| *reserved == pcr) {
            Some((_, owner)) => Err(PolicyError::Reserved { pcr, owner }),
            None => Ok(pcr),
        },
    }
}

fn digests(pcr: u8, value: &Value) -> Result<Vec<Digest>, PolicyError> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    if values.is_empty() {
        return Err(PolicyError::NoValue { pcr });
    }
    values.iter().map(|value| digest(pcr, value)).collect()
}

fn digest(pcr: u8, value: &Value) -> Result<Digest, PolicyError> {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let refused = || PolicyError::NotADigest {
        pcr,
        value: text
            .chars()
            .take(2 * Digest::new().capacity() + 2)
            .collect(),
    };
    let digest = from_hex(&text).ok_or_else(refused)?;
    if DIGEST_BYTES.contains(&digest.len()) {
        Ok(digest)
    } else {
        Err(refused())
    }
}

fn sets(text: &str) -> Result<Vec<Wanted>, PolicyError> {
    let refused = |have| PolicyError::Sets {
        have,
        limit: MAX_SETS,
    };
    let sets: Vec<Pairs<Value>> = serde_json::from_str(text).map_err(|_| refused(0))?;
    if sets.is_empty() || sets.len() > MAX_SETS {
        return Err(refused(sets.len()));
    }
    let set = |pairs: Pairs<Value>| {
        let mut wanted = Wanted::default();
        for (name, value) in pairs.0 {
            wanted.add(name, &value)?;
        }
        if wanted.0.is_empty() {
            return Err(refused(0));
        }
        Ok(wanted)
    };
    sets.into_iter().map(set).collect()
}

fn mask(value: &Value) -> Result<PcrMask, PolicyError> {
    let bits = value.as_str().and_then(|text| {
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        let plain = digits.bytes().all(|letter| letter.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| plain)
    });
    bits.and_then(PcrMask::from_bits)
        .ok_or_else(|| PolicyError::Mask {
            value: value.to_string(),
        })
}

const MASK: &str = "mask";
const SETS: &str = "sets";

/// A fleet's boots, with room for updates.
const MAX_SETS: usize = 256;

/// PCRs that something else than the boot extends, and who.
const RESERVED: &[(u8, &str)] = &[
    (10, "IMA extends it with every file"),
    (16, "the agent binds its transport key with it"),
];

/// Sizes of digests that Keylime's policies list. A SHA-1 value may stand beside others, though no SHA-1 bank is accepted.
const DIGEST_BYTES: &[usize] = &[20, 32, 48, 64];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn parses_or_says_what_is_wrong() {
        let parse = |text: &str| {
            TpmPolicy::parse(&text.replace('Z', ZEROS)).map(|policy| policy.mask().bits())
        };
        let unknown = |name: &str| PolicyError::UnknownPcr { name: name.into() };
        let twice = |name: &str| PolicyError::Twice { name: name.into() };
        let no_digest = |value: &str| PolicyError::NotADigest {
            pcr: 1,
            value: value.into(),
        };
        let no_mask = |value: &str| PolicyError::Mask {
            value: value.into(),
        };
        let no_sets = |have| PolicyError::Sets {
            have,
            limit: MAX_SETS,
        };
        for (text, expected) in [
            ("{}", Ok(0)),
            (r#"{"mask": "0x0"}"#, Ok(0)),
            (r#"{"mask": "408000"}"#, Ok(0x40_8000)),
            (r#"{"22": ["Z"], "15": "Z", "mask": "0x1"}"#, Ok(0x40_8001)),
            (
                r#"{"0": ["0000000000000000000000000000000000000000", "Z"]}"#,
                Ok(1),
            ),
            (r#"{"24": ["Z"]}"#, Err(unknown("24"))),
            (r#"{"022": ["Z"]}"#, Err(unknown("022"))),
            (r#"{"+2": ["Z"]}"#, Err(unknown("+2"))),
            (r#"{"pcr": ["Z"]}"#, Err(unknown("pcr"))),
            (r#"{"2": "Z", "2": "Z"}"#, Err(twice("2"))),
            (r#"{"mask": "1", "mask": "1"}"#, Err(twice("mask"))),
            (r#"{"1": []}"#, Err(PolicyError::NoValue { pcr: 1 })),
            (r#"{"1": null}"#, Err(PolicyError::NoValue { pcr: 1 })),
            (r#"{"1": [1]}"#, Err(no_digest("1"))),
            (r#"{"1": "abc"}"#, Err(no_digest("abc"))),
            (r#"{"1": "zz"}"#, Err(no_digest("zz"))),
            (r#"{"1": ""}"#, Err(no_digest(""))),
            (r#"{"mask": "0x1000000"}"#, Err(no_mask("\"0x1000000\""))),
            (r#"{"mask": "+1"}"#, Err(no_mask("\"+1\""))),
            (r#"{"mask": 1}"#, Err(no_mask("1"))),
            (
                r#"{"sets": [{"4": "Z", "9": ["Z"]}, {"7": "Z"}], "0": "Z"}"#,
                Ok(0x291),
            ),
            (r#"{"sets": []}"#, Err(no_sets(0))),
            (r#"{"sets": [{}]}"#, Err(no_sets(0))),
            (r#"{"sets": {"4": "Z"}}"#, Err(no_sets(0))),
            (
                r#"{"sets": [{"4": "Z"}], "sets": [{"4": "Z"}]}"#,
                Err(twice("sets")),
            ),
            (r#"{"sets": [{"4": "Z", "4": "Z"}]}"#, Err(twice("4"))),
            (
                r#"{"sets": [{"4": []}]}"#,
                Err(PolicyError::NoValue { pcr: 4 }),
            ),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        let boot = TpmPolicy::parse(&format!(r#"{{"23": "{ZEROS}", "9": "{ZEROS}"}}"#)).unwrap();
        let reserved = PolicyError::Reserved {
            pcr: 9,
            owner: "boot",
        };
        assert_eq!(boot.refuse(PcrMask::EMPTY.with(9), "boot"), Err(reserved));
        assert_eq!(boot.refuse(PcrMask::EMPTY.with(8), "boot"), Ok(()));
        for reserved in [10, 16] {
            let error = parse(&format!(r#"{{"{reserved}": "Z"}}"#)).unwrap_err();
            assert!(matches!(error, PolicyError::Reserved { pcr, .. } if pcr == reserved));
        }
        for text in ["", "[]", "null", "{'1': 'x'}", "\"{}\""] {
            assert!(
                matches!(parse(text), Err(PolicyError::Json { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn judges_with_both_sides() {
        let digest = |byte: u8, size: usize| Digest::from_slice(&vec![byte; size]).unwrap();
        let text = format!(
            r#"{{"7": ["{}", "{}"], "2": "{}"}}"#,
            "AB".repeat(32),
            "cd".repeat(48),
            "00".repeat(32)
        );
        let policy = TpmPolicy::parse(&text).unwrap();
        let seven = vec![digest(0xab, 32), digest(0xcd, 48)];
        let mismatch = |pcr, got, expected: &[Digest]| {
            Err(Box::new(PcrMismatch {
                pcr,
                got,
                expected: expected.to_vec(),
                set: None,
            }))
        };
        for (name, values, expected) in [
            (
                "first of the list",
                vec![(2, digest(0, 32)), (7, digest(0xab, 32))],
                Ok(()),
            ),
            (
                "second of the list",
                vec![(2, digest(0, 32)), (7, digest(0xcd, 48))],
                Ok(()),
            ),
            (
                "wrong",
                vec![(2, digest(0, 32)), (7, digest(0, 32))],
                mismatch(7, Some(digest(0, 32)), &seven),
            ),
            (
                "right digits, other bank",
                vec![(2, digest(0, 48)), (7, digest(0xab, 32))],
                mismatch(2, Some(digest(0, 48)), &[digest(0, 32)]),
            ),
            (
                "not quoted",
                vec![(2, digest(0, 32))],
                mismatch(7, None, &seven),
            ),
            (
                "nothing quoted",
                vec![],
                mismatch(2, None, &[digest(0, 32)]),
            ),
        ] {
            assert_eq!(policy.judge(&values), expected, "{name}");
        }
        let mismatch = policy.judge(&[]).unwrap_err();
        assert_eq!(
            mismatch.to_string(),
            format!("PCR 2 was not in the quote, wanted {ZEROS}")
        );
    }

    /// The old kernel with the new command line is neither the old boot nor the new one.
    #[test]
    fn values_of_a_set_belong_together() {
        let digest = |byte: u8| Digest::from_slice(&[byte; 32]).unwrap();
        let hex = |byte: u8| format!("{byte:02x}").repeat(32);
        let text = format!(
            r#"{{"0": "{}", "sets": [{{"4": "{}", "9": "{}"}}, {{"4": "{}", "9": ["{}", "{}"]}}]}}"#,
            hex(0),
            hex(0x41),
            hex(0x91),
            hex(0x42),
            hex(0x92),
            hex(0x93)
        );
        let policy = TpmPolicy::parse(&text).unwrap();
        assert!(policy.fits(HashAlg::Sha256) && !policy.fits(HashAlg::Sha384));
        assert!(policy.names_boot_pcr() && !policy.is_empty());
        for (zero, four, nine, expected) in [
            (0, 0x41, 0x91, None),
            (0, 0x42, 0x92, None),
            (0, 0x42, 0x93, None),
            (0, 0x41, 0x92, Some((9, Some((1, 2))))),
            (0, 0x42, 0x91, Some((4, Some((1, 2))))),
            (0, 0x40, 0x93, Some((4, Some((2, 2))))),
            (0, 0x40, 0x90, Some((4, Some((1, 2))))),
            (1, 0x41, 0x91, Some((0, None))),
        ] {
            let values = [(0, digest(zero)), (4, digest(four)), (9, digest(nine))];
            let found = policy.judge(&values).err().map(|it| (it.pcr, it.set));
            assert_eq!(found, expected, "{zero:x} {four:x} {nine:x}");
        }
        let values = [(0, digest(0)), (4, digest(0x41)), (9, digest(0x92))];
        let text = policy.judge(&values).unwrap_err().to_string();
        assert!(text.ends_with("(set 1, the closest of 2)"), "{text}");
        let reserved = PolicyError::Reserved {
            pcr: 4,
            owner: "boot",
        };
        assert_eq!(
            policy.refuse(PcrMask::from_bits(0x210).unwrap(), "boot"),
            Err(reserved)
        );
    }
}
