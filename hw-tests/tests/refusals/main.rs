//! Who doesn't prove what it must, gets nothing: no V, no route, no seal.

mod access;
mod identity;
mod quotes;

use hw_tests::Result;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;

/// A policy that every fresh TPM meets.
pub(crate) const CLEAN: &str = r#"{"15": "0000000000000000000000000000000000000000000000000000000000000000", "mask": "0x8000"}"#;

/// Waits until the verifier has the node in one of these states.
pub(crate) fn wait_for_state(verifier: &Verifier<'_>, uuid: &str, states: &[i64]) -> Result {
    let client = verifier.client()?;
    until(LIMIT, &format!("state of {states:?}"), || {
        let record = client
            .get(&format!("/v2.6/agents/{uuid}"))
            .ok()?
            .results()
            .ok()?;
        states
            .contains(&record["operational_state"].as_i64()?)
            .then_some(())
    })
}
