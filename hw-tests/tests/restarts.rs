//! Programs and power that go away and come back.

use std::fs;
use std::time::Duration;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::Value;

/// A program that is asked to stop may take this long.
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn servers_come_up_later() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        verifier.stop()?;
        let mut node = Node::install(&verifier, Swtpm::fresh(site)?, &[])?;
        node.launch()?.wait_for("regist")?;
        assert!(!node.log()?.text().contains("registered as"));
        verifier.start_again()?;
        node.wait_until_registered()?;
        add(&verifier, &node)
    });
}

#[test]
fn registrar_goes_away_in_the_middle() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        verifier.kill()?;
        let told = Tenant::beside(&verifier)?.fails(&["-c", "reglist"])?;
        told.says(&[&verifier.address().to_string()])?;
        verifier.start_again()?;
        add(&verifier, &node)
    });
}

#[test]
fn everyone_stops_within_a_second() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        add(&verifier, &node)?;
        let open = [
            verifier.client_of(&node)?.connect()?,
            verifier.client()?.connect()?,
        ];
        let (status, took) = node.stop_agent()?;
        assert!(
            status.success() && took < SECOND,
            "agent: {status} after {took:?}"
        );
        let (status, took) = verifier.stop()?;
        assert!(
            status.success() && took < SECOND,
            "verifier: {status} after {took:?}"
        );
        drop(open);
        Ok(())
    });
}

#[test]
fn killed_agent_starts_again() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        // More often than the TPM has slots for forgotten objects, or patience for unclean stops.
        for _ in 0..5 {
            node.kill_agent()?;
            node.start_agent()?;
            assert_eq!(node.wait_until_registered()?, uuid);
        }
        add(&verifier, &node)
    });
}

#[test]
fn power_cuts_do_not_lock_the_node_out() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        for _ in 0..5 {
            node.kill_agent()?;
            node.tpm().cut_power()?;
            node.tpm().power_on()?;
            node.start_agent()?;
            assert_eq!(node.wait_until_registered()?, uuid);
        }
        // After a power cut the TPM says itself that its clock may be wrong: quotes count again once it is set forward.
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant
            .fails(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?
            .says(&["lost power"])?;
        let two_hours_later = "7200000";
        node.tpm()
            .tool("tpm2_setclock", &["-c", "p", two_hours_later])?;
        add(&verifier, &node)
    });
}

#[test]
fn killed_verifier_keeps_its_state() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let policy = format!(r#"{{"15": "{}"}}"#, "0".repeat(64));
        add_with(&verifier, &node, &["--tpm_policy", &policy])?;
        let ca = fs::read(verifier.ca_file("cacert.crt"))?;
        for _ in 0..3 {
            verifier.kill()?;
            verifier.start_again()?;
        }
        assert_eq!(
            fs::read(verifier.ca_file("cacert.crt"))?,
            ca,
            "the CA is another one"
        );
        let uuid = node.uuid()?;
        wait_for(
            &verifier,
            &uuid,
            "attestation after the restart",
            |record| {
                record["attestation_count"]
                    .as_u64()
                    .is_some_and(|count| count > 0)
            },
        )?;
        // Its policy came back with it.
        node.tpm().extend(15, 1)?;
        wait_for(&verifier, &uuid, "state 9", |record| {
            record["operational_state"] == 9
        })
    });
}

#[test]
fn verifier_killed_before_v_still_gives_it() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        let package = hw_tests::byhand::Package::of(&payload::archive(&[("file", b"late")])?)?;
        // The node is away when it is added, and the verifier dies with V undelivered.
        node.stop_agent()?;
        let body = hw_tests::byhand::enrolment(&record, "{}", Some(&package.v()));
        verifier
            .client()?
            .send("POST", &format!("/v2.6/agents/{uuid}"), Some(&body))?
            .results()?;
        verifier.kill()?;
        node.start_agent()?;
        let client = verifier.client_of(&node)?;
        let transport = client.get("/v2.6/keys/pubkey")?.results()?["pubkey"].clone();
        let ukey = package.ukey(&uuid, transport.as_str().unwrap_or_default())?;
        client
            .send("POST", "/v2.6/keys/ukey", Some(&ukey))?
            .results()?;
        verifier.start_again()?;
        until(LIMIT, "payload", || {
            (fs::read(node.unzipped("file")).ok()? == b"late").then_some(())
        })
    });
}

#[test]
fn restart_and_key_change_recover() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        add(&verifier, &node)?;
        let uuid = node.uuid()?;
        // An agent that starts again, then a machine that boots again.
        node.kill_agent()?;
        node.start_agent()?;
        passes_again(&verifier, &uuid)?;
        node.stop_agent()?;
        node.tpm().reboot()?;
        node.start_agent()?;
        passes_again(&verifier, &uuid)
    });
}

