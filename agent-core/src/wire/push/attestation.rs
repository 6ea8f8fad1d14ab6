//! Attestations: what this node can show, what the verifier asks for, and the evidence.

use core::fmt::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::session::{Challenge, read_challenge};
use super::{PushError, attributes, member};
use crate::wire::json::{ObjectWriter, Value};
use crate::wire::manifest::NAME_BYTES;
use crate::wire::quote::{HashAlg, MAX_DUMP_BYTES, PCR_COUNT, PcrDump, PcrMask, SignAlg};
use crate::wire::receipt::{MAX_REASON_BYTES, Receipt};
use crate::wire::text::Hex;

/// Pieces of evidence that are asked for at most: a quote and two logs, of which this agent has none yet.
pub const MAX_REQUESTED: usize = 3;

/// The body of `POST /v3.0/agents/{id}/attestations`.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities<'a> {
    /// The AK, marshalled `TPM2B_PUBLIC`.
    pub ak_public: &'a [u8],
    /// Its name.
    pub ak_name: &'a [u8; NAME_BYTES],
    /// Its scheme.
    pub sign: SignAlg,
    /// Its hash, and the bank that it quotes.
    pub hash: HashAlg,
    /// When the system was started, in seconds since 1970.
    pub boot_time: u64,
}

impl Capabilities<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        let mut data = body.object("data")?;
        data.text("type", "attestation")?;
        let mut attributes = data.object("attributes")?;
        let mut supported = attributes.array("evidence_supported")?;
        let mut quote = supported.object()?;
        quote.text("evidence_class", CLASS)?;
        quote.text("evidence_type", QUOTE)?;
        self.write_quote(&mut quote)?;
        quote.end()?;
        supported.end()?;
        let mut system = attributes.object("system_info")?;
        system.text("boot_time", Rfc3339(self.boot_time))?;
        system.end()?;
        attributes.end()?;
        data.end()?;
        body.end()
    }

    fn write_quote<W: Write + ?Sized>(&self, quote: &mut ObjectWriter<'_, W>) -> fmt::Result {
        let (hash, scheme) = ([self.hash.name()], [self.sign.name()]);
        let mut capabilities = quote.object("capabilities")?;
        capabilities.text("component_version", "2.0")?;
        capabilities.texts("hash_algorithms", hash)?;
        capabilities.texts("signature_schemes", scheme)?;
        let mut subjects = capabilities.object("available_subjects")?;
        let mut pcrs = subjects.array(self.hash.name())?;
        for pcr in 0..PCR_COUNT {
            pcrs.number(pcr)?;
        }
        pcrs.end()?;
        subjects.end()?;
        let mut keys = capabilities.array("certification_keys")?;
        let mut key = keys.object()?;
        let (algorithm, bits) = match self.sign {
            SignAlg::Rsassa => ("rsa", 2048),
            SignAlg::Ecdsa => ("ecc", 256),
        };
        key.text("key_class", "asymmetric")?;
        key.text("key_algorithm", algorithm)?;
        key.number("key_size", bits)?;
        key.text("server_identifier", "ak")?;
        key.text("local_identifier", Hex(self.ak_name))?;
        // A TPMT_PUBLIC: what follows the size.
        let public = self.ak_public.get(2..).unwrap_or_default();
        key.text("public", Base64Display::new(public, &STANDARD))?;
        key.texts("allowable_hash_algorithms", hash)?;
        key.texts("allowable_signature_schemes", scheme)?;
        key.end()?;
        keys.end()?;
        capabilities.end()
    }
}

/// What a verifier chose of the capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The attestation's number among this agent's.
    pub attestation: u64,
    /// What the quote has to be about.
    pub challenge: Challenge,
    /// The scheme.
    pub sign: SignAlg,
    /// The bank.
    pub bank: HashAlg,
    /// The PCRs.
    pub pcrs: PcrMask,
}

impl Chosen {
    /// Reads the answer; `location` is its `Location` field.
    ///
    /// # Errors
    /// [`PushError`], among them that something else than a quote is asked for.
    pub fn from_answer(location: Option<&str>, body: &[u8]) -> Result<Self, PushError> {
        let (data, attributes) = attributes(body)?;
        let link = || data.path(&["links", "self"]).and_then(Value::text);
        let index = location.or_else(link).and_then(last_number);
        let requested = member(
            "evidence_requested",
            attributes.member("evidence_requested"),
        )?;
        let mut all = requested.items();
        let (quote, other) = (all.next(), all.next());
        let is_quote = |one: &Value<'_>| {
            one.member("evidence_type").and_then(Value::text) == Some(QUOTE) && other.is_none()
        };
        let quote = member("evidence_requested", quote.filter(is_quote))?;
        let parameters = member("chosen_parameters", quote.member("chosen_parameters"))?;
        let text = |name| parameters.member(name).and_then(Value::text);
        let bank = text("hash_algorithm").and_then(HashAlg::from_name);
        let bank = member("hash_algorithm", bank)?;
        let subjects = parameters.path(&["selected_subjects", bank.name()]);
        let challenge = parameters.member("challenge").and_then(read_challenge);
        Ok(Self {
            attestation: member("Location", index)?,
            challenge: member("challenge", challenge)?,
            sign: member(
                "signature_scheme",
                text("signature_scheme").and_then(SignAlg::from_name),
            )?,
            bank,
            pcrs: member("selected_subjects", subjects.and_then(read_pcrs))?,
        })
    }
}

