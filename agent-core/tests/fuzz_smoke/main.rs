//! The fuzz targets' bodies, for a moment each: over their corpus, and over mutations of it that are the same at each run.
//!
//! Fuzzing itself is `fuzz/`'s; the target of the TPM's structures has its test in verifier-host, whose code it runs too.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "what can't be is a finding; the modules are a library's elsewhere"
)]

#[path = "../../fuzz/src/agent_steps.rs"]
mod agent_steps;
#[path = "../../fuzz/src/zip.rs"]
mod archives;
#[path = "../../fuzz/src/http_body.rs"]
mod http_body;
#[path = "../../fuzz/src/http_head.rs"]
mod http_head;
#[path = "../../fuzz/src/json_requests.rs"]
mod json_requests;
#[path = "../../fuzz/src/manifest_receipt.rs"]
mod manifest_receipt;
#[path = "../../fuzz/src/payload_open.rs"]
mod payload_open;
#[path = "../../fuzz/src/quote_strings.rs"]
mod quote_strings;
#[path = "../../fuzz/src/registrar_answers.rs"]
mod registrar_answers;
#[path = "../../fuzz/src/revocations.rs"]
mod revocations;
#[path = "../../fuzz/src/verifier_answers.rs"]
mod verifier_answers;

#[path = "../machine/bench.rs"]
mod bench;
#[path = "../machine/model.rs"]
mod model;
mod mutator;
#[expect(dead_code, reason = "a part of it is for the tests that it comes from")]
#[path = "../payload/recording.rs"]
mod recording;

use mutator::{corpus, smoke};

// How many mutations take about a second in a debug build.

#[test]
fn smoke_agent_steps() {
    smoke(&corpus("agent_steps"), 1000, agent_steps::check);
}

#[test]
fn smoke_http_body() {
    smoke(&corpus("http_body"), 2000, http_body::check);
}

#[test]
fn smoke_http_head() {
    smoke(&corpus("http_head"), 20_000, http_head::check);
}

#[test]
fn smoke_json_requests() {
    smoke(&corpus("json_requests"), 20_000, json_requests::check);
}

#[test]
fn smoke_payload_open() {
    smoke(&corpus("payload_open"), 3000, payload_open::check);
}

#[test]
fn smoke_quote_strings() {
    smoke(&corpus("quote_strings"), 12_000, quote_strings::check);
}

#[test]
fn smoke_verifier_answers() {
    smoke(&corpus("verifier_answers"), 10_000, verifier_answers::check);
}

#[test]
fn smoke_manifest_receipt() {
    smoke(&corpus("manifest_receipt"), 20_000, manifest_receipt::check);
}

#[test]
fn smoke_registrar_answers() {
    smoke(
        &corpus("registrar_answers"),
        20_000,
        registrar_answers::check,
    );
}

#[test]
fn smoke_revocations() {
    smoke(&corpus("revocations"), 5000, revocations::check);
}

#[test]
fn smoke_zip() {
    smoke(&corpus("zip"), 5000, archives::check);
}
