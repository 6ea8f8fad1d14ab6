//! The manifest: what a tenant signs of a deposited payload.
//!
//! The exact bytes are signed and sent, so there is no canonical form; a [`Manifest`] that exists keeps every rule of its
//! members. Whose signature is under it, and whether it is for this node, is checked by who reads it.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`.

use core::fmt::{self, Write};

use serde::Deserialize;

use super::json::ObjectWriter;
use super::quote::{Digest, HashAlg, PCR_COUNT};
use super::statement::STATEMENT_PCR;
use super::text::{Hex, Uuid, parse_hex};

/// The longest manifest, in bytes of JSON.
pub const MAX_MANIFEST_BYTES: usize = 4096;

/// A name of a TPM object: `000b`, then SHA-256 of its public area.
pub const NAME_BYTES: usize = 34;

/// Values of the cap PCR that count as uncapped.
pub const MAX_CAP_VALUES: usize = 4;

/// The longest name of a script.
pub const MAX_SCRIPT_BYTES: usize = 64;

/// The PCR that is capped unless the tenant says otherwise: not resettable, and used by nothing before systemd.
pub const DEFAULT_CAP_PCR: u8 = 15;

/// Which deposit: eight random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayloadId(pub [u8; 8]);

impl PayloadId {
    /// Reads sixteen hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for PayloadId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(out)
    }
}

/// When a payload is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// In one boot, the first that asks.
    Once,
    /// In every boot.
    PerBoot,
    /// In every boot until this time, in seconds since 1970 by the verifier's clock.
    Until(u64),
}

/// The PCR that ends a boot's chance, and what it holds before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapPcr {
    /// Its number; not 16, which a program can reset, nor 23.
    pub pcr: u8,
    /// The bank that the policy is about.
    pub bank: HashAlg,
    /// Values in that bank that count as uncapped, at least one.
    pub values: heapless::Vec<Digest, MAX_CAP_VALUES>,
}

impl CapPcr {
    /// A PCR that nothing has extended since the machine was reset.
    #[must_use]
    pub fn at_zero(pcr: u8, bank: HashAlg) -> Self {
        let mut zeros = Digest::new();
        // A digest holds the longest of these hashes, and the list one value.
        let _ = zeros.resize(bank.digest_bytes(), 0);
        let mut values = heapless::Vec::new();
        let _ = values.push(zeros);
        Self { pcr, bank, values }
    }

    /// Whether this value of the PCR leaves the boot its chance.
    #[must_use]
    pub fn is_uncapped(&self, value: &[u8]) -> bool {
        self.values.iter().any(|uncapped| uncapped == value)
    }
}

/// What the tenant says of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The node it is for.
    pub agent: Uuid,
    /// Name of the EK that U is wrapped to.
    pub ek_name: [u8; NAME_BYTES],
    /// Name of the AK that has to be beside it.
    pub ak_name: [u8; NAME_BYTES],
    /// Which deposit.
    pub payload_id: PayloadId,
    /// The node's counter must not be above this; none without a counter.
    pub floor: Option<u64>,
    /// SHA-256 of the sealed bytes.
    pub sealed_sha256: [u8; 32],
    /// How many sealed bytes there are.
    pub sealed_bytes: u64,
    /// What K must give for this agent's uuid.
    pub auth_tag: [u8; 48],
    /// SHA-256 of the blob that holds U.
    pub u_blob_sha256: [u8; 32],
    /// SHA-256 of the policies that the tenant gave, for audit.
    pub policy_sha256: [u8; 32],
    /// The PCR that is capped.
    pub cap: CapPcr,
    /// When it is released.
    pub deliver: Deliver,
    /// The script that runs, if any.
    pub script: Option<heapless::String<MAX_SCRIPT_BYTES>>,
    /// When it was sealed, in seconds since 1970 by the tenant's clock.
    pub sealed_at: u64,
    /// How long a copy may be opened without the verifier, in seconds; none for never.
    pub last_good_seconds: Option<u64>,
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// More than [`MAX_MANIFEST_BYTES`].
    TooLong {
        /// How many came.
        have: usize,
    },
    /// Not the JSON object, or a member too few, too many, twice or of another type.
    Json,
    /// Another format than this program knows.
    Format {
        /// Which.
        format: u64,
    },
    /// A member breaks its rule.
    Member {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { have } => write!(
                out,
                "the manifest has {have} bytes, at most {MAX_MANIFEST_BYTES} are taken"
            ),
            Self::Json => out.write_str("the manifest is not the JSON object that it should be"),
            Self::Format { format } => write!(
                out,
                "the manifest has format {format}, this program reads format {FORMAT}"
            ),
            Self::Member { name } => write!(out, "the manifest's {name} breaks its rule"),
        }
    }
}

impl core::error::Error for ManifestError {}