/// The body of `PATCH /v3.0/agents/{id}/attestations/{index}`.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Marshalled `TPMS_ATTEST`.
    pub message: &'a [u8],
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// The quoted values.
    pub dump: &'a PcrDump,
}

impl Evidence<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        let mut data = body.object("data")?;
        data.text("type", "attestation")?;
        let mut attributes = data.object("attributes")?;
        let mut collected = attributes.array("evidence_collected")?;
        let mut quote = collected.object()?;
        quote.text("evidence_class", CLASS)?;
        quote.text("evidence_type", QUOTE)?;
        let mut parts = quote.object("data")?;
        self.write_parts(&mut parts)?;
        parts.end()?;
        quote.end()?;
        collected.end()?;
        attributes.end()?;
        data.end()?;
        body.end()
    }

    /// The quote's three parts, as members.
    pub(super) fn write_parts<W: Write + ?Sized>(
        &self,
        parts: &mut ObjectWriter<'_, W>,
    ) -> fmt::Result {
        let mut dump = [0; MAX_DUMP_BYTES];
        let base64 = |bytes| Base64Display::new(bytes, &STANDARD);
        parts.text(
            "subject_data",
            Base64Display::new(self.dump.encode(&mut dump), &STANDARD),
        )?;
        parts.text("message", base64(self.message))?;
        parts.text("signature", base64(self.signature))
    }
}

/// A verifier has taken the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// In how many seconds it expects the next attestation, if it says so.
    pub seconds_to_next: Option<u64>,
}

impl Accepted {
    /// Reads the answer; one that says nothing is one too.
    #[must_use]
    pub fn from_answer(body: &[u8]) -> Self {
        let root = Value::parse(body).ok();
        let meta = root.and_then(|root| root.path(&["meta", "seconds_to_next_attestation"]));
        Self {
            seconds_to_next: meta.and_then(Value::number),
        }
    }
}

/// What a verifier thinks of an attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// It hasn't judged yet.
    Pending,
    /// It passed.
    Pass,
    /// It failed.
    Fail,
}

/// The verifier's verdict on an attestation, as it tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub evaluation: Evaluation,
    /// Why it failed, in one line, cut short; maybe empty.
    pub reason: heapless::String<MAX_REASON_BYTES>,
}

impl Verdict {
    /// Reads the answer to `GET /v3.0/agents/{id}/attestations/{index}`.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn from_answer(body: &[u8]) -> Result<Self, PushError> {
        let (_, attributes) = attributes(body)?;
        let evaluation = attributes.member("evaluation").and_then(Value::text);
        let evaluation = match evaluation {
            Some("pending") => Some(Evaluation::Pending),
            Some("pass") => Some(Evaluation::Pass),
            Some("fail") => Some(Evaluation::Fail),
            _ => None,
        };
        let reason = attributes.member("failure_reason");
        Ok(Self {
            evaluation: member("evaluation", evaluation)?,
            reason: Receipt::reason(reason.and_then(Value::raw_text).unwrap_or_default()),
        })
    }
}

/// The number that a path ends with.
fn last_number(path: &str) -> Option<u64> {
    // The search for a letter could panic, as far as the compiler can tell.
    let slash = path.bytes().rposition(|byte| byte == b'/')?;
    let last = path.get(slash.checked_add(1)?..)?;
    let digits = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| last.parse().ok())?
}

/// Numbers of PCRs; no other number is among them.
fn read_pcrs(list: Value<'_>) -> Option<PcrMask> {
    list.items().try_fold(PcrMask::EMPTY, |mask, value| {
        let pcr = value
            .number()
            .and_then(|number| u8::try_from(number).ok())?;
        (pcr < PCR_COUNT).then(|| mask.with(pcr))
    })
}

/// Seconds since 1970 as RFC 3339 has them, in UTC.
struct Rfc3339(u64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0 / DAY_SECONDS);
        let (hour, minute, second) = (self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        write!(
            out,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Year, month and day of a number of days since 1970; what is beyond the year 9999 is its last day.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut left = days.min(LAST_DAY);
    let mut year = 1970u64;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => break,
        }
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1u64;
    for length in lengths {
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => break,
        }
        month = month.saturating_add(1);
    }
    (year, month, left.saturating_add(1))
}

