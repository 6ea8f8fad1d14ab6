//! What nodes measured decides: runtime and measured-boot policies over lists that a real TPM was extended by.

use std::fs;
use std::path::Path;

use hw_tests::Result;
use hw_tests::machine::LANDING;
use hw_tests::measured::{Booted, ImaList, Measured, boot, reference_state, runtime_policy};
use hw_tests::node::Node;
use hw_tests::payload::{self, SECRET};
use hw_tests::process::{LIMIT, until};
use hw_tests::relay::Exchange;
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::{Site, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tap::{Tap, Wiretap};
use hw_tests::tenant::{Tenant, Told};
use serde_json::Value;

const SHELL: Measured<'_> = ("/bin/sh", b"a shell");
const TOOL: Measured<'_> = ("/usr/bin/tool", b"a tool");
const CACHE: Measured<'_> = ("/var/cache/thing", b"anything");
const IMPLANT: Measured<'_> = ("/usr/bin/implant", b"nobody listed it");
const CHANGED: Measured<'_> = ("/usr/bin/tool", b"another tool");

/// A TPM whose machine has run a shell, and its list: begun by the kernel, as line 1.
fn machine(site: &Site, name: &str) -> Result<(Swtpm, ImaList)> {
    let tpm = Swtpm::fresh(site)?;
    let list = ImaList::empty(site.dir(), name)?;
    list.begin(&tpm)?;
    list.measure(&tpm, &[SHELL])?;
    Ok((tpm, list))
}

/// A node that listens, and its list.
fn listening<'site>(servers: &impl Servers<'site>, name: &str) -> Result<(Node<'site>, ImaList)> {
    let (tpm, list) = machine(servers.site(), name)?;
    let options = list.options();
    let node = Node::boot_with(servers, tpm, &options.each_ref().map(String::as_str))?;
    Ok((node, list))
}

/// Writes a policy for these files and the kernel's own first line, which no PCR of the quote vouches for.
fn write_policy(tenant: &Tenant<'_>, name: &str, files: &[Measured<'_>]) -> Result {
    let policy = runtime_policy(files, &["boot_aggregate$", "/var/cache/"]);
    Ok(fs::write(tenant.work().join(name), policy.to_string())?)
}

/// Delivers the documented example to a node that listens.
fn add(tenant: &Tenant<'_>, ip: &str, uuid: &str, more: &[&str]) -> Result<Told> {
    payload::documented(&tenant.work().join("payload"))?;
    let usual = ["-t", ip, "-u", uuid, "--cert", "myca"];
    tenant.does(&[&usual[..], &["--include", "payload"], more].concat())
}

fn has_secret(node: &Node<'_>) -> bool {
    let file = node.machine().root().join(".ssh/payload_id_rsa");
    fs::read_to_string(file).is_ok_and(|text| text == SECRET)
}

fn wait_for_secret(node: &Node<'_>) -> Result {
    until(LIMIT, "the secret", || has_secret(node).then_some(()))
}

/// Waits until the tenant's status of a node says all of `texts`.
fn wait_for_status(tenant: &Tenant<'_>, uuid: &str, texts: &[&str]) -> Result {
    let mut last = String::new();
    until(LIMIT, &format!("status with {texts:?}"), || {
        last = tenant.run(&["-c", "status", "-u", uuid]).ok()?.text;
        texts.iter().all(|text| last.contains(text)).then_some(())
    })
    .map_err(|error| format!("{error}; the last was\n{last}").into())
}

fn record(verifier: &Verifier<'_>, uuid: &str) -> Result<Value> {
    let path = format!("/v2.6/agents/{uuid}");
    verifier.client()?.get(&path)?.results()
}

/// Waits until a node has passed so many times more.
fn wait_for_passes(verifier: &Verifier<'_>, uuid: &str, more: u64) -> Result {
    let count = |record: Value| record["attestation_count"].as_u64().unwrap_or_default();
    let from = count(record(verifier, uuid)?);
    until(LIMIT, "passes", || {
        let now = count(record(verifier, uuid).ok()?);
        (now >= from + more).then_some(())
    })
}

