//! Attestations: what this node can show, what the verifier asks for, and the evidence.

use core::fmt::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::session::{Challenge, read_challenge};
use super::{PushError, attributes, member};
use crate::wire::json::{ObjectWriter, Value};
use crate::wire::log::{Attached, Lines};
use crate::wire::manifest::NAME_BYTES;
use crate::wire::quote::{HashAlg, MAX_DUMP_BYTES, PCR_COUNT, PcrDump, PcrMask, SignAlg};
use crate::wire::receipt::{MAX_REASON_BYTES, Receipt};
use crate::wire::text::Hex;

/// Pieces of evidence that are asked for at most: a quote and two logs.
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
    /// Writes the body. Logs are [`Attached::Supported`] to it.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        let mut data = body.object("data")?;
        data.text("type", "attestation")?;
        let mut attributes = data.object("attributes")?;
        let mut system = attributes.object("system_info")?;
        system.text("boot_time", Rfc3339(self.boot_time))?;
        system.end()?;
        // The last one, so that logs can follow the quote.
        let mut supported = attributes.array("evidence_supported")?;
        let mut quote = supported.object()?;
        quote.text("evidence_class", CLASS)?;
        quote.text("evidence_type", QUOTE)?;
        self.write_quote(&mut quote)?;
        quote.end()?;
        supported.end()?;
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
    /// The logs that are asked for, if any are.
    pub logs: Option<Attached>,
}

impl Chosen {
    /// Reads the answer; `location` is its `Location` field.
    ///
    /// # Errors
    /// [`PushError`], among them that something else than a quote is asked for, then the boot log, then the IMA list.
    pub fn from_answer(location: Option<&str>, body: &[u8]) -> Result<Self, PushError> {
        let (data, attributes) = attributes(body)?;
        let link = || data.path(&["links", "self"]).and_then(Value::text);
        let index = location.or_else(link).and_then(last_number);
        let (quote, logs) = read_requested(attributes)?;
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
            logs,
        })
    }
}

/// What is asked for: a quote, and what of the logs.
fn read_requested(attributes: Value<'_>) -> Result<(Value<'_>, Option<Attached>), PushError> {
    let name = "evidence_requested";
    let mut all = member(name, attributes.member(name))?.items();
    let mut next = all.next();
    let mut take = |wanted| {
        let is_wanted =
            |one: &Value<'_>| one.member("evidence_type").and_then(Value::text) == Some(wanted);
        let taken = next.filter(is_wanted)?;
        next = all.next();
        Some(taken)
    };
    let (quote, boot, ima) = (take(QUOTE), take(BOOT_LOG), take(IMA_LOG));
    let quote = member(name, quote.filter(|_| next.is_none()))?;
    let logs = match boot.or(ima) {
        Some(_) => Some(member("chosen_parameters", read_logs(boot, ima))?),
        None => None,
    };
    Ok((quote, logs))
}

/// What is asked for of the logs; none if that can't be had.
fn read_logs(boot: Option<Value<'_>>, ima: Option<Value<'_>>) -> Option<Attached> {
    if let Some(boot) = boot {
        // The whole of it or nothing.
        let whole = Lines::from(0);
        (read_log(boot, "application/octet-stream")? == whole).then_some(())?;
    }
    let ima = match ima {
        Some(ima) => Some(read_log(ima, "text/plain")?),
        None => None,
    };
    Some(Attached::Collected {
        boot: boot.is_some(),
        ima,
    })
}

/// The entries of a log that are asked for, in this format.
fn read_log(log: Value<'_>, format: &str) -> Option<Lines> {
    let parameters = log.member("chosen_parameters")?;
    let number = |name, otherwise| match parameters.member(name) {
        Some(value) if !value.is_null() => value.number(),
        _ => Some(otherwise),
    };
    let is_right = parameters.member("format").and_then(Value::text) == Some(format);
    is_right.then_some(Lines {
        from: number("starting_offset", 0)?,
        count: number("entry_count", u64::MAX)?,
    })
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
    /// Writes the body. Logs are attached to it as [`Chosen::logs`] has them.
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

    /// The quote's three parts, as members. Never inlined: its buffer is off the stack when the TPM is asked.
    #[inline(never)]
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
    /// Reads the answer; one that says nothing is one too. Where logs were sent back the end of it is enough: in a text no
    /// quotation mark stands alone, so the name can't be a log's.
    #[must_use]
    pub fn from_answer(body: &[u8]) -> Self {
        let seconds = match Value::parse(body) {
            Ok(root) => root.path(&["meta", NEXT]).and_then(Value::number),
            Err(_) => last_number_of(body, NEXT),
        };
        Self {
            seconds_to_next: seconds,
        }
    }
}