#[test]
fn identity_needs_no_file() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        let path = format!("/v2.6/agents/{uuid}");
        let before = verifier.registrar_client()?.get(&path)?.results()?;
        node.stop_agent()?;
        for entry in fs::read_dir(node.machine().keylime())?.flatten() {
            let name = entry.file_name();
            assert!(
                name == "cv_ca" || name == "secure",
                "the agent left {name:?}"
            );
        }
        fs::remove_dir_all(node.machine().keylime().join("cv_ca"))?;
        verifier.introduce_to(node.machine())?;
        node.start_agent()?;
        assert_eq!(node.wait_until_registered()?, uuid);
        let after = verifier.registrar_client()?.get(&path)?.results()?;
        for field in ["aik_tpm", "ek_tpm", "mtls_cert"] {
            assert_eq!(before[field], after[field], "{field}");
        }
        add(&verifier, &node)
    });
}

#[test]
fn offline_is_not_failed() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        add(&verifier, &node)?;
        let uuid = node.uuid()?;
        node.kill_agent()?;
        // Unreachable: tried again, and neither failed nor passing.
        wait_for(&verifier, &uuid, "state 4", |record| {
            assert!(
                !matches!(record["operational_state"].as_i64(), Some(7 | 9)),
                "{record}"
            );
            record["operational_state"] == 4
        })?;
        let record = verifier
            .client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        assert_ne!(record["attestation_status"], "PASS", "{record}");
        assert_ne!(record["attestation_status"], "FAIL", "{record}");
        node.start_agent()?;
        passes_again(&verifier, &uuid)
    });
}

#[test]
fn never_pass_before_a_quote() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        node.kill_agent()?;
        let path = format!("/v2.6/agents/{uuid}");
        let body = hw_tests::byhand::enrolment(&record, "{}", None);
        verifier
            .client()?
            .send("POST", &path, Some(&body))?
            .results()?;
        let record = verifier.client()?.get(&path)?.results()?;
        assert_ne!(record["attestation_status"], "PASS", "{record}");
        wait_for(&verifier, &uuid, "state 4", |record| {
            assert_ne!(record["attestation_status"], "PASS", "{record}");
            record["operational_state"] == 4
        })?;
        node.start_agent()?;
        wait_for(&verifier, &uuid, "pass", |record| {
            record["attestation_status"] == "PASS"
        })
    });
}

#[test]
fn pass_has_an_age() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        add(&verifier, &node)?;
        let uuid = node.uuid()?;
        wait_for(&verifier, &uuid, "time of the last pass", |record| {
            record["last_successful_attestation"]
                .as_u64()
                .is_some_and(|time| time > 1_500_000_000)
        })?;
        node.kill_agent()?;
        wait_for(&verifier, &uuid, "state 4", |record| {
            record["operational_state"] == 4
        })?;
        let record = verifier
            .client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        assert!(
            record["last_successful_attestation"]
                .as_u64()
                .is_some_and(|time| time > 1_500_000_000),
            "{record}"
        );
        Ok(())
    });
}

#[test]
fn stopped_and_reactivated_is_not_trusted_before_its_quote() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let policy = format!(r#"{{"15": "{}"}}"#, "0".repeat(64));
        add_with(&verifier, &node, &["--tpm_policy", &policy])?;
        let uuid = node.uuid()?;
        node.tpm().extend(15, 1)?;
        wait_for(&verifier, &uuid, "state 9", |record| {
            record["operational_state"] == 9
        })?;
        Tenant::beside(&verifier)?.run(&["-c", "reactivate", "-u", &uuid])?;
        wait_for(&verifier, &uuid, "state 9 again", |record| {
            assert_ne!(record["attestation_status"], "PASS", "{record}");
            record["operational_state"] == 9
        })
    });
}

fn add(verifier: &Verifier<'_>, node: &Node<'_>) -> Result {
    add_with(verifier, node, &[])
}

fn add_with(verifier: &Verifier<'_>, node: &Node<'_>, more: &[&str]) -> Result {
    let tenant = Tenant::beside(verifier)?;
    payload::documented(&tenant.work().join("payload"))?;
    let ip = node.ip();
    let add = ["-t", &ip, "--cert", "myca", "--include", "payload"];
    tenant.does(&[&add, more].concat())?;
    assert!(node.machine().root().join(".ssh/payload_id_rsa").is_file());
    Ok(())
}

/// A quote that is newer than now passes.
fn passes_again(verifier: &Verifier<'_>, uuid: &str) -> Result {
    let client = verifier.client()?;
    let count = || -> Option<u64> {
        let record = client
            .get(&format!("/v2.6/agents/{uuid}"))
            .ok()?
            .results()
            .ok()?;
        assert!(
            !matches!(record["operational_state"].as_i64(), Some(7 | 9)),
            "{record}"
        );
        record["attestation_count"].as_u64()
    };
    let before = count().unwrap_or(0);
    until(LIMIT, "two more passes", || {
        (count()? >= before + 2).then_some(())
    })
}

fn wait_for(
    verifier: &Verifier<'_>,
    uuid: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result {
    let client = verifier.client()?;
    until(LIMIT, what, || {
        let record = client
            .get(&format!("/v2.6/agents/{uuid}"))
            .ok()?
            .results()
            .ok()?;
        holds(&record).then_some(())
    })
}