#[test]
fn unknown_file_fails_its_node_and_its_peers_hear_of_it() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "policy.json", &[SHELL, TOOL])?;
        let (node, list) = listening(&verifier, "node-list")?;
        let (peer, _) = listening(&verifier, "peer-list")?;
        for node in [&node, &peer] {
            let policy = ["--runtime-policy", "policy.json"];
            add(&tenant, &node.ip(), &node.uuid()?, &policy)?;
            wait_for_secret(node)?;
        }
        let uuid = node.uuid()?;
        list.measure(node.tpm(), &[TOOL, CACHE])?;
        wait_for_passes(&verifier, &uuid, 2)?;

        let heard = peer.log()?.len();
        list.measure(node.tpm(), &[IMPLANT])?;
        let wanted = ["Invalid Quote", "line 5 of the IMA list", IMPLANT.0];
        wait_for_status(&tenant, &uuid, &wanted)?;
        let event = record(&verifier, &uuid)?["last_event_id"].clone();
        let event = event.as_str().unwrap_or_default();
        assert!(event.starts_with("ima."), "{event}");
        peer.log()?.wait_from(heard, "revocation")?;
        wait_for_passes(&verifier, &peer.uuid()?, 2)
    });
}

#[test]
fn what_the_list_hides_or_changes_is_found() {
    type Deed = fn(&ImaList, &Node<'_>) -> Result;
    let rows: [(&str, &str, Deed); 3] = [
        (CHANGED.0, "ima.", |list, node| {
            list.measure(node.tpm(), &[CHANGED])
        }),
        ("no line of the IMA list", "ima.", |_, node| {
            node.tpm().extend(10, 7)
        }),
        ("no line of the IMA list", "ima.", |list, node| {
            // The TPM was told of an implant, the list wasn't.
            let hidden = ImaList::empty(node.tpm().dir(), "hidden")?;
            hidden.measure(node.tpm(), &[IMPLANT])?;
            list.measure(node.tpm(), &[TOOL])
        }),
    ];
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "policy.json", &[SHELL, TOOL])?;
        for (number, (says, event, deed)) in rows.into_iter().enumerate() {
            let (node, list) = listening(&verifier, &format!("list-{number}"))?;
            let uuid = node.uuid()?;
            let policy = ["--runtime-policy", "policy.json"];
            add(&tenant, &node.ip(), &uuid, &policy)?;
            deed(&list, &node)?;
            wait_for_status(&tenant, &uuid, &["Invalid Quote", says])?;
            let failed = record(&verifier, &uuid)?["last_event_id"].clone();
            let failed = failed.as_str().unwrap_or_default();
            assert!(failed.starts_with(event), "{says}: {failed}");
        }
        Ok(())
    });
}

#[test]
fn node_with_an_unknown_file_never_gets_its_secret() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "policy.json", &[SHELL])?;
        let (node, list) = listening(&verifier, "list")?;
        list.measure(node.tpm(), &[IMPLANT])?;
        payload::documented(&tenant.work().join("payload"))?;
        let (ip, uuid) = (node.ip(), node.uuid()?);
        let usual = ["-t", &ip, "-u", &uuid, "--cert", "myca"];
        let what = ["--include", "payload", "--runtime-policy", "policy.json"];
        let told = tenant.fails(&[&usual[..], &what].concat())?;
        assert_eq!(told.code, 6, "{}", told.text);
        told.says(&["line 3 of the IMA list", IMPLANT.0])?;
        assert!(node.has_nothing() && !has_secret(&node));
        Ok(())
    });
}