/// The number of the last member with this name.
fn last_number_of(body: &[u8], name: &str) -> Option<u64> {
    let name = name.as_bytes();
    let is_here = |at: &usize| {
        let rest = body.get(*at..).unwrap_or_default();
        let rest = rest
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(b"\":"))
    };
    let at = (0..body.len()).rev().find(is_here)?;
    let value = body
        .get(at..)?
        .get(name.len()..)?
        .get(3..)?
        .trim_ascii_start();
    let end = value.iter().position(|byte| !byte.is_ascii_digit());
    let digits = value.get(..end.unwrap_or(value.len()))?;
    core::str::from_utf8(digits).ok()?.parse().ok()
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
const BOOT_LOG: &str = "uefi_log";
const IMA_LOG: &str = "ima_log";
const NEXT: &str = "seconds_to_next_attestation";
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
        // Logs go behind the quote, before the last brackets.
        assert!(body.ends_with(Attached::Supported.tail()));
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
    fn logs_are_asked_for_behind_the_quote() {
        let boot = r#"{"evidence_type": "uefi_log", "chosen_parameters": {"format": "application/octet-stream"}}"#;
        let ima = r#"{"evidence_type": "ima_log", "chosen_parameters": {"starting_offset": 7, "entry_count": null, "format": "text/plain"}}"#;
        let some = ima.replace("null", "3");
        let read = |logs: &[&str]| {
            let logs = logs.join(", ");
            let body = CHOSEN.replacen("}}}],", &std::format!("}}}}}}, {logs}],"), 1);
            Chosen::from_answer(None, body.as_bytes()).map(|chosen| chosen.logs)
        };
        let collected = |boot, ima| Ok(Some(Attached::Collected { boot, ima }));
        let rows = [
            (&[boot][..], collected(true, None)),
            (&[ima], collected(false, Some(Lines::from(7)))),
            (&[boot, ima], collected(true, Some(Lines::from(7)))),
            (
                &[&some],
                collected(false, Some(Lines { from: 7, count: 3 })),
            ),
        ];
        for (logs, want) in rows {
            assert_eq!(read(logs), want, "{logs:?}");
        }
        let quoted = Chosen::from_answer(None, CHOSEN.as_bytes()).unwrap();
        assert_eq!(quoted.logs, None);
        let binary = ima.replace("text/plain", "application/octet-stream");
        let negative = ima.replace('7', "-7");
        let late = boot.replacen("{\"format", "{\"starting_offset\": 1, \"format", 1);
        for (logs, name) in [
            (&[ima, boot][..], "evidence_requested"),
            (&[ima, ima], "evidence_requested"),
            (&["{}"], "evidence_requested"),
            (&[r#"{"evidence_type": "ima_log"}"#], "chosen_parameters"),
            (&[&binary], "chosen_parameters"),
            (&[&negative], "chosen_parameters"),
            (&[&late], "chosen_parameters"),
        ] {
            assert_eq!(read(logs), Err(PushError::Member { name }), "{logs:?}");
        }
    }

    #[test]
    fn evidence_that_was_sent_back_is_passed_over() {
        for (end, seconds) in [
            (
                r#"x"}]}},"meta":{"seconds_to_next_attestation":60},"links":{}}"#,
                Some(60),
            ),
            (
                r#"x"}]}},"meta":{"seconds_to_next_attestation":  7}}"#,
                Some(7),
            ),
            (r#"x"}]}},"meta":{"seconds_to_next_attestation":-7}}"#, None),
            (
                r#"x"}]}},"meta":{"seconds_to_next_attestation":99999999999999999999}}"#,
                None,
            ),
            (r#"\"seconds_to_next_attestation\": 5"}"#, None),
            (r#""seconds_to_next_attestation":"#, None),
            ("", None),
        ] {
            let accepted = Accepted::from_answer(end.as_bytes());
            assert_eq!(accepted.seconds_to_next, seconds, "{end}");
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
