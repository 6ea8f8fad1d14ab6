//! One round: a challenge, then the node's answer, then a verdict. No socket, no clock, no store.
//!
//! Only [`Verdict::Passed`] lets a node pass, and it is reached only when every check was made and held: signature, nonce,
//! PCR digest, boot counters, accepted algorithms, the transport key in PCR 16, each PCR of the policy, and each log that a
//! policy is about.

use std::borrow::Cow;
use std::sync::Arc;

use agent_core::wire::quote::{ClockInfo, HashAlg, PcrMask, SignAlg};
use agent_core::wire::route::{ApiVersion, VERSION_NOT_SUPPORTED};
use agent_core::wire::text::Hex;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::logs::{self, Asked, Came, Failed, Known, List};
use super::progress::{Algorithms, Failure, OperationalState, Progress};
use super::terms::Terms;
use crate::evidence::quote::{self, QuoteError};
use crate::evidence::shown::Shown;
use crate::policy::tpm::PcrMismatch;
use crate::unescape;

/// What a node is asked, once.
#[derive(Debug)]
pub struct Challenge {
    nonce: Nonce,
    mask: PcrMask,
    extent: Extent,
    asked: Asked,
}

/// Whether the answer is to carry the transport key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// With the key (`partial=0`).
    Full,
    /// Without; the one that passed before is bound again (`partial=1`).
    Partial,
}

/// Twenty random alphanumeric characters, for one challenge to one node.
#[derive(Debug, PartialEq, Eq)]
pub struct Nonce(String);

/// A node's answer over HTTP.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// What a reply means.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Everything was checked and holds.
    Passed(Passed),
    /// The transport key seems to have changed: ask in full before judging.
    AskInFull,
    /// The node booted anew: ask for its whole IMA list before judging.
    ReadAnew,
    /// The node speaks another version: ask it which, then again.
    Renegotiate,
    /// The node can't answer just now; the text says what it said.
    Later(String),
    /// The node fails, and ends in this state; with what it showed, if the quote held.
    Failed(OperationalState, Failure, Option<Box<Shown>>),
}

/// What a quote that holds brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Clock and boot counters.
    pub clock: ClockInfo,
    /// Algorithms as the answer names them.
    pub algorithms: Algorithms,
    /// The transport key's PEM, which PCR 16 holds.
    pub pubkey: String,
    /// What is known of its IMA list from now on.
    pub known: Option<Arc<Known>>,
}