/// A line of IMA's list is a criterion like any other: the documented action runs when it fails.
#[test]
fn documented_action_runs_when_a_line_fails() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "policy.json", &[SHELL])?;
        let (node, list) = listening(&verifier, "list")?;
        let folder = tenant.work().join("payload");
        payload::documented_with_action(&folder)?;
        add(
            &tenant,
            &node.ip(),
            &node.uuid()?,
            &["--runtime-policy", "policy.json"],
        )?;
        wait_for_secret(&node)?;
        list.measure(node.tpm(), &[IMPLANT])?;
        until(LIMIT, "the documented action", || {
            let key = node.machine().root().join(".ssh/payload_id_rsa");
            (!key.exists()).then_some(())
        })
    });
}

/// The line that was asked for first, and how many came.
fn asked_and_came(exchange: &Exchange) -> Option<(u64, usize)> {
    let (_, query) = exchange.path.split_once("/quotes/integrity?")?;
    let entry = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("ima_ml_entry="));
    let list = exchange.answer.json().ok()?["results"]["ima_measurement_list"].clone();
    let lines = list.as_str()?.lines().count();
    Some((entry?.parse().ok()?, lines))
}

#[test]
fn only_new_lines_travel() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut tap = Tap::before(&verifier)?;
        let (tpm, list) = machine(site, "list")?;
        let options = list.options();
        let node = Node::boot_with(&tap, tpm, &options.each_ref().map(String::as_str))?;
        tap.and_before(&node)?;
        let tenant = Tenant::beside(&tap)?;
        write_policy(&tenant, "policy.json", &[SHELL, TOOL])?;
        let (ip, uuid) = (tap.agent().to_string(), node.uuid()?);
        add(&tenant, &ip, &uuid, &["--runtime-policy", "policy.json"])?;
        wait_for_passes(&verifier, &uuid, 2)?;
        list.measure(node.tpm(), &[TOOL])?;
        wait_for_passes(&verifier, &uuid, 3)?;
        let by_verifier = |exchange: &&Exchange| exchange.path.contains("partial=1");
        let heard = tap.heard();
        let mut all: Vec<_> = heard.iter().filter(by_verifier).collect();
        all.retain(|exchange| exchange.answer.status == 200);
        let mut seen: Vec<_> = all.into_iter().filter_map(asked_and_came).collect();
        seen.dedup();
        // A quote may have come between a line and its extension: then the line comes once more.
        seen.retain(|(asked, came)| *asked != 2 || *came == 0 || *came == 1);
        let first: Vec<_> = seen.iter().filter(|(asked, _)| *asked == 0).collect();
        assert!(first.iter().all(|(_, came)| *came == 2), "{seen:?}");
        for wanted in [(2, 0), (2, 1), (3, 0)] {
            assert!(seen.contains(&wanted), "{wanted:?} isn't in {seen:?}");
        }
        assert_eq!(seen.last(), Some(&(3, 0)), "{seen:?}");
        Ok(())
    });
}

#[test]
fn named_policy_is_shared_and_changes_at_the_next_round() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "wide.json", &[SHELL, TOOL])?;
        write_policy(&tenant, "narrow.json", &[SHELL])?;
        let (with_tool, list) = listening(&verifier, "list-with-tool")?;
        list.measure(with_tool.tpm(), &[TOOL])?;
        let (without, _) = listening(&verifier, "list-without")?;
        let name = ["--runtime-policy-name", "web"];
        let (one, other) = (with_tool.uuid()?, without.uuid()?);
        let new = [&name[..], &["--runtime-policy", "wide.json"]].concat();
        add(&tenant, &with_tool.ip(), &one, &new)?;
        add(&tenant, &without.ip(), &other, &name)?;
        wait_for_secret(&with_tool)?;
        wait_for_secret(&without)?;

        let does = |command: &str, file: &[&str]| {
            tenant.does(&[&["-c", command], &name[..], file].concat())
        };
        does("updateruntimepolicy", &["--runtime-policy", "narrow.json"])?;
        let wanted = ["Invalid Quote", "line 3 of the IMA list", TOOL.0];
        wait_for_status(&tenant, &one, &wanted)?;
        wait_for_passes(&verifier, &other, 2)?;

        let delete = ["-c", "deleteruntimepolicy", name[0], name[1]];
        let refused = tenant.fails(&delete)?;
        assert_eq!(refused.code, 10, "{}", refused.text);
        refused.says(&["web"])?;
        wait_for_passes(&verifier, &other, 2)?;
        does("updateruntimepolicy", &["--runtime-policy", "wide.json"])?;
        tenant.does(&["-c", "reactivate", "-u", &one])?;
        wait_for_passes(&verifier, &one, 2)?;
        for uuid in [&one, &other] {
            tenant.does(&["-c", "delete", "-u", uuid])?;
        }
        does("deleteruntimepolicy", &[])?;
        Ok(())
    });
}

