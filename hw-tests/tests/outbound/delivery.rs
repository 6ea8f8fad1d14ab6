//! Payloads that arrive: at the first boot, at the next ones, after the tenant has gone to sleep.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::payload::{self, SECRET};
use hw_tests::process::LIMIT;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::edge::{
    delivered, deposit, deposited, documented, exit, has_nothing, install, reboot, registered,
    rotate, status,
};

/// What an agent may ask when it is registered.
const MAX_REQUESTS: usize = 12;

#[test]
fn payload_arrives_over_one_connection() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&tap, &tenant)?;
        assert!(has_nothing(&node));
        documented(&tenant)?;
        deposit(&tenant, &uuid, &[])?;

        let (asked, connected) = (tap.relay().heard().len(), tap.relay().connections());
        let before = files(&node)?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        assert_eq!(delivered(&node)?, SECRET);
        let asked = tap.relay().heard().len() - asked;
        assert!(asked <= MAX_REQUESTS, "{asked} requests");
        assert_eq!(tap.relay().connections() - connected, 1);
        assert_eq!(files(&node)?, before, "something is on the node's disk");
        Ok(())
    });
}

#[test]
fn payload_again_after_reboot() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = deposited(&verifier, &tenant, &[])?;
        drop(tenant);
        for _boot in 0..3 {
            let told = node.run(&[])?;
            assert_eq!(told.code, exit::DONE, "{}", told.text);
            assert_eq!(delivered(&node)?, SECRET);
            fs::remove_dir_all(node.machine().root().join(".ssh"))?;
            reboot(&node)?;
            // What the verifier needs for the next boot is in its database.
            verifier.kill()?;
            verifier.start_again()?;
        }
        Ok(())
    });
}

#[test]
fn agent_waits_for_its_deposit() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        documented(&tenant)?;
        node.launch()?;
        let uuid = node.wait_until_registered()?;
        deposit(&tenant, &uuid, &[])?;
        let log = node.log()?.clone();
        let (status, _) = node.wait_for_end()?;
        assert!(status.success(), "{status}: {}", log.text());
        assert_eq!(delivered(&node)?, SECRET);
        Ok(())
    });
}

#[test]
fn tenant_waits_for_a_node_that_has_not_registered() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        documented(&tenant)?;
        let uuid = ek_hash(&node)?;
        let usual = ["-c", "add", "-u", &uuid, "--push-model", "--cert", "myca"];
        let more = [
            "--include",
            "payload",
            "--tpm_policy",
            crate::edge::ZERO_POLICY,
        ];
        let refused = tenant.fails(&[&usual[..], &more].concat())?;
        refused.says(&["--wait", "--queue"])?;
        let (mut waiting, log, _) =
            tenant.launch(&[&usual[..], &more, &["--wait", "60"]].concat())?;
        let told = node.run(&[])?;
        let ended = waiting.wait(LIMIT)?;
        assert!(ended.success(), "{}", log.text());
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        assert_eq!(delivered(&node)?, SECRET);
        Ok(())
    });
}

#[test]
fn queue_is_worked_off_when_the_node_registers() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        documented(&tenant)?;
        let uuid = ek_hash(&node)?;
        deposit(&tenant, &uuid, &["--queue"])?;
        let (watch, log, _) = tenant.launch(&["watch"])?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::DONE, "{}\n{}", told.text, log.text());
        assert_eq!(delivered(&node)?, SECRET);
        drop(watch);
        Ok(())
    });
}

#[test]
fn tenant_pins_the_ek() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        let named = "node-with-a-name";
        let told = node.run(&["--uuid", named, "--deadline", "1s"])?;
        assert_eq!(told.code, exit::NOT_ACCEPTED, "{}", told.text);
        documented(&tenant)?;
        let usual = ["-c", "add", "-u", named, "--push-model", "--cert", "myca"];
        let what = [
            "--include",
            "payload",
            "--tpm_policy",
            crate::edge::ZERO_POLICY,
        ];
        let add = [&usual[..], &what].concat();
        // A genuine TPM's certificate alone says nothing of which node it is.
        tenant.fails(&add)?.says(&["--ek-hash"])?;
        let other = "0".repeat(64);
        tenant.fails(&[&add[..], &["--ek-hash", &other]].concat())?;
        let right = ek_hash(&node)?;
        tenant.does(&[&add[..], &["--ek-hash", &right]].concat())?;
        let told = node.run(&["--uuid", named])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(())
    });
}

