//! A node behind NAT, its tenant, and the verifier that both reach.

use std::path::PathBuf;

use hw_tests::Result;
use hw_tests::machine::LANDING;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::servers::Servers;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::{Tenant, Told};
use serde_json::Value;

/// How the agent's exit codes read.
pub(crate) mod exit {
    pub(crate) const DONE: i32 = 0;
    pub(crate) const NO_TPM: i32 = 10;
    pub(crate) const NO_NETWORK: i32 = 11;
    pub(crate) const NOT_ACCEPTED: i32 = 12;
    pub(crate) const REFUSED: i32 = 13;
    pub(crate) const BAD_PAYLOAD: i32 = 14;
    pub(crate) const SCRIPT_FAILED: i32 = 15;
    pub(crate) const DEADLINE: i32 = 16;
}

/// All boot PCRs of a TPM that nothing has measured into: a policy that selects PCR 0.
pub(crate) const ZERO_POLICY: &str =
    r#"{"0": "0000000000000000000000000000000000000000000000000000000000000000"}"#;

/// Makes the tenant's CA and its signing certificate, which a node's image is built with.
pub(crate) fn signer(tenant: &Tenant<'_>) -> Result<PathBuf> {
    tenant.does(&["-c", "signer", "--cert", "myca"])?;
    Ok(tenant.work().join("myca/PayloadSigner-cert.crt"))
}

/// A node whose image knows the tenant and the verifier, and that nobody has registered yet.
pub(crate) fn install<'site>(
    servers: &impl Servers<'site>,
    tenant: &Tenant<'_>,
    tpm: Swtpm,
) -> Result<Node<'site>> {
    let signer = signer(tenant)?;
    let signer = signer.to_str().ok_or("a path that is no text")?;
    Node::calling(
        servers,
        tpm,
        "provision",
        &["--tenant-signer", signer, "--deadline", "30s"],
    )
}

/// Lets a node register, and find that there is nothing for it; returns its uuid.
pub(crate) fn register(node: &mut Node<'_>) -> Result<String> {
    node.launch()?;
    let uuid = node.wait_until_registered()?;
    node.log()?.wait_for("doesn't accept this node (yet)")?;
    node.stop_agent()?;
    Ok(uuid)
}

/// A node that has registered, and its uuid.
pub(crate) fn registered<'site>(
    servers: &impl Servers<'site>,
    tenant: &Tenant<'_>,
) -> Result<(Node<'site>, String)> {
    let mut node = install(servers, tenant, Swtpm::fresh(servers.site())?)?;
    let uuid = register(&mut node)?;
    Ok((node, uuid))
}

/// A node that has registered, and whose documented example is deposited with more options; and its uuid.
pub(crate) fn deposited<'site>(
    servers: &impl Servers<'site>,
    tenant: &Tenant<'_>,
    more: &[&str],
) -> Result<(Node<'site>, String)> {
    let (node, uuid) = registered(servers, tenant)?;
    documented(tenant)?;
    deposit(tenant, &uuid, more)?;
    Ok((node, uuid))
}

/// The documented example's folder, where the tenant stands.
pub(crate) fn documented(tenant: &Tenant<'_>) -> Result {
    payload::documented(&tenant.work().join("payload"))
}

/// Deposits the folder `payload` for a node, with more options.
pub(crate) fn deposit(tenant: &Tenant<'_>, uuid: &str, more: &[&str]) -> Result<Told> {
    let usual = ["-c", "add", "-u", uuid, "--push-model", "--cert", "myca"];
    let what = ["--include", "payload", "--tpm_policy", ZERO_POLICY];
    tenant.does(&[&usual[..], &what, more].concat())
}

/// Seals the folder `payload` anew, with more options.
pub(crate) fn rotate(tenant: &Tenant<'_>, uuid: &str, more: &[&str]) -> Result {
    let usual = ["-c", "rotate", "-u", uuid, "--cert", "myca"];
    tenant.does(&[&usual[..], &["--include", "payload"], more].concat())?;
    Ok(())
}

/// What the tenant's `-c status --json` says of a node.
pub(crate) fn status(tenant: &Tenant<'_>, uuid: &str) -> Result<Value> {
    let told = tenant.run(&["-c", "status", "-u", uuid, "--json"])?;
    let json = told.text.lines().rev().find(|line| line.starts_with('{'));
    let json = json.ok_or_else(|| format!("no JSON in:\n{}", told.text))?;
    Ok(serde_json::from_str(json)?)
}

/// Boots the node's machine again in good order.
pub(crate) fn reboot(node: &Node<'_>) -> Result {
    node.machine().forget()?;
    node.tpm().reboot()
}

/// Whether nothing of a payload is on the node.
pub(crate) fn has_nothing(node: &Node<'_>) -> bool {
    let landing = node.machine().inside(LANDING);
    !landing.join("secure/unzipped").exists() && !node.machine().root().join(".ssh").exists()
}

/// The node's `/root/.ssh/payload_id_rsa`, which the documented script puts there.
pub(crate) fn delivered(node: &Node<'_>) -> Result<String> {
    let file = node.machine().root().join(".ssh/payload_id_rsa");
    Ok(std::fs::read_to_string(file)?)
}