#[test]
fn signed_policy_counts_by_its_signer_alone() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let (node, list) = listening(&verifier, "list")?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "policy.json", &[SHELL])?;
        for signer in ["one", "other"] {
            let sign = format!(
                "policy sign policy.json --keygen {signer}-private.pem --public-key {signer}.pem -o {signer}.json"
            );
            tenant.does(&sign.split(' ').collect::<Vec<_>>())?;
        }
        let signed = |key| {
            [
                "--runtime-policy",
                "one.json",
                "--runtime-policy-sig-key",
                key,
            ]
        };
        payload::documented(&tenant.work().join("payload"))?;
        let (ip, uuid) = (node.ip(), node.uuid()?);
        let usual = ["-t", &ip, "-u", &uuid, "--cert", "myca"];
        let what = ["--include", "payload"];
        tenant.fails(&[&usual[..], &what, &signed("other.pem")].concat())?;
        tenant.fails(&[&usual[..], &what, &["--runtime-policy", "one.json"]].concat())?;
        assert!(record(&verifier, &uuid).is_err() && node.has_nothing());

        add(&tenant, &ip, &uuid, &signed("one.pem"))?;
        wait_for_secret(&node)?;
        wait_for_passes(&verifier, &uuid, 2)?;
        list.measure(node.tpm(), &[IMPLANT])?;
        wait_for_status(&tenant, &uuid, &["Invalid Quote", IMPLANT.0])
    });
}

#[test]
fn allowlist_with_excludes_works_with_a_warning() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let (node, list) = listening(&verifier, "list")?;
        let tenant = Tenant::beside(&verifier)?;
        let policy = runtime_policy(&[SHELL], &[]);
        let digest = policy["digests"][SHELL.0][0].as_str().unwrap_or_default();
        let allowlist = format!("{digest}  {}\n", SHELL.0);
        fs::write(tenant.work().join("allowlist.txt"), allowlist)?;
        fs::write(
            tenant.work().join("exclude.txt"),
            "boot_aggregate\n/var/cache/.*\n",
        )?;
        let files = ["--allowlist", "allowlist.txt", "--exclude", "exclude.txt"];
        let uuid = node.uuid()?;
        let told = add(&tenant, &node.ip(), &uuid, &files)?;
        told.says(&["warning: --allowlist ", "warning: --exclude "])?;
        wait_for_secret(&node)?;
        list.measure(node.tpm(), &[CACHE])?;
        wait_for_passes(&verifier, &uuid, 3)?;
        list.measure(node.tpm(), &[TOOL])?;
        wait_for_status(&tenant, &uuid, &["Invalid Quote", "line 4", TOOL.0])
    });
}

