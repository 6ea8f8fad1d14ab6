//! What a node is asked for, of what it says it can: a quote, and the logs that its policies are about.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agent_core::wire::quote::{ClockInfo, HashAlg, PcrMask};
use agent_core::wire::statement::{CHALLENGE_BYTES, STATEMENT_PCR};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::attestations::{CERTIFICATION, TPM_QUOTE};
use super::error::Error;
use super::logs;
use crate::policies::JudgedBy;
use crate::push::attestations::{LogKind, Question, Said};
use crate::push::{Held, Push};
use crate::rounds::logs::Asked;
use crate::rounds::node::Node;

#[derive(Deserialize)]
struct Begin<'a> {
    #[serde(borrow)]
    data: BeginData<'a>,
}

#[derive(Deserialize)]
struct BeginData<'a> {
    #[serde(borrow)]
    attributes: BeginAttributes<'a>,
}

#[derive(Deserialize)]
struct BeginAttributes<'a> {
    #[serde(borrow)]
    evidence_supported: Vec<Supported<'a>>,
    #[serde(borrow)]
    system_info: &'a RawValue,
}

#[derive(Deserialize)]
struct Supported<'a> {
    #[serde(borrow)]
    evidence_class: Cow<'a, str>,
    #[serde(borrow)]
    evidence_type: Cow<'a, str>,
    #[serde(borrow)]
    capabilities: &'a RawValue,
}

#[derive(Deserialize)]
struct Capabilities<'a> {
    #[serde(borrow)]
    available_subjects: BTreeMap<Cow<'a, str>, &'a RawValue>,
    #[serde(borrow)]
    certification_keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct CertificationKey<'a> {
    #[serde(borrow)]
    server_identifier: Cow<'a, str>,
}

#[derive(Serialize)]
struct Chosen<'a> {
    challenge: String,
    signature_scheme: &'static str,
    hash_algorithm: &'static str,
    selected_subjects: BTreeMap<&'static str, Vec<u8>>,
    certification_key: &'a RawValue,
}

/// What this node is asked for: what its policies are about, and with a deposit what a release needs.
pub(super) fn question(
    node: &Node,
    push: &Push,
    judged_by: JudgedBy,
    body: &[u8],
) -> Result<Question, Error> {
    let held = &push.held();
    let begin: Begin<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::document("/data", format!("not the document expected: {error}")))?;
    let attributes = begin.data.attributes;
    let supported = &attributes.evidence_supported;
    let quote = supported
        .iter()
        .find(|one| one.evidence_class == CERTIFICATION && one.evidence_type == TPM_QUOTE)
        .ok_or_else(|| Error::document(SUPPORTED_POINTER, "a tpm_quote is needed"))?;
    let pointer = |rest: &str| format!("{SUPPORTED_POINTER}/0/capabilities{rest}");
    let capabilities: Capabilities<'_> = serde_json::from_str(quote.capabilities.get())
        .map_err(|error| Error::document(pointer(""), error.to_string()))?;
    let is_ak = |key: &&RawValue| {
        let key = serde_json::from_str::<CertificationKey<'_>>(key.get());
        key.is_ok_and(|key| key.server_identifier == "ak")
    };
    let mut keys = capabilities.certification_keys.into_iter();
    let key = keys
        .find(is_ak)
        .ok_or_else(|| Error::document(pointer("/certification_keys"), "the key ak is needed"))?;

    let bank = bank(node, held)?;
    if !capabilities.available_subjects.contains_key(bank.name()) {
        let detail = format!("PCRs of bank {} are needed", bank.name());
        return Err(Error::document(pointer("/available_subjects"), detail));
    }
    let mut asked = Asked::new(judged_by, node.known());
    if !push.attestations().is_same_system(attributes.system_info) {
        asked = asked.from_the_first_line();
    }
    let has = |kind: LogKind| {
        let is_it = |one: &&Supported<'_>| {
            one.evidence_class == LogKind::CLASS && one.evidence_type == kind.name()
        };
        let one = supported.iter().find(is_it)?;
        Some(one.capabilities)
    };
    let (asked, logs) = logs::choose(asked, has, SUPPORTED_POINTER)?;
    let pcrs = selection(node, held, &asked);
    let mut challenge = [0; CHALLENGE_BYTES];
    SysRng
        .try_fill_bytes(&mut challenge)
        .map_err(|error| Error::internal(&error))?;
    let chosen = Chosen {
        challenge: BASE64_STANDARD.encode(challenge),
        signature_scheme: node.terms.ak.sign_alg().name(),
        hash_algorithm: node.terms.ak.hash_alg().name(),
        selected_subjects: BTreeMap::from([(bank.name(), pcrs.iter().collect())]),
        certification_key: key,
    };
    let chosen =
        serde_json::value::to_raw_value(&chosen).map_err(|error| Error::internal(&error))?;
    Ok(Question {
        challenge,
        bank,
        pcrs,
        previous: last_clock(node, held),
        logs,
        asked,
        said: Said {
            capabilities: quote.capabilities.to_owned(),
            chosen,
            system_info: attributes.system_info.to_owned(),
        },
    })
}

/// The bank that the policy's values are of, and the deposit's.
fn bank(node: &Node, held: &Held) -> Result<HashAlg, Error> {
    let terms = &node.terms;
    let usable = |bank: &HashAlg| terms.policy.fits(*bank) && terms.accepts_hash(*bank);
    let all = [
        terms.ak.hash_alg(),
        HashAlg::Sha256,
        HashAlg::Sha384,
        HashAlg::Sha512,
    ];
    let bank = match &held.deposit {
        Some(deposit) => Some(deposit.manifest.cap.bank).filter(usable),
        None => all.into_iter().find(usable),
    };
    let bank = bank.filter(|_| terms.accepts_signing(terms.ak.sign_alg()));
    bank.ok_or_else(|| {
        let detail = "what the tenant accepts and what its policy names fit no bank, or not this attestation key";
        Error::new(StatusCode::FORBIDDEN, "algorithms", detail)
    })
}

fn selection(node: &Node, held: &Held, asked: &Asked) -> PcrMask {
    let logs = asked.pcrs().iter();
    let policy = logs.fold(node.terms.policy.mask(), PcrMask::with);
    match &held.deposit {
        Some(deposit) => policy.with(deposit.manifest.cap.pcr).with(STATEMENT_PCR),
        // A quote of nothing is none.
        None if policy == PcrMask::EMPTY => policy.with(STATEMENT_PCR),
        None => policy,
    }
}

/// The clock that a quote which answers from now on can't be behind.
fn last_clock(node: &Node, held: &Held) -> Option<ClockInfo> {
    let boot = held.boot?;
    let clock = node.update(|progress| progress.clock());
    let same = |clock: &ClockInfo| {
        (clock.reset_count, clock.restart_count) == (boot.reset_count, boot.restart_count)
    };
    Some(ClockInfo {
        clock_ms: clock.filter(same).map_or(0, |clock| clock.clock_ms),
        reset_count: boot.reset_count,
        restart_count: boot.restart_count,
        safe: boot.safe,
    })
}

const SUPPORTED_POINTER: &str = "/data/attributes/evidence_supported";
