//! Nodes that call: they fetch what they have missed, and say what they did.

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::peers::{
    ZERO_POLICY, added, heard, noted, noting, outcomes, reboot, revoke, wait_until_heard,
};

#[test]
fn calling_node_hears_while_it_runs_and_after_each_boot() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        let mut peer = calling(
            &verifier,
            &tenant,
            "push",
            &["--attestation-interval-seconds", "1"],
        )?;
        peer.launch()?;
        let uuid = peer.wait_until_registered()?;
        deposit(&tenant, &uuid)?;
        script_ran(&peer, 1)?;
        revoke(&verifier, &bad.uuid()?, "while it runs")?;
        wait_until_heard(&peer, &[noted(1, &bad)?])?;
        outcomes(&verifier, 1, &uuid)?;

        peer.kill_agent()?;
        revoke(&verifier, &bad.uuid()?, "while it is off")?;
        reboot(&peer)?;
        peer.launch()?;
        script_ran(&peer, 2)?;
        // Both again, in order: the script has set things up again.
        let (first, second) = (noted(1, &bad)?, noted(2, &bad)?);
        wait_until_heard(&peer, &[first.clone(), first, second])?;
        outcomes(&verifier, 2, &uuid)?;
        Ok(())
    });
}

#[test]
fn provisioned_node_catches_up_once_after_its_script() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        let mut peer = calling(&verifier, &tenant, "provision", &["--deadline", "30s"])?;
        peer.launch()?;
        let uuid = peer.wait_until_registered()?;
        deposit(&tenant, &uuid)?;
        let (status, _) = peer.wait_for_end()?;
        assert!(status.success(), "{status}");
        assert!(heard(&peer).is_empty());

        for number in 1..=3 {
            revoke(&verifier, &bad.uuid()?, &format!("number {number}"))?;
        }
        peer.machine().forget()?;
        peer.tpm().reboot()?;
        let told = peer.run(&[])?;
        assert_eq!(told.code, 0, "{}", told.text);
        let all = (1..=3)
            .map(|number| noted(number, &bad))
            .collect::<Result<Vec<_>>>()?;
        assert_eq!(heard(&peer), all);
        assert_eq!(outcomes(&verifier, 3, &uuid)?[0]["exit_code"], 0);
        Ok(())
    });
}

/// A rotation that brings another certificate than the verifier would revoke leaves everything as it is.
#[test]
fn rotation_brings_no_certificate_that_the_verifier_does_not_know() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let mut peer = calling(&verifier, &tenant, "provision", &["--deadline", "30s"])?;
        peer.launch()?;
        let uuid = peer.wait_until_registered()?;
        deposit(&tenant, &uuid)?;
        peer.wait_for_end()?;
        let rotate = [
            "-c",
            "rotate",
            "-u",
            &uuid,
            "--cert",
            "myca",
            "--include",
            "payload",
        ];
        tenant.does(&rotate)?;
        tenant.does(&["ca", "revoke", "-d", "myca", &uuid])?;
        let told = tenant.fails(&rotate)?;
        told.says(&["certificate", "-c update --push-model"])?;
        let again = [
            "-c",
            "update",
            "-u",
            &uuid,
            "--push-model",
            "--cert",
            "myca",
        ];
        let what = ["--include", "payload", "--tpm_policy", ZERO_POLICY];
        tenant.does(&[&again[..], &what].concat())?;
        tenant.does(&rotate)?;
        Ok(())
    });
}

fn calling<'site>(
    verifier: &Verifier<'site>,
    tenant: &Tenant<'_>,
    mode: &str,
    options: &[&str],
) -> Result<Node<'site>> {
    tenant.does(&["-c", "signer", "--cert", "myca"])?;
    let signer = tenant.work().join("myca/PayloadSigner-cert.crt");
    let signer = signer.to_str().ok_or("a path that is no text")?;
    let options = [&["--tenant-signer", signer], options].concat();
    Node::calling(verifier, Swtpm::fresh(verifier.site())?, mode, &options)
}

fn deposit(tenant: &Tenant<'_>, uuid: &str) -> Result {
    let usual = ["-c", "add", "-u", uuid, "--push-model", "--cert", "myca"];
    let what = ["--include", "payload", "--tpm_policy", ZERO_POLICY];
    tenant.does(&[&usual[..], &what].concat())?;
    Ok(())
}

fn script_ran(node: &Node<'_>, times: usize) -> Result {
    let file = node.machine().root().join("script");
    until(LIMIT, "the script to run", || {
        let text = std::fs::read_to_string(&file).ok()?;
        (text.lines().count() == times).then_some(())
    })
}