#[test]
fn no_policy_at_all_is_said_loudly() {
    const LOUD: &str = "none: every boot of this node passes";
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        write_policy(&tenant, "policy.json", &[SHELL])?;
        let (node, _) = listening(&verifier, "list")?;
        let uuid = node.uuid()?;
        add(&tenant, &node.ip(), &uuid, &[])?.says(&["warning"])?;
        for command in ["status", "cvstatus"] {
            tenant.does(&["-c", command, "-u", &uuid])?.says(&[LOUD])?;
        }
        tenant.does(&["-c", "delete", "-u", &uuid])?;
        until(LIMIT, "deletion", || {
            record(&verifier, &uuid).is_err().then_some(())
        })?;
        let policy = ["--runtime-policy", "policy.json"];
        add(&tenant, &node.ip(), &uuid, &policy)?;
        let told = tenant.does(&["-c", "status", "-u", &uuid])?;
        assert!(!told.text.contains(LOUD), "{}", told.text);
        Ok(())
    });
}

/// Both policies. The first line of the list needs none: the quote has the PCRs that it sums up.
fn both_policies(tenant: &Tenant<'_>, files: &[Measured<'_>]) -> Result<[&'static str; 4]> {
    let policy = runtime_policy(files, &[]).to_string();
    fs::write(tenant.work().join("runtime.json"), policy)?;
    fs::copy(reference_state(), tenant.work().join("boot.json"))?;
    Ok([
        "--runtime-policy",
        "runtime.json",
        "--mb-policy",
        "boot.json",
    ])
}

#[test]
fn both_logs_decide_about_a_node_that_listens() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let policies = both_policies(&tenant, &[SHELL])?;
        let Booted { tpm, list, options } = Booted::new(site, "list", &[SHELL])?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let node = Node::boot_with(&verifier, tpm, &options)?;
        let uuid = node.uuid()?;
        add(&tenant, &node.ip(), &uuid, &policies)?;
        wait_for_secret(&node)?;
        wait_for_passes(&verifier, &uuid, 2)?;
        list.measure(node.tpm(), &[IMPLANT])?;
        wait_for_status(&tenant, &uuid, &["Invalid Quote", "line 3", IMPLANT.0])?;

        // The same files, on a machine whose firmware measured more than its log says.
        let other = Booted::new(site, "other-list", &[SHELL])?;
        other.tpm.extend(4, 1)?;
        let options: Vec<&str> = other.options.iter().map(String::as_str).collect();
        let node = Node::boot_with(&verifier, other.tpm, &options)?;
        let (ip, uuid) = (node.ip(), node.uuid()?);
        let whom = ["-t", &ip, "-u", &uuid, "--cert", "myca"];
        let what = ["--include", "payload"];
        let told = tenant.fails(&[&whom[..], &what, &policies].concat())?;
        told.says(&["boot log", "PCR 4"])?;
        assert_eq!(told.code, 6, "{}", told.text);
        assert!(node.has_nothing());
        Ok(())
    });
}

/// Of each answer with evidence: whether a boot log came, and how many lines of IMA's list.
fn evidence(tap: &Wiretap<'_, '_, Verifier<'_>>) -> Vec<(bool, usize)> {
    let heard = tap.relay().heard();
    let answers = heard.iter().filter(|exchange| exchange.method == "PATCH");
    let bodies = answers.filter_map(|exchange| {
        let body: Value = serde_json::from_str(&exchange.body).ok()?;
        let collected = &body["data"]["attributes"]["evidence_collected"];
        collected.is_array().then(|| collected.clone())
    });
    let entries = |collected: &Value, kind: &str| -> Option<String> {
        let all = collected.as_array()?;
        let one = all.iter().find(|one| one["evidence_type"] == kind)?;
        Some(one["data"]["entries"].as_str()?.to_owned())
    };
    bodies
        .map(|collected| {
            let lines = entries(&collected, "ima_log").map_or(0, |text| text.lines().count());
            (entries(&collected, "uefi_log").is_some(), lines)
        })
        .collect()
}

