//! The realistic example of Keylime's documentation: one node may log in to another, until it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hw_tests::Result;
use hw_tests::machine::Machine;
use hw_tests::network::Network;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, Program, until};
use hw_tests::servers::Verifier;
use hw_tests::site::{Site, story};
use hw_tests::tenant::Tenant;

use crate::peers::{ZERO_POLICY, add, fail, outcomes, reboot};

/// Lets the payload's key in; the same at each boot.
const LET_IN: &str = "#!/bin/sh
set -e
mkdir -p /root/.ssh
cat payload_id_rsa.pub >> /root/.ssh/authorized_keys
chmod 700 /root /root/.ssh
chmod 600 /root/.ssh/authorized_keys
echo ran >> /root/script
";

/// Takes the key of the node that failed out again.
const KEEP_OUT: &str = "import json
import os

async def execute(json_revocation):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'owner')) as file:
        owner = file.read().strip()
    if json_revocation['agent_id'] != owner:
        return
    path = '/root/.ssh/authorized_keys'
    with open(path) as file:
        lines = [line for line in file if 'node-a' not in line]
    with open(path + '.new', 'w') as file:
        file.writelines(lines)
    os.chmod(path + '.new', 0o600)
    os.replace(path + '.new', path)
";

#[test]
fn failed_node_is_kept_out() {
    story(|site| {
        let network = Network::new()?;
        let verifier = Verifier::start_at(site, network.address()?, &[])?;
        let tenant = Tenant::beside(&verifier)?;
        let a = host_a(&network, &verifier, &tenant)?;

        let mut b = Node::install_on(&network, &verifier, &[])?;
        b.start_agent()?;
        b.wait_until_registered()?;
        payload_of_b(&tenant, &a.uuid()?)?;
        add(&tenant, &b, "payload-b", &[])?;
        let _server = serve_ssh(site, b.machine())?;
        logs_in(&a, &b)?;

        fail(&a)?;
        let actions = outcomes(&verifier, 1, &b.uuid()?)?;
        assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
        is_refused(&a, &b)
    });
}

/// B's landing zone is new in each boot and its script lets A in again: the log keeps A out again.
#[test]
fn failed_node_is_kept_out_after_a_reboot() {
    story(|site| {
        let network = Network::new()?;
        let verifier = Verifier::start_at(site, network.address()?, &[])?;
        let tenant = Tenant::beside(&verifier)?;
        let a = host_a(&network, &verifier, &tenant)?;

        tenant.does(&["-c", "signer", "--cert", "myca"])?;
        let signer = tenant.work().join("myca/PayloadSigner-cert.crt");
        let options = [
            "--tenant-signer",
            signer.to_str().ok_or("a path that is no text")?,
            "--attestation-interval-seconds",
            "1",
        ];
        let mut b = Node::calling_on(&network, &verifier, "push", &options)?;
        b.launch()?;
        let uuid = b.wait_until_registered()?;
        payload_of_b(&tenant, &a.uuid()?)?;
        let deposit = ["-c", "add", "-u", &uuid, "--push-model", "--cert", "myca"];
        let what = ["--include", "payload-b", "--tpm_policy", ZERO_POLICY];
        tenant.does(&[&deposit[..], &what].concat())?;
        let keys = b.machine().root().join(".ssh/authorized_keys");
        until(LIMIT, "A's key on B", || keys.exists().then_some(()))?;
        let _server = serve_ssh(site, b.machine())?;
        logs_in(&a, &b)?;

        fail(&a)?;
        let actions = outcomes(&verifier, 1, &uuid)?;
        assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
        is_refused(&a, &b)?;

        b.kill_agent()?;
        reboot(&b)?;
        b.launch()?;
        let script = b.machine().root().join("script");
        until(LIMIT, "B's script to run again", || {
            (fs::read_to_string(&script).ok()?.lines().count() == 2).then_some(())
        })?;
        until(LIMIT, "A's key to go again", || {
            (!fs::read_to_string(&keys).ok()?.contains("node-a")).then_some(())
        })?;
        is_refused(&a, &b)
    });
}

/// A host whose key B lets in.
fn host_a<'site>(
    network: &Network,
    verifier: &Verifier<'site>,
    tenant: &Tenant<'_>,
) -> Result<Node<'site>> {
    make_key(&tenant.work())?;
    let mut a = Node::install_on(network, verifier, &[])?;
    a.start_agent()?;
    a.wait_until_registered()?;
    payload_of_a(tenant)?;
    add(tenant, &a, "payload-a", &[])?;
    Ok(a)
}

fn make_key(folder: &Path) -> Result {
    let key = folder.join("id");
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "node-a", "-f"])
        .arg(&key)
        .status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("ssh-keygen: {status}").into())
}

fn payload_of_a(tenant: &Tenant<'_>) -> Result {
    let folder = tenant.work().join("payload-a");
    for (from, to) in [("id", "payload_id_rsa"), ("id.pub", "payload_id_rsa.pub")] {
        payload::write(&folder, to, &fs::read(tenant.work().join(from))?, 0o600)?;
    }
    payload::script(&folder, payload::DOCUMENTED_SCRIPT)
}

fn payload_of_b(tenant: &Tenant<'_>, owner: &str) -> Result {
    let folder = tenant.work().join("payload-b");
    let public = fs::read(tenant.work().join("id.pub"))?;
    payload::write(&folder, "payload_id_rsa.pub", &public, 0o644)?;
    payload::write(&folder, "owner", owner.as_bytes(), 0o644)?;
    payload::write(
        &folder,
        "local_action_keep_out.py",
        KEEP_OUT.as_bytes(),
        0o644,
    )?;
    payload::script(&folder, LET_IN)
}

/// An SSH server on a host, with a key of its own.
fn serve_ssh(site: &Site, machine: &Machine) -> Result<Program> {
    let key = machine.work().join("host-key");
    let made = Command::new("dropbearkey")
        .args(["-t", "ed25519", "-f"])
        .arg(&key)
        .output()?;
    if !made.status.success() {
        return Err(format!("dropbearkey: {}", made.status).into());
    }
    // dropbear wants a home that nobody else writes to.
    fs::set_permissions(machine.root(), fs::Permissions::from_mode(0o700))?;
    let mut command = machine.command("dropbear");
    command.args(["-F", "-E", "-s", "-r"]).arg(&key);
    let server = Program::start(command, site.log("dropbear"))?;
    server.wait_for("Not backgrounding")?;
    Ok(server)
}

fn log_in(a: &Node<'_>, b: &Node<'_>) -> Result<(bool, String)> {
    let mut command = a.machine().command("ssh");
    command.args(["-i", "/root/.ssh/payload_id_rsa", "-o", "BatchMode=yes"]);
    command.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    command.arg(format!("root@{}", b.ip())).arg("echo welcome");
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

fn logs_in(a: &Node<'_>, b: &Node<'_>) -> Result {
    let (is_in, said) = log_in(a, b)?;
    if is_in && said.contains("welcome") {
        return Ok(());
    }
    Err(format!("A can't log in to B: {said}").into())
}

fn is_refused(a: &Node<'_>, b: &Node<'_>) -> Result {
    let (is_in, said) = log_in(a, b)?;
    if !is_in && said.contains("Permission denied") {
        return Ok(());
    }
    Err(format!("A isn't refused by B: {said}").into())
}