impl Nonce {
    /// A fresh one from the system's random numbers; 119 bits.
    ///
    /// # Errors
    /// The system has none.
    pub fn random() -> Result<Self, SysError> {
        let mut nonce = String::with_capacity(NONCE_CHARS);
        while nonce.len() < NONCE_CHARS {
            let mut bytes = [0; NONCE_CHARS];
            SysRng.try_fill_bytes(&mut bytes)?;
            // Six bits of each byte; the two values beyond the alphabet are left out, so that no letter comes more often.
            let letters = bytes
                .iter()
                .filter_map(|byte| ALPHABET.get(usize::from(byte & 0x3f)));
            let missing = NONCE_CHARS - nonce.len();
            nonce.extend(letters.take(missing).copied().map(char::from));
        }
        Ok(Self(nonce))
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Challenge {
    /// The next question to a node. It is asked in full when the connection is new or no transport key is known.
    #[must_use]
    pub fn new(
        nonce: Nonce,
        terms: &Terms,
        asked: Asked,
        progress: &Progress,
        extent: Extent,
    ) -> Self {
        let known = progress.standing.pubkey.is_some();
        let logs = asked.pcrs().iter();
        Self {
            nonce,
            mask: logs.fold(terms.policy.mask(), PcrMask::with),
            extent: if known { extent } else { Extent::Full },
            asked,
        }
    }

    /// Path and query of the request.
    #[must_use]
    pub fn target(&self, version: ApiVersion) -> String {
        let nonce = self.nonce.as_str();
        let partial = u8::from(self.extent == Extent::Partial);
        let mask = self.mask.bits();
        let line = self.asked.first_line();
        format!(
            "/v{version}/quotes/integrity?nonce={nonce}&mask=0x{mask:x}&partial={partial}&ima_ml_entry={line}"
        )
    }

    /// Judges the answer to this challenge, which is spent with it.
    #[must_use]
    pub fn judge(self, terms: &Terms, progress: &Progress, reply: Reply) -> Verdict {
        match reply.status {
            200 => {}
            400 if says_unsupported(&reply.body) => return Verdict::Renegotiate,
            408 | 429 | 500..=599 => return Verdict::Later(said(&reply)),
            _ => {
                let failure = Failure {
                    event_id: "agent_validation.refused".to_owned(),
                    reason: format!("the agent refuses to quote: {}", said(&reply)),
                    context: json!({ "status": reply.status }),
                };
                return Verdict::Failed(OperationalState::Failed, failure, None);
            }
        }
        match self.evidence(terms, progress, reply.body) {
            Ok(passed) => Verdict::Passed(passed),
            Err(Fault::KeyMayHaveChanged) => Verdict::AskInFull,
            Err(Fault::BootedAnew) => Verdict::ReadAnew,
            Err(Fault::Failure(failure)) => {
                Verdict::Failed(OperationalState::InvalidQuote, *failure, None)
            }
            Err(Fault::Failed(failed)) => {
                let shown = Some(Box::new(failed.shown));
                Verdict::Failed(OperationalState::InvalidQuote, failed.failure, shown)
            }
        }
    }

    fn evidence(
        &self,
        terms: &Terms,
        progress: &Progress,
        mut body: Vec<u8>,
    ) -> Result<Passed, Fault> {
        let answer = Answer::read(&mut body)?;
        let bank = accepted(terms, &answer)?;
        let stored = progress.standing.pubkey.as_deref();
        let pubkey = answer.pubkey.as_deref().or(stored).ok_or_else(|| {
            quote_failure(
                "no_pubkey",
                "the agent's full answer has no transport key (pubkey)".to_owned(),
            )
        })?;
        let challenge = quote::Challenge {
            nonce: self.nonce.as_str(),
            bank,
            pcrs: self.mask,
            transport_pem: pubkey,
            previous: progress.clock(),
        };
        let quoted = quote::check(&terms.ak, &answer.quote, &challenge)
            .map_err(|error| self.fault(error))?;
        let boot_log = answer.boot_log()?;
        let came = Came {
            list: answer.list,
            boot_log: boot_log.as_deref(),
        };
        let known = self.asked.judge(terms, came, &quoted.pcrs, quoted.clock)?;
        Ok(Passed {
            clock: quoted.clock,
            algorithms: answer.algorithms(),
            pubkey: pubkey.to_owned(),
            known,
        })
    }

    fn fault(&self, error: QuoteError) -> Fault {
        match error {
            QuoteError::TransportKey { .. } if self.extent == Extent::Partial => {
                Fault::KeyMayHaveChanged
            }
            QuoteError::TransportKey { got, want } => {
                let reason = QuoteError::TransportKey {
                    got: got.clone(),
                    want: want.clone(),
                }
                .to_string();
                Fault::failure(
                    format!("pcr_validation.invalid_pcr_{}", quote::TRANSPORT_PCR),
                    json!({ "context": &reason, "pcr": quote::TRANSPORT_PCR, "got": got, "expected": [want] }),
                    reason,
                )
            }
            error => quote_failure(event(&error), error.to_string()),
        }
    }
}

/// Why evidence isn't enough: to be asked in full, or for the whole list, or a failure.
enum Fault {
    KeyMayHaveChanged,
    BootedAnew,
    Failed(Box<Failed>),
    Failure(Box<Failure>),
}

impl Fault {
    fn failure(event_id: String, context: Value, reason: String) -> Self {
        Self::Failure(Box::new(Failure {
            event_id,
            reason,
            context,
        }))
    }
}

impl From<logs::Fault> for Fault {
    fn from(fault: logs::Fault) -> Self {
        match fault {
            logs::Fault::ReadAnew => Self::BootedAnew,
            logs::Fault::Failed(failed) => Self::Failed(failed),
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    results: Results<'a>,
}

#[derive(Deserialize)]
struct Results<'a> {
    quote: String,
    hash_alg: String,
    enc_alg: String,
    sign_alg: String,
    #[serde(default)]
    pubkey: Option<String>,
    #[serde(borrow, default)]
    ima_measurement_list: Option<&'a RawValue>,
    #[serde(default)]
    ima_measurement_list_entry: u64,
    #[serde(default)]
    mb_measurement_list: Option<String>,
}

/// An answer, whose list stays where it came.
struct Answer<'a> {
    quote: String,
    hash_alg: String,
    enc_alg: String,
    sign_alg: String,
    pubkey: Option<String>,
    list: Option<List<'a>>,
    mb_measurement_list: Option<String>,
}

impl<'a> Answer<'a> {
    fn read(body: &'a mut [u8]) -> Result<Self, Fault> {
        let malformed = |reason: String| {
            quote_failure(
                "invalid_data",
                format!("the agent's answer is no quote: {reason}"),
            )
        };
        let (mut answer, after, place) = {
            let Body { results } =
                serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
            let list = results.ima_measurement_list;
            let answer = Self {
                quote: results.quote,
                hash_alg: results.hash_alg,
                enc_alg: results.enc_alg,
                sign_alg: results.sign_alg,
                pubkey: results.pubkey,
                list: None,
                mb_measurement_list: results.mb_measurement_list,
            };
            let place = list.map(|list| unescape::place_of(body, list));
            (answer, results.ima_measurement_list_entry, place)
        };
        if let Some(place) = place {
            let place = unescape::in_place(body, place)
                .ok_or_else(|| malformed("ima_measurement_list is no text".to_owned()))?;
            let lines = body.get(place).unwrap_or_default();
            answer.list = Some(List { after, lines });
        }
        Ok(answer)
    }

    fn boot_log(&self) -> Result<Option<Vec<u8>>, Fault> {
        let decoded = self
            .mb_measurement_list
            .as_deref()
            .map(|text| BASE64_STANDARD.decode(text));
        decoded.transpose().map_err(|_| {
            quote_failure(
                "invalid_data",
                "mb_measurement_list is not base64".to_owned(),
            )
        })
    }

    fn algorithms(&self) -> Algorithms {
        Algorithms {
            hash: self.hash_alg.clone(),
            enc: self.enc_alg.clone(),
            sign: self.sign_alg.clone(),
        }
    }
}

/// The bank that the answer names, if the tenant accepts it, and the schemes beside it.
fn accepted(terms: &Terms, answer: &Answer<'_>) -> Result<HashAlg, Fault> {
    let refused = |event: &str, field: &str, name: &str, accepted: &[String]| {
        let name: String = name.chars().take(SAID_CHARS).collect();
        let reason = format!(
            "the agent's {field} is \"{name}\", the tenant accepts {}",
            accepted.join(", ")
        );
        quote_failure(event, reason)
    };
    let text = &terms.text;
    let bank = HashAlg::from_name(&answer.hash_alg).filter(|bank| terms.accepts_hash(*bank));
    let scheme =
        SignAlg::from_name(&answer.sign_alg).filter(|scheme| terms.accepts_signing(*scheme));
    let bank = bank.ok_or_else(|| {
        refused(
            "invalid_hash_alg",
            "hash_alg",
            &answer.hash_alg,
            &text.accept_tpm_hash_algs,
        )
    })?;
    let scheme = scheme.ok_or_else(|| {
        refused(
            "invalid_sign_alg",
            "sign_alg",
            &answer.sign_alg,
            &text.accept_tpm_signing_algs,
        )
    })?;
    if scheme != terms.ak.sign_alg() {
        let (named, key) = (scheme.name(), terms.ak.sign_alg().name());
        let reason =
            format!("the agent names sign_alg {named}, its registered key signs with {key}");
        return Err(quote_failure("invalid_sign_alg", reason));
    }
    if !terms.accepts_encryption(&answer.enc_alg) {
        let accepted = &text.accept_tpm_encryption_algs;
        return Err(refused(
            "invalid_enc_alg",
            "enc_alg",
            &answer.enc_alg,
            accepted,
        ));
    }
    Ok(bank)
}

/// The last part of the event's name.
pub(super) const fn event(error: &QuoteError) -> &'static str {
    match error {
        QuoteError::Malformed(_) => "invalid_data",
        QuoteError::Algorithms { .. } => "invalid_sign_alg",
        QuoteError::ClockUnsafe => "clock_not_safe",
        QuoteError::ClockWentBack { .. } => "clock_went_back",
        _ => "quote_validation",
    }
}

/// Keylime's spelling, which its receivers look for.
fn quote_failure(event: &str, reason: String) -> Fault {
    Fault::failure(
        format!("qoute_validation.{event}"),
        json!({ "context": &reason }),
        reason,
    )
}

/// What is said of a PCR that isn't as the policy wants.
pub(super) fn wrong_pcr(mismatch: &PcrMismatch) -> Failure {
    let expected: Vec<String> = mismatch
        .expected
        .iter()
        .map(|value| Hex(value).to_string())
        .collect();
    let (event, context) = match mismatch.got {
        Some(_) => ("invalid_pcr", "PCR value is not in allowlist"),
        None => ("missing_pcr", "PCR is not in the quote"),
    };
    let got = mismatch.got.as_ref().map(|value| Hex(value).to_string());
    let mut context =
        json!({ "context": context, "pcr": mismatch.pcr, "got": got, "expected": expected });
    if let Some((set, _)) = mismatch.set {
        context["set"] = set.into();
    }
    Failure {
        event_id: format!("pcr_validation.{event}_{}", mismatch.pcr),
        context,
        reason: mismatch.to_string(),
    }
}

/// The status of an error's envelope.
#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

fn says_unsupported(body: &[u8]) -> bool {
    serde_json::from_slice::<ErrorBody<'_>>(body)
        .is_ok_and(|error| error.status.contains(VERSION_NOT_SUPPORTED))
}

/// The agent's own words, cut to a line; they come from a node that isn't trusted.
fn said(reply: &Reply) -> String {
    let status = reply.status;
    match serde_json::from_slice::<ErrorBody<'_>>(&reply.body) {
        Ok(error) => {
            let words: String = error
                .status
                .chars()
                .filter(|c| !c.is_control())
                .take(SAID_CHARS)
                .collect();
            format!("HTTP {status}, \"{words}\"")
        }
        Err(_) => format!("HTTP {status}"),
    }
}

/// As many as Keylime's verifier sends.
const NONCE_CHARS: usize = 20;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// How much of an agent's words is kept.
const SAID_CHARS: usize = 200;
