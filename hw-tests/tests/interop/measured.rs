//! IMA lists and boot logs of our agent before Keylime's verifier, and before ours by Keylime's tenant.

use std::fs;

use hw_tests::Result;
use hw_tests::measured::{Booted, ImaList, Measured, reference_state, runtime_policy};
use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::process::{LIMIT, until};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::steps::{self, RSASSA};

const SHELL: Measured<'_> = ("/bin/sh", b"a shell");
const TOOL: Measured<'_> = ("/usr/bin/tool", b"a tool");
const IMPLANT: Measured<'_> = ("/usr/bin/implant", b"nobody listed it");

/// Adds a node with a file for it, which arrives.
fn deliver(tenant: &Tenant<'_>, node: &Node<'_>, policies: &[&str]) -> Result {
    fs::write(tenant.work().join("secret"), "delivered")?;
    let (ip, uuid) = (node.ip(), node.uuid()?);
    let whom = ["-c", "add", "-t", &ip, "-u", &uuid, "-f", "secret"];
    tenant.does(&[&whom[..], policies].concat())?;
    until(LIMIT, "the file", || {
        let file = fs::read_to_string(node.unzipped("decrypted_payload")).ok()?;
        (file == "delivered").then_some(())
    })
}

/// Waits until a node has failed, and returns the event.
fn failed(operator: &Operator<'_>, uuid: &str) -> Result<(Value, String)> {
    steps::wait_for_state(operator, uuid, &[9])?;
    let shown = steps::shown(operator, uuid)?;
    let event = shown["last_event_id"].as_str().unwrap_or_default();
    Ok((shown.clone(), event.to_owned()))
}

/// Our tool makes the policy of the node's own list.
#[test]
fn keylimes_verifier_judges_our_agents_list_by_our_policy() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keylime, Maker::Keylime)?;
        let tpm = Swtpm::fresh(site)?;
        let list = ImaList::empty(site.dir(), "list")?;
        list.begin(&tpm)?;
        list.measure(&tpm, &[SHELL, TOOL])?;
        let options = list.options();
        let options = options.iter().map(String::as_str).chain(RSASSA);
        let node = Node::boot_with(&operator, tpm, &options.collect::<Vec<_>>())?;
        let tenant = operator.tenant(Maker::Keyhalf)?;
        let log = list.file().to_str().ok_or("a path that is no text")?;
        let create = ["policy", "create", "runtime", "--ima-log", log];
        tenant.does(&[&create[..], &["-o", "policy.json"]].concat())?;

        deliver(&tenant, &node, &["--runtime-policy", "policy.json"])?;
        let uuid = node.uuid()?;
        steps::wait_for_pass(&operator, &uuid)?;
        // A listed file, measured once more.
        list.measure(node.tpm(), &[SHELL])?;
        steps::wait_for_pass(&operator, &uuid)?;
        steps::wait_for_pass(&operator, &uuid)?;
        list.measure(node.tpm(), &[IMPLANT])?;
        let (_, event) = failed(&operator, &uuid)?;
        assert!(event.starts_with("ima."), "{event}");
        Ok(())
    });
}

#[test]
fn keylimes_tenant_gives_both_policies_to_our_verifier() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keyhalf, Maker::Keyhalf)?;
        let Booted { tpm, list, options } = Booted::new(site, "list", &[SHELL])?;
        let options = options.iter().map(String::as_str).chain(RSASSA);
        let node = Node::boot_with(&operator, tpm, &options.collect::<Vec<_>>())?;
        let tenant = operator.tenant(Maker::Keylime)?;
        let policy = runtime_policy(&[SHELL], &[]).to_string();
        fs::write(tenant.work().join("runtime.json"), policy)?;
        fs::copy(reference_state(), tenant.work().join("boot.json"))?;
        let runtime = ["--runtime-policy", "runtime.json"];
        let both = [runtime, ["--mb-policy", "boot.json"]];

        deliver(&tenant, &node, both.as_flattened())?;
        let uuid = node.uuid()?;
        steps::wait_for_pass(&operator, &uuid)?;
        list.measure(node.tpm(), &[IMPLANT])?;
        let (shown, event) = failed(&operator, &uuid)?;
        assert!(event.starts_with("ima."), "{event}");
        let reason = shown["failure"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(IMPLANT.0), "{reason}");
        Ok(())
    });
}
