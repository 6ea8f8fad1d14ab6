//! Nodes of one CA: how they are added, how one fails, and what the others did about it.

use std::fs;
use std::path::PathBuf;

use hw_tests::Result;
use hw_tests::day::untouched_23;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::{Tenant, Told};
use serde_json::Value;

/// An action that notes, line by line, whom it heard of.
pub(crate) const NOTES: &str = "#!/bin/sh
set -e
uuid=$(sed -n 's/.*\"agent_id\": *\"\\([^\"]*\\)\".*/\\1/p' \"$1\")
number=$(sed -n 's/.*\"number\": *\\([0-9]*\\).*/\\1/p' \"$1\")
echo \"$number $uuid\" >> /root/heard
";

/// Where [`NOTES`] writes.
pub(crate) const HEARD: &str = "heard";

/// A folder that a node gets: an action that notes what it hears, and a script that says that it ran.
pub(crate) fn noting(tenant: &Tenant<'_>) -> Result {
    let folder = tenant.work().join("payload");
    payload::write(&folder, "local_action_note", NOTES.as_bytes(), 0o755)?;
    payload::script(&folder, "#!/bin/sh\necho ran >> /root/script\n")
}

/// A story between two nodes of one CA that have the folder [`noting`]: one that is to fail, and one that is to act.
pub(crate) fn between(
    tell: impl for<'site> FnOnce(&Verifier<'site>, &Tenant<'_>, Node<'site>, Node<'site>) -> Result,
) {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let (bad, peer) = (
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        );
        tell(&verifier, &tenant, bad, peer)
    });
}

/// A node that has registered, and was added with the folder `payload`, by a policy that an untouched PCR 23 satisfies.
pub(crate) fn added<'site>(
    verifier: &Verifier<'site>,
    tenant: &Tenant<'_>,
    more: &[&str],
) -> Result<Node<'site>> {
    let node = Node::boot(verifier, Swtpm::fresh(verifier.site())?)?;
    add(tenant, &node, "payload", more)?;
    Ok(node)
}

/// Adds a node with a folder.
pub(crate) fn add(
    tenant: &Tenant<'_>,
    node: &Node<'_>,
    folder: &str,
    more: &[&str],
) -> Result<Told> {
    let (ip, uuid, policy) = (node.ip(), node.uuid()?, untouched_23());
    let usual = ["-c", "add", "-t", &ip, "-u", &uuid, "--tpm_policy", &policy];
    let what = ["--cert", "myca", "--include", folder];
    tenant.does(&[&usual[..], &what, more].concat())
}

/// The node fails: its PCR 23 isn't what its policy wants any more.
pub(crate) fn fail(node: &Node<'_>) -> Result {
    node.tpm().extend(23, 1)
}

/// What a node's action noted so far.
pub(crate) fn heard(node: &Node<'_>) -> Vec<String> {
    let file = node.machine().root().join(HEARD);
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a node's action has noted exactly this.
pub(crate) fn wait_until_heard(node: &Node<'_>, wanted: &[String]) -> Result {
    until(LIMIT, &format!("{wanted:?} in {}", node.ip()), || {
        (heard(node) == wanted).then_some(())
    })
    .map_err(|error| format!("{error}; heard was {:?}", heard(node)).into())
}

/// Entry number `number`, about `node`, as [`NOTES`] writes it.
pub(crate) fn noted(number: u64, node: &Node<'_>) -> Result<String> {
    Ok(format!("{number} {}", node.uuid()?))
}

/// The only log that the verifier has.
pub(crate) fn log_id(verifier: &Verifier<'_>) -> Result<String> {
    let logs = verifier.client()?.get("/v2.6/revocations")?.results()?;
    match logs["logs"].as_array().map(Vec::as_slice) {
        Some([log]) => Ok(log["log_id"].as_str().ok_or("no log_id")?.to_owned()),
        _ => Err(format!("not one log: {logs}").into()),
    }
}

/// The entries of the only log, from number 1.
pub(crate) fn entries(verifier: &Verifier<'_>) -> Result<Vec<Value>> {
    let path = format!("/v2.6/revocations/{}?after=0", log_id(verifier)?);
    let results = verifier.client()?.get(&path)?.results()?;
    Ok(results["entries"].as_array().cloned().unwrap_or_default())
}

/// An entry as it travels: `{msg, signature}`.
pub(crate) fn wire(entry: &Value) -> Value {
    serde_json::json!({ "msg": entry["msg"], "signature": entry["signature"] })
}

/// What a node did about an entry, as the verifier knows it: names and ends of its actions, once they are there.
pub(crate) fn outcomes(verifier: &Verifier<'_>, number: u64, uuid: &str) -> Result<Vec<Value>> {
    let path = format!("/v2.6/revocations/{}/{number}", log_id(verifier)?);
    let client = verifier.client()?;
    let mut last = Value::Null;
    until(LIMIT, &format!("{uuid} to report entry {number}"), || {
        last = client.get(&path).ok()?.results().ok()?;
        let peers = last["peers"].as_array()?;
        let peer = peers.iter().find(|peer| peer["agent_id"] == uuid)?;
        (peer["state"] == "acted").then(|| peer["actions"].as_array().cloned().unwrap_or_default())
    })
    .map_err(|error| format!("{error}; the last answer was {last}").into())
}

/// The state of a peer of the only log.
pub(crate) fn state(verifier: &Verifier<'_>, uuid: &str) -> Result<String> {
    let path = format!("/v2.6/revocations/{}/peers", log_id(verifier)?);
    let peers = verifier.client()?.get(&path)?.results()?;
    let found = peers["peers"].as_array().and_then(|peers| {
        let peer = peers.iter().find(|peer| peer["agent_id"] == uuid)?;
        peer["state"].as_str().map(str::to_owned)
    });
    found.ok_or_else(|| format!("{uuid} is no peer in {peers}").into())
}

/// Waits until a file of a node's `/root` is there, or gone.
pub(crate) fn wait_for_file(node: &Node<'_>, name: &str, is_there: bool) -> Result<PathBuf> {
    let path = node.machine().root().join(name);
    until(LIMIT, &format!("{name} there: {is_there}"), || {
        (path.exists() == is_there).then(|| path.clone())
    })
}

/// Boots a machine again in good order.
pub(crate) fn reboot(node: &Node<'_>) -> Result {
    node.machine().forget()?;
    node.tpm().reboot()
}

/// An operator's word against a node, by hand; the number of the entry.
pub(crate) fn revoke(verifier: &Verifier<'_>, uuid: &str, reason: &str) -> Result<u64> {
    let body = serde_json::json!({ "agent_id": uuid, "reason": reason });
    let client = verifier.client()?;
    let results = client
        .send("POST", "/v2.6/revocations", Some(&body))?
        .results()?;
    Ok(results["number"]
        .as_u64()
        .ok_or_else(|| format!("no number in {results}"))?)
}

/// All boot PCRs of a TPM that nothing has measured into: a policy that selects PCR 0.
pub(crate) const ZERO_POLICY: &str =
    r#"{"0": "0000000000000000000000000000000000000000000000000000000000000000"}"#;
