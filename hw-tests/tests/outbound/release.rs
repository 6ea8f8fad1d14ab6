//! What is released to one boot, and to nobody else: not later, not elsewhere, not twice.

use std::fs;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::relay::{Exchange, Lie, honest};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tap::{Wiretap, takes_nothing_again};
use hw_tests::tenant::Tenant;

use crate::edge::{
    delivered, deposit, deposited, documented, exit, has_nothing, reboot, registered, status,
};

#[test]
fn second_request_in_a_boot_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = delivered_once(&verifier, &tenant)?;
        node.machine().forget()?;
        let told = node.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["capped"])?;
        let refusals = status(&tenant, &uuid)?.to_string();
        assert!(refusals.contains("capped"), "{refusals}");
        Ok(())
    });
}

#[test]
fn every_bank_is_capped() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (node, _) = delivered_once(&verifier, &tenant)?;
        assert_eq!(untouched_banks(node.tpm())?, Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn killed_agent_is_capped_by_the_hook() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&verifier, &tenant)?;
        documented(&tenant)?;
        node.launch()?.wait_for("doesn't accept this node (yet)")?;
        node.kill_agent()?;
        let mut hook = node.machine().command("keyhalf-agent");
        let ended = hook.args(["cap", "--tcti", &node.tpm().tcti()]).output()?;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(untouched_banks(node.tpm())?, Vec::<String>::new());
        deposit(&tenant, &uuid, &[])?;
        let told = node.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["capped"])?;
        Ok(())
    });
}

#[test]
fn failed_script_and_bad_payload_are_capped_too() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&tap, &tenant)?;
        let folder = tenant.work().join("payload");
        hw_tests::payload::script(&folder, "#!/bin/sh\nexit 1\n")?;
        deposit(&tenant, &uuid, &[])?;
        assert_eq!(node.run(&[])?.code, exit::SCRIPT_FAILED);
        assert_eq!(untouched_banks(node.tpm())?, Vec::<String>::new());

        reboot(&node)?;
        tap.relay().now_tells(Box::new(|path, truth| {
            if path.ends_with("/release") {
                change_text(truth, "v", |v| v[40] ^= 1)
            } else {
                truth
            }
        }));
        let told = node.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::BAD_PAYLOAD, "{}", told.text);
        assert!(
            !node
                .machine()
                .inside("/run/keyhalf/secure/unzipped")
                .exists()
        );
        assert_eq!(untouched_banks(node.tpm())?, Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn resumed_system_gets_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = delivered_once(&verifier, &tenant)?;
        node.tpm().suspend_and_resume()?;
        node.machine().forget()?;
        let told = node.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["resumed"])?;
        Ok(())
    });
}

#[test]
fn restarted_system_is_another_boot() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = delivered_once(&verifier, &tenant)?;
        node.tpm().restart()?;
        node.machine().forget()?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(())
    });
}

#[test]
fn cleared_tpm_is_reported() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = deposited(&verifier, &tenant, &[])?;
        for _ in 0..4 {
            reboot(&node)?;
        }
        assert_eq!(node.run(&[])?.code, exit::DONE);
        node.tpm().tool("tpm2_clear", &["-c", "p"])?;
        reboot(&node)?;
        fs::remove_dir_all(node.machine().root().join(".ssh"))?;
        let told = node.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["cleared-tpm"])?;
        assert!(has_nothing(&node));
        let told = tenant.run(&["-c", "status", "-u", &uuid])?;
        told.says(&["cleared", "-c confirm"])?;
        tenant.does(&["-c", "confirm", "-u", &uuid])?;
        reboot(&node)?;
        let told = node.run(&[])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(())
    });
}

#[test]
fn other_system_same_tpm_gets_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = delivered_once(&verifier, &tenant)?;
        fs::remove_dir_all(node.machine().root().join(".ssh"))?;
        reboot(&node)?;
        node.tpm().extend(0, 7)?;
        let told = node.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["PCR 0"])?;
        assert!(has_nothing(&node));
        Ok(())
    });
}