fn wait_for_attestation(verifier: &Verifier<'_>, uuid: &str, status: &str) -> Result {
    let mut last = Value::Null;
    until(LIMIT, &format!("attestation_status {status}"), || {
        last = record(verifier, uuid).ok()?["attestation_status"].clone();
        (last == status).then_some(())
    })
    .map_err(|error| format!("{error}; the last was {last}").into())
}

#[test]
fn both_logs_decide_about_a_node_that_calls() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let policies = both_policies(&tenant, &[SHELL, TOOL])?;
        let Booted { tpm, list, options } = Booted::new(site, "list", &[SHELL])?;
        let options = options.iter().map(String::as_str);
        let interval = ["--attestation-interval-seconds", "1"];
        let options: Vec<&str> = options.chain(interval).collect();
        let mut node = Node::calling(&tap, tpm, "push", &options)?;
        node.launch()?;
        let uuid = node.wait_until_registered()?;
        let add = ["-c", "add", "-u", &uuid, "--push-model"];
        tenant.does(&[&add[..], &policies].concat())?;
        wait_for_attestation(&verifier, &uuid, "PASS")?;
        wait_for_passes(&verifier, &uuid, 1)?;
        list.measure(node.tpm(), &[TOOL])?;
        wait_for_passes(&verifier, &uuid, 2)?;
        let seen = evidence(&tap);
        assert_eq!(seen.first(), Some(&(true, 2)), "{seen:?}");
        assert_eq!(seen.get(1), Some(&(true, 0)), "{seen:?}");
        assert_eq!(
            seen.iter().filter(|(_, lines)| *lines == 1).count(),
            1,
            "{seen:?}"
        );

        list.measure(node.tpm(), &[IMPLANT])?;
        wait_for_attestation(&verifier, &uuid, "FAIL")?;
        let wanted = ["line 4 of the IMA list", IMPLANT.0];
        wait_for_status(&tenant, &uuid, &wanted)
    });
}

#[test]
fn both_logs_decide_about_a_secret_for_each_boot() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let policies = both_policies(&tenant, &[SHELL])?;
        tenant.does(&["-c", "signer", "--cert", "myca"])?;
        let signer = tenant.work().join("myca/PayloadSigner-cert.crt");
        let Booted { tpm, list, options } = Booted::new(site, "list", &[SHELL])?;
        let options = options.iter().map(String::as_str);
        let own = ["--tenant-signer", text(&signer)?, "--deadline", "30s"];
        let options: Vec<&str> = options.chain(own).collect();
        let mut node = Node::calling(&verifier, tpm, "provision", &options)?;
        node.launch()?;
        let uuid = node.wait_until_registered()?;
        node.log()?.wait_for("doesn't accept this node (yet)")?;
        node.stop_agent()?;
        payload::documented(&tenant.work().join("payload"))?;
        let add = ["-c", "add", "-u", &uuid, "--push-model", "--cert", "myca"];
        let what = ["--include", "payload"];
        tenant.does(&[&add[..], &what, &policies].concat())?;

        // Refused first: a release caps the TPM.
        list.measure(node.tpm(), &[IMPLANT])?;
        let told = node.run(&[])?;
        assert_eq!(told.code, REFUSED, "{}", told.text);
        let landing = node.machine().inside(LANDING);
        assert!(!landing.join("secure/unzipped").exists() && !has_secret(&node));
        let wanted = ["line 3 of the IMA list", IMPLANT.0];
        wait_for_status(&tenant, &uuid, &wanted)?;

        // It boots anew, and runs nothing but what is listed.
        node.machine().forget()?;
        node.tpm().reboot()?;
        boot(node.tpm(), site, "list", &[SHELL])?;
        tenant.does(&["-c", "reactivate", "-u", &uuid])?;
        let told = node.run(&[])?;
        assert_eq!(told.code, 0, "{}", told.text);
        assert!(has_secret(&node), "{}", told.text);
        Ok(())
    });
}

/// The agent's exit code for a verifier that refuses the node.
const REFUSED: i32 = 13;

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "a path that is no text".into())
}
