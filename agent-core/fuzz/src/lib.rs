//! What the fuzz targets do with their input: one module each, and one function `check` in it, which panics where a rule is
//! broken.
//!
//! The tests `fuzz_smoke` of agent-core and of verifier-host include these modules by path, without this crate.

pub mod agent_steps;
pub mod dsse;
pub mod event_log;
pub mod http_body;
pub mod http_head;
pub mod ima_list;
pub mod json_requests;
pub mod manifest_receipt;
pub mod payload_open;
pub mod quote_strings;
pub mod registrar_answers;
pub mod revocations;
pub mod runtime_policy;
pub mod tpm_structures;
pub mod verifier_answers;
pub mod zip;

#[path = "../../tests/machine/bench.rs"]
mod bench;
#[path = "../../tests/machine/model.rs"]
mod model;
#[expect(dead_code, reason = "a part of it is for the tests that it comes from")]
#[path = "../../tests/payload/recording.rs"]
mod recording;
