//! The bodies of the fuzz targets for what the verifier reads, each for a moment: see agent-core's test of the same name.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "what can't be is a finding; the modules are a library's elsewhere"
)]

#[path = "../../agent-core/fuzz/src/dsse.rs"]
mod dsse;
#[path = "../../agent-core/fuzz/src/event_log.rs"]
mod event_log;
#[path = "../../agent-core/fuzz/src/ima_list.rs"]
mod ima_list;
#[path = "../../agent-core/tests/fuzz_smoke/mutator.rs"]
mod mutator;
#[path = "../../agent-core/fuzz/src/runtime_policy.rs"]
mod runtime_policy;
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

#[test]
fn smoke_ima_list() {
    mutator::smoke(&mutator::corpus("ima_list"), 3_000, ima_list::check);
}

#[test]
fn smoke_runtime_policy() {
    mutator::smoke(
        &mutator::corpus("runtime_policy"),
        3_000,
        runtime_policy::check,
    );
}

#[test]
fn smoke_dsse() {
    mutator::smoke(&mutator::corpus("dsse"), 3_000, dsse::check);
}