impl Manifest {
    /// Reads a manifest's bytes.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let have = bytes.len();
        if have > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong { have });
        }
        let (raw, _) =
            serde_json_core::from_slice::<Raw<'_>>(bytes).map_err(|_| ManifestError::Json)?;
        if raw.format != FORMAT {
            return Err(ManifestError::Format { format: raw.format });
        }
        Ok(Self {
            agent: member("agent", Uuid::parse(raw.agent))?,
            ek_name: member("ek_name", name(raw.ek_name))?,
            ak_name: member("ak_name", name(raw.ak_name))?,
            payload_id: member("payload_id", PayloadId::parse(raw.payload_id))?,
            floor: raw.floor,
            sealed_sha256: member("sealed_sha256", parse_hex(raw.sealed_sha256.as_bytes()))?,
            sealed_bytes: raw.sealed_bytes,
            auth_tag: member("auth_tag", parse_hex(raw.auth_tag.as_bytes()))?,
            u_blob_sha256: member("u_blob_sha256", parse_hex(raw.u_blob_sha256.as_bytes()))?,
            policy_sha256: member("policy_sha256", parse_hex(raw.policy_sha256.as_bytes()))?,
            cap: raw.cap()?,
            deliver: member("deliver", deliver(raw.deliver, raw.until))?,
            script: raw.script.map(script).transpose()?,
            sealed_at: raw.sealed_at,
            last_good_seconds: raw.last_good_seconds,
        })
    }

    /// Writes the manifest: the bytes to be signed.
    ///
    /// # Errors
    /// The writer's: less room than [`MAX_MANIFEST_BYTES`].
    pub fn write(&self, out: &mut impl Write) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        body.number("format", FORMAT)?;
        body.text("agent", &self.agent)?;
        body.text("ek_name", Hex(&self.ek_name))?;
        body.text("ak_name", Hex(&self.ak_name))?;
        body.text("payload_id", self.payload_id)?;
        number_or_null(&mut body, "floor", self.floor)?;
        body.text("sealed_sha256", Hex(&self.sealed_sha256))?;
        body.number("sealed_bytes", self.sealed_bytes)?;
        body.text("auth_tag", Hex(&self.auth_tag))?;
        body.text("u_blob_sha256", Hex(&self.u_blob_sha256))?;
        body.text("policy_sha256", Hex(&self.policy_sha256))?;
        body.number("cap_pcr", self.cap.pcr)?;
        body.text("cap_bank", self.cap.bank.name())?;
        body.texts("cap_values", self.cap.values.iter().map(|value| Hex(value)))?;
        let (deliver, until) = match self.deliver {
            Deliver::Once => ("once", None),
            Deliver::PerBoot => ("per-boot", None),
            Deliver::Until(time) => ("until", Some(time)),
        };
        body.text("deliver", deliver)?;
        number_or_null(&mut body, "until", until)?;
        body.text_or_null("script", self.script.as_ref())?;
        body.number("sealed_at", self.sealed_at)?;
        number_or_null(&mut body, "last_good_seconds", self.last_good_seconds)?;
        body.end()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'b> {
    format: u64,
    agent: &'b str,
    ek_name: &'b str,
    ak_name: &'b str,
    payload_id: &'b str,
    floor: Option<u64>,
    sealed_sha256: &'b str,
    sealed_bytes: u64,
    auth_tag: &'b str,
    u_blob_sha256: &'b str,
    policy_sha256: &'b str,
    cap_pcr: u8,
    cap_bank: &'b str,
    #[serde(borrow)]
    cap_values: heapless::Vec<&'b str, MAX_CAP_VALUES>,
    deliver: &'b str,
    until: Option<u64>,
    script: Option<&'b str>,
    sealed_at: u64,
    last_good_seconds: Option<u64>,
}

impl Raw<'_> {
    fn cap(&self) -> Result<CapPcr, ManifestError> {
        let can_cap = |pcr: &u8| *pcr < PCR_COUNT && ![STATEMENT_PCR, DEBUG_PCR].contains(pcr);
        let pcr = member("cap_pcr", Some(self.cap_pcr).filter(can_cap))?;
        let bank = member("cap_bank", HashAlg::from_name(self.cap_bank))?;
        let mut values = heapless::Vec::new();
        for text in &self.cap_values {
            let value = member("cap_values", digest(bank, text))?;
            // As many as there are texts.
            let _ = values.push(value);
        }
        member("cap_values", (!values.is_empty()).then_some(()))?;
        Ok(CapPcr { pcr, bank, values })
    }
}

fn member<T>(name: &'static str, value: Option<T>) -> Result<T, ManifestError> {
    value.ok_or(ManifestError::Member { name })
}

fn name(text: &str) -> Option<[u8; NAME_BYTES]> {
    parse_hex(text.as_bytes()).filter(|name: &[u8; NAME_BYTES]| name.starts_with(&SHA256_ID))
}

fn digest(bank: HashAlg, text: &str) -> Option<Digest> {
    let text = text.as_bytes();
    match bank {
        HashAlg::Sha256 => Digest::from_slice(&parse_hex::<32>(text)?).ok(),
        HashAlg::Sha384 => Digest::from_slice(&parse_hex::<48>(text)?).ok(),
        HashAlg::Sha512 => Digest::from_slice(&parse_hex::<64>(text)?).ok(),
    }
}

