//! Nodes that call again and again to be attested, and get no payload.

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::edge::ZERO_POLICY;

#[test]
fn push_agent_attests_with_ecdsa() {
    attests("ecdsa");
}

#[test]
fn push_agent_attests_with_rsassa() {
    attests("rsassa");
}

#[test]
fn push_agent_outlives_its_verifier() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (node, uuid) = attested(&verifier, &tenant, Swtpm::fresh(site)?, &[])?;
        verifier.kill()?;
        verifier.start_again()?;
        let before = node.log()?.len();
        node.log()?.wait_from(before, "pass")?;
        wait_for(&verifier, &uuid, "PASS")
    });
}

#[test]
fn silent_node_is_not_failed() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = attested(&verifier, &tenant, Swtpm::fresh(site)?, &[])?;
        node.stop_agent()?;
        wait_for(&verifier, &uuid, "TIMEOUT")?;
        node.launch()?;
        wait_for(&verifier, &uuid, "PASS")
    });
}

fn attests(algorithm: &str) {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let options = ["--tpm-signing-alg", algorithm];
        let tpm = Swtpm::fresh(site)?;
        let (node, uuid) = attested(&verifier, &tenant, tpm, &options)?;
        node.tpm().extend(0, 1)?;
        wait_for(&verifier, &uuid, "FAIL")
    });
}

/// A node that its verifier has seen pass.
fn attested<'site>(
    verifier: &Verifier<'site>,
    tenant: &Tenant<'_>,
    tpm: Swtpm,
    options: &[&str],
) -> Result<(Node<'site>, String)> {
    let options = [options, &["--attestation-interval-seconds", "1"]].concat();
    let mut node = Node::calling(verifier, tpm, "push", &options)?;
    node.launch()?;
    let uuid = node.wait_until_registered()?;
    let add = [
        "-c",
        "add",
        "-u",
        &uuid,
        "--push-model",
        "--tpm_policy",
        ZERO_POLICY,
    ];
    tenant.does(&add)?;
    wait_for(verifier, &uuid, "PASS")?;
    Ok((node, uuid))
}

/// Waits for an `attestation_status` of the verifier's record.
fn wait_for(verifier: &Verifier<'_>, uuid: &str, status: &str) -> Result {
    let client = verifier.client()?;
    let mut last = Value::Null;
    until(LIMIT, &format!("attestation_status {status}"), || {
        let record = client
            .get(&format!("/v2.6/agents/{uuid}"))
            .ok()?
            .json()
            .ok()?;
        last = record["results"]["attestation_status"].clone();
        (last == status).then_some(())
    })
    .map_err(|error| format!("{error}; the last was {last}").into())
}