const CLASS: &str = "certification";
const QUOTE: &str = "tpm_quote";
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// 9999-12-31.
const LAST_DAY: u64 = 2_932_896;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};

    use super::*;

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (1_798_761_600, "2027-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Rfc3339(seconds).to_string(), text);
        }
        assert!(Rfc3339(u64::MAX).to_string().starts_with("9999-12-31T"));
    }

    #[test]
    fn capabilities_name_the_key() {
        let capabilities = Capabilities {
            ak_public: &[0, 3, b'a', b'b', b'c'],
            ak_name: &[0xAB; NAME_BYTES],
            sign: SignAlg::Rsassa,
            hash: HashAlg::Sha256,
            boot_time: 0,
        };
        let mut body = String::new();
        capabilities.write(&mut body).unwrap();
        let root = Value::parse(body.as_bytes()).unwrap();
        let attributes = root.path(&["data", "attributes"]).unwrap();
        let quote = attributes.member("evidence_supported").unwrap();
        let quote = quote.items().next().unwrap();
        let subjects = quote.path(&["capabilities", "available_subjects", "sha256"]);
        assert_eq!(subjects.unwrap().items().count(), 24);
        let keys = quote.path(&["capabilities", "certification_keys"]).unwrap();
        let key = keys.items().next().unwrap();
        assert_eq!(key.member("public").and_then(Value::text), Some("YWJj"));
        assert_eq!(
            key.member("key_algorithm").and_then(Value::text),
            Some("rsa")
        );
    }

    const CHOSEN: &str = r#"{"data": {"type": "attestation", "attributes": {"stage": "awaiting_evidence",
        "evidence_requested": [{"evidence_class": "certification", "evidence_type": "tpm_quote", "chosen_parameters":
        {"signature_scheme": "rsassa", "challenge": "AAECAwQFBgcICQoLDA0ODw==", "hash_algorithm": "sha256",
        "selected_subjects": {"sha256": [0, 7, 23]}, "certification_key": {"key_class": "asymmetric", "key_size": 2048,
        "allowable_signature_schemes": null}}}], "system_info": {"boot_time": "x"}},
        "links": {"self": "/v3.0/agents/a/attestations/12"}}}"#;

    #[test]
    fn chosen_parameters() {
        let chosen = Chosen::from_answer(None, CHOSEN.as_bytes()).unwrap();
        assert_eq!(chosen.attestation, 12);
        assert_eq!(chosen.pcrs, PcrMask::EMPTY.with(0).with(7).with(23));
        assert_eq!(
            (chosen.sign, chosen.bank),
            (SignAlg::Rsassa, HashAlg::Sha256)
        );
        let located = Chosen::from_answer(Some("/v3.0/agents/a/attestations/3"), CHOSEN.as_bytes());
        assert_eq!(located.unwrap().attestation, 3);
        for (from, to, name) in [
            ("tpm_quote", "ima_log", "evidence_requested"),
            ("}}}],", "}}}, {}],", "evidence_requested"),
            ("rsassa", "rsapss", "signature_scheme"),
            (
                "\"hash_algorithm\": \"sha256\"",
                "\"hash_algorithm\": \"sha1\"",
                "hash_algorithm",
            ),
            ("[0, 7, 23]", "[0, 7, 24]", "selected_subjects"),
            ("[0, 7, 23]", "[0, -7]", "selected_subjects"),
            ("[0, 7, 23]", "[0, 263]", "selected_subjects"),
            ("AAEC", "====", "challenge"),
            ("attestations/12", "attestations/latest", "Location"),
            ("attestations/12", "attestations/", "Location"),
        ] {
            let bad = CHOSEN.replacen(from, to, 1);
            let error = Err(PushError::Member { name });
            assert_eq!(Chosen::from_answer(None, bad.as_bytes()), error, "{to}");
        }
    }

    #[test]
    fn what_follows_evidence() {
        let body = br#"{"data":{"attributes":{"stage":"evaluating_evidence","evidence":[{"data":{}}]}},"meta":{"seconds_to_next_attestation":60}}"#;
        assert_eq!(Accepted::from_answer(body).seconds_to_next, Some(60));
        assert_eq!(Accepted::from_answer(b"").seconds_to_next, None);
        let verdict =
            br#"{"data":{"attributes":{"evaluation":"fail","failure_reason":"policy: PCR 0"}}}"#;
        let verdict = Verdict::from_answer(verdict).unwrap();
        assert_eq!(
            (verdict.evaluation, verdict.reason.as_str()),
            (Evaluation::Fail, "policy: PCR 0")
        );
    }
}