#[test]
fn script_failure_is_the_exit_code() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&verifier, &tenant)?;
        payload::script(&tenant.work().join("payload"), "#!/bin/sh\nexit 3\n")?;
        deposit(&tenant, &uuid, &[])?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::SCRIPT_FAILED, "{}", told.text);
        let status = status(&tenant, &uuid)?.to_string();
        assert!(status.contains("\"exit_code\":3"), "{status}");
        Ok(())
    });
}

#[test]
fn status_tells_each_boot_by_its_receipt() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = deposited(&verifier, &tenant, &[])?;
        for _boot in 0..2 {
            assert_eq!(node.run(&[])?.code, exit::DONE);
            reboot(&node)?;
        }
        let told = tenant.does(&["-c", "status", "-u", &uuid])?;
        told.says(&["unpacked", "floor"])?;
        let status = status(&tenant, &uuid)?.to_string();
        assert_eq!(status.matches("\"exit_code\":0").count(), 2, "{status}");
        Ok(())
    });
}

#[test]
fn rotate_replaces_the_deposit() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&verifier, &tenant)?;
        let folder = tenant.work().join("payload");
        documented(&tenant)?;
        deposit(&tenant, &uuid, &[])?;
        assert_eq!(node.run(&[])?.code, exit::DONE);
        payload::write(&folder, "payload_id_rsa", b"another secret", 0o600)?;
        rotate(&tenant, &uuid, &[])?;
        reboot(&node)?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        assert_eq!(delivered(&node)?, "another secret");
        Ok(())
    });
}

#[test]
fn once_is_for_one_boot() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = deposited(&verifier, &tenant, &["--deliver", "once"])?;
        assert_eq!(node.run(&[])?.code, exit::DONE);
        reboot(&node)?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["spent"])?;
        Ok(())
    });
}

#[test]
fn until_ends() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = deposited(&verifier, &tenant, &["--deliver", "until=+1h"])?;
        assert_eq!(node.run(&[])?.code, exit::DONE);
        reboot(&node)?;
        rotate(&tenant, &uuid, &["--deliver", "until=+1s"])?;
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["expired"])?;
        Ok(())
    });
}

#[test]
fn push_and_pull_nodes_live_side_by_side() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let pulled = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let (mut node, uuid) = registered(&verifier, &tenant)?;
        documented(&tenant)?;
        tenant.does(&[
            "-t",
            &pulled.ip(),
            "-u",
            &pulled.uuid()?,
            "--cert",
            "myca",
            "--include",
            "payload",
        ])?;
        deposit(&tenant, &uuid, &[])?;
        assert_eq!(node.run(&[])?.code, exit::DONE);
        let list = tenant.does(&["-c", "cvlist"])?;
        list.says(&[&uuid, &pulled.uuid()?])?;
        Ok(())
    });
}

/// The identifier that a node will have, by a program that isn't ours.
fn ek_hash(node: &Node<'_>) -> Result<String> {
    let tpm = node.tpm();
    tpm.tool(
        "tpm2_createek",
        &["-c", "ek.ctx", "-G", "rsa", "-u", "ek.pem", "-f", "pem"],
    )?;
    tpm.tool("tpm2_flushcontext", &["-t"])?;
    let pem = tpm.dir().join("ek.pem");
    let hash = std::process::Command::new("sha256sum").arg(pem).output()?;
    let text = String::from_utf8(hash.stdout)?;
    Ok(text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Every file that survives the node's power, and when it was written last.
fn files(node: &Node<'_>) -> Result<BTreeMap<PathBuf, SystemTime>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![node.machine().keylime(), node.machine().work()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
            if kind?.is_dir() {
                directories.push(path);
            } else {
                files.insert(path.clone(), changed(&path)?);
            }
        }
    }
    Ok(files)
}

fn changed(path: &Path) -> Result<SystemTime> {
    Ok(fs::symlink_metadata(path)?.modified()?)
}
