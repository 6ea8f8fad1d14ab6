//! The bodies of the fuzz targets for what the verifier reads, each for a moment: see agent-core's test of the same name.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "what can't be is a finding; the modules are a library's elsewhere"
)]

#[path = "../../agent-core/fuzz/src/event_log.rs"]
mod event_log;
#[path = "../../agent-core/tests/fuzz_smoke/mutator.rs"]
mod mutator;
#[path = "../../agent-core/fuzz/src/tpm_structures.rs"]
mod tpm_structures;

#[test]
fn smoke_tpm_structures() {
    mutator::smoke(
        &mutator::corpus("tpm_structures"),
        10_000,
        tpm_structures::check,
    );
}

#[test]
fn smoke_event_log() {
    mutator::smoke(&mutator::corpus("event_log"), 2_000, event_log::check);
}