/// Everything that was said in a good boot, without TLS over it, is played to the node again.
#[test]
fn recorded_release_opens_nothing_later() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = deposited(&tap, &tenant, &[])?;
        let before = tap.relay().heard().len();
        assert_eq!(node.run(&[])?.code, exit::DONE);
        let recorded: Vec<Exchange> = tap.relay().heard().split_off(before);
        assert_eq!(delivered(&node)?, hw_tests::payload::SECRET);

        type Change = fn(&Node<'_>) -> Result;
        let situations: [(&str, Change); 4] = [
            ("after the cap", |node| node.machine().forget()),
            ("in the next boot", reboot),
            ("under other PCRs", |node| {
                reboot(node)?;
                node.tpm().extend(0, 7)
            }),
            ("after TPM2_Clear", |node| {
                node.tpm().tool("tpm2_clear", &["-c", "p"])?;
                reboot(node)
            }),
        ];
        for (name, change) in situations {
            let _from_before = fs::remove_dir_all(node.machine().root().join(".ssh"));
            change(&node)?;
            tap.relay().now_tells(playback(recorded.clone()));
            let told = node.run(&["--deadline", "3s"])?;
            assert_ne!(told.code, exit::DONE, "{name}: {}", told.text);
            assert!(has_nothing(&node), "{name}");
        }
        tap.relay().now_tells(honest());

        // On another TPM, which says that it is that node.
        let signer = tenant.work().join("myca/PayloadSigner-cert.crt");
        let signer = signer.to_str().ok_or("a path that is no text")?.to_owned();
        let mut other = Node::calling(
            &tap,
            Swtpm::fresh(site)?,
            "provision",
            &[
                "--tenant-signer",
                &signer,
                "--deadline",
                "3s",
                "--uuid",
                &uuid,
            ],
        )?;
        tap.relay().now_tells(playback(recorded));
        let told = other.run(&[])?;
        assert_ne!(told.code, exit::DONE, "{}", told.text);
        assert!(has_nothing(&other), "on another TPM");
        Ok(())
    });
}

/// What the node said in a good boot is played to the verifier again.
#[test]
fn recorded_boot_is_refused() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = deposited(&tap, &tenant, &[])?;
        let before = tap.relay().heard().len();
        assert_eq!(node.run(&[])?.code, exit::DONE);
        let recorded: Vec<Exchange> = tap.relay().heard().split_off(before);
        for restarted in [false, true] {
            if restarted {
                verifier.kill()?;
                verifier.start_again()?;
            }
            takes_nothing_again(&verifier, &recorded)?;
        }
        Ok(())
    });
}

/// A node that has its payload, and has been capped for it.
fn delivered_once<'site>(
    verifier: &Verifier<'site>,
    tenant: &Tenant<'_>,
) -> Result<(Node<'site>, String)> {
    let (mut node, uuid) = deposited(verifier, tenant, &[])?;
    let told = node.run(&[])?;
    assert_eq!(told.code, exit::DONE, "{}", told.text);
    Ok((node, uuid))
}

/// Banks whose PCR 15 is still zero, by a program that isn't ours.
fn untouched_banks(tpm: &Swtpm) -> Result<Vec<String>> {
    let text = tpm.tool("tpm2_pcrread", &["sha256:15+sha384:15"])?;
    let zero = |line: &&str| {
        let value = line.split_once("0x").map(|(_, hex)| hex.trim());
        value.is_some_and(|hex| hex.bytes().all(|digit| digit == b'0'))
    };
    Ok(text.lines().filter(zero).map(str::to_owned).collect())
}

/// Answers as the verifier answered when it was recorded; what comes with challenges is asked anew, since the node's TPM
/// answers none of the old ones for us.
fn playback(recorded: Vec<Exchange>) -> Lie {
    Box::new(move |path, truth| {
        let payload = path.contains("/payload") && !path.ends_with("/receipt");
        let old = recorded
            .iter()
            .find(|old| payload && same_route(&old.path, path));
        old.map_or(truth, |old| old.answer.clone())
    })
}

fn same_route(one: &str, other: &str) -> bool {
    one.rsplit('/').next() == other.rsplit('/').next()
}

/// Changes a base64 member of a JSON answer.
pub(crate) fn change_text(
    truth: hw_tests::raw::Reply,
    member: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> hw_tests::raw::Reply {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let Ok(mut body) = truth.json() else {
        return truth;
    };
    let Some(text) = body[member].as_str() else {
        return truth;
    };
    let mut bytes = BASE64.decode(text).unwrap_or_default();
    change(&mut bytes);
    body[member] = BASE64.encode(bytes).into();
    truth.with_bytes(body.to_string().into_bytes())
}
