//! What happens in several of these scenarios.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hw_tests::Result;
use hw_tests::day::untouched_23;
use hw_tests::node::Node;
use hw_tests::payload::{self, SECRET};
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Client;
use hw_tests::servers::{Servers, VERIFIER_PORT, administrator};
use hw_tests::tenant::{Tenant, Told};
use serde_json::Value;

/// What Keylime's tenant and verifier accept unasked.
pub(crate) const RSASSA: [&str; 2] = ["--tpm-signing-alg", "rsassa"];

/// Keylime's documented example from the first word to the last: the keys arrive, the node fails, the keys go.
pub(crate) fn documented_example(tenant: &Tenant<'_>, node: &Node<'_>) -> Result {
    payload::documented_with_action(&tenant.work().join("payload"))?;
    deliver(
        tenant,
        node,
        "add",
        &["--cert", "default", "--include", "payload", "--verify"],
    )?;
    let ssh = node.machine().root().join(".ssh");
    until(LIMIT, "autorun.sh's copy", || {
        let copy = fs::read_to_string(ssh.join("payload_id_rsa")).ok()?;
        (copy == SECRET && ssh.join("payload_id_rsa.pub").exists()).then_some(())
    })?;
    wait_for_script(node)?;

    node.tpm().extend(23, 1)?;
    until(LIMIT, "the action's work", || {
        let gone = |name: &str| !ssh.join(name).exists();
        (gone("payload_id_rsa") && gone("payload_id_rsa.pub")).then_some(())
    })
}

/// Delivers to a node with an untouched PCR 23.
pub(crate) fn deliver(
    tenant: &Tenant<'_>,
    node: &Node<'_>,
    command: &str,
    payload: &[&str],
) -> Result<Told> {
    let (ip, uuid, policy) = (node.ip(), node.uuid()?, untouched_23());
    let whom = [
        "-c",
        command,
        "-t",
        &ip,
        "-u",
        &uuid,
        "--tpm_policy",
        &policy,
    ];
    tenant.does(&[&whom[..], payload].concat())
}

/// Keylime's tenant doesn't wait for the script.
pub(crate) fn wait_for_script(node: &Node<'_>) -> Result {
    node.log()?.wait_for("autorun.sh ended well")?;
    Ok(())
}

/// What the verifier says of a node, of whichever maker it is.
pub(crate) fn shown<'site>(servers: &impl Servers<'site>, uuid: &str) -> Result<Value> {
    let credential = administrator(servers.machine())?;
    let client = Client::tls(servers.verifier(), VERIFIER_PORT, credential)?;
    client.get(&format!("/v2.6/agents/{uuid}"))?.results()
}

/// Waits until the node is in one of these states.
pub(crate) fn wait_for_state<'site>(
    servers: &impl Servers<'site>,
    uuid: &str,
    states: &[i64],
) -> Result {
    until(LIMIT, &format!("state of {states:?}"), || {
        let state = shown(servers, uuid).ok()?["operational_state"].as_i64()?;
        states.contains(&state).then_some(())
    })
}

/// Waits until the verifier has taken one more quote of the node for good.
pub(crate) fn wait_for_pass<'site>(servers: &impl Servers<'site>, uuid: &str) -> Result {
    let count = |shown: Value| shown["attestation_count"].as_i64();
    let before = count(shown(servers, uuid)?);
    until(LIMIT, "good quote", || {
        let now = count(shown(servers, uuid).ok()?);
        (now > before).then_some(())
    })
}

/// The files of a directory, by name.
pub(crate) fn files_of(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default();
            files.insert(name.to_string_lossy().into_owned(), fs::read(&path)?);
        }
    }
    Ok(files)
}