fn deliver(word: &str, until: Option<u64>) -> Option<Deliver> {
    match (word, until) {
        ("once", None) => Some(Deliver::Once),
        ("per-boot", None) => Some(Deliver::PerBoot),
        ("until", Some(time)) => Some(Deliver::Until(time)),
        _ => None,
    }
}

/// A file at the payload's top: no path, and nothing that a shell or a log would read otherwise.
fn script(text: &str) -> Result<heapless::String<MAX_SCRIPT_BYTES>, ManifestError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let fits = text.bytes().all(plain) && !matches!(text, "" | "." | "..");
    let script = fits
        .then(|| heapless::String::try_from(text).ok())
        .flatten();
    member("script", script)
}

fn number_or_null<W: Write>(
    body: &mut ObjectWriter<'_, W>,
    name: &str,
    value: Option<u64>,
) -> fmt::Result {
    match value {
        Some(value) => body.number(name, value),
        None => body.null(name),
    }
}

const FORMAT: u64 = 1;
/// `TPM_ALG_SHA256`, with which a name begins.
const SHA256_ID: [u8; 2] = [0x00, 0x0B];
/// The other PCR that a program can reset.
const DEBUG_PCR: u8 = 23;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    fn sample() -> Manifest {
        let mut name = [9; NAME_BYTES];
        name[..2].copy_from_slice(&SHA256_ID);
        Manifest {
            agent: Uuid::parse("node-1").unwrap(),
            ek_name: name,
            ak_name: name,
            payload_id: PayloadId([1, 2, 3, 4, 5, 6, 7, 8]),
            floor: Some(3),
            sealed_sha256: [1; 32],
            sealed_bytes: 1 << 40,
            auth_tag: [2; 48],
            u_blob_sha256: [3; 32],
            policy_sha256: [4; 32],
            cap: CapPcr::at_zero(DEFAULT_CAP_PCR, HashAlg::Sha256),
            deliver: Deliver::Until(1_900_000_000),
            script: Some("autorun.sh".try_into().unwrap()),
            sealed_at: 1_800_000_000,
            last_good_seconds: None,
        }
    }

    fn text(manifest: &Manifest) -> String {
        let mut text = String::new();
        manifest.write(&mut text).unwrap();
        text
    }

    #[test]
    fn reads_what_it_writes() {
        let usual = sample();
        let bare = Manifest {
            floor: None,
            deliver: Deliver::PerBoot,
            script: None,
            last_good_seconds: Some(86_400),
            ..sample()
        };
        for manifest in [usual, bare] {
            assert_eq!(Manifest::parse(text(&manifest).as_bytes()), Ok(manifest));
        }
    }

    #[test]
    fn every_broken_member_is_named() {
        let good = text(&sample());
        let member = |name| Err(ManifestError::Member { name });
        for (name, from, to, expected) in [
            (
                "format",
                "\"format\":1",
                "\"format\":2",
                Err(ManifestError::Format { format: 2 }),
            ),
            ("no format", "\"format\":1,", "", Err(ManifestError::Json)),
            (
                "twice",
                "\"format\":1",
                "\"format\":1,\"format\":1",
                Err(ManifestError::Json),
            ),
            (
                "unknown",
                "\"format\":1",
                "\"format\":1,\"x\":1",
                Err(ManifestError::Json),
            ),
            ("agent", "node-1", "../node", member("agent")),
            ("name", "000b09", "000c09", member("ek_name")),
            (
                "id",
                "0102030405060708",
                "01020304050607",
                member("payload_id"),
            ),
            (
                "PCR 16",
                "\"cap_pcr\":15",
                "\"cap_pcr\":16",
                member("cap_pcr"),
            ),
            (
                "PCR 24",
                "\"cap_pcr\":15",
                "\"cap_pcr\":24",
                member("cap_pcr"),
            ),
            ("bank", "\"sha256\"", "\"sha1\"", member("cap_bank")),
            (
                "values of another bank",
                "\"sha256\"",
                "\"sha384\"",
                member("cap_values"),
            ),
            (
                "deliver",
                "\"until\",\"until\":1900000000",
                "\"until\",\"until\":null",
                member("deliver"),
            ),
            ("script", "autorun.sh", "../autorun.sh", member("script")),
            ("empty script", "autorun.sh", "", member("script")),
            ("trailing", "null}", "null}x", Err(ManifestError::Json)),
            (
                "negative",
                "\"floor\":3",
                "\"floor\":-3",
                Err(ManifestError::Json),
            ),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{name}");
            assert_eq!(Manifest::parse(bad.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn no_uncapped_value_is_refused() {
        let mut manifest = sample();
        manifest.cap.values.clear();
        let expected = Err(ManifestError::Member { name: "cap_values" });
        assert_eq!(Manifest::parse(text(&manifest).as_bytes()), expected);
    }

    #[test]
    fn longer_than_the_limit_is_refused() {
        let have = MAX_MANIFEST_BYTES + 1;
        let expected = Err(ManifestError::TooLong { have });
        assert_eq!(Manifest::parse(&std::vec![b' '; have]), expected);
    }
}
