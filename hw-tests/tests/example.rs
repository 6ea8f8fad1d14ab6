//! What an operator does on a good day: Keylime's documented example, and the commands around it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::payload::{self, SECRET};
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

#[test]
fn documented_example_verbatim() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        documented_words_work(&tenant, &node)
    });
}

#[test]
fn documented_example_verbatim_as_keylime_tenant() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?.called_keylime_tenant()?;
        documented_words_work(&tenant, &node)
    });
}

fn documented_words_work(tenant: &Tenant<'_>, node: &Node<'_>) -> Result {
    payload::documented(&tenant.work().join("payload"))?;
    tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;

    let uuid = node.uuid()?;
    let leaf = [
        format!("{uuid}-cert.crt"),
        format!("{uuid}-private.pem"),
        format!("{uuid}-public.pem"),
    ];
    let certificates = [
        "cacert.crt",
        "cacrl.der",
        "cacrl.pem",
        "RevocationNotifier-cert.crt",
    ];
    let included = ["payload_id_rsa", "payload_id_rsa.pub", "autorun.sh"];
    for name in leaf
        .iter()
        .map(String::as_str)
        .chain(certificates)
        .chain(included)
    {
        assert!(
            node.unzipped(name).is_file(),
            "{name} isn't in the landing zone"
        );
    }
    assert_eq!(fs::read_to_string(node.unzipped("payload_id_rsa"))?, SECRET);

    let ssh = node.machine().root().join(".ssh");
    assert_eq!(fs::read_to_string(ssh.join("payload_id_rsa"))?, SECRET);
    assert_eq!(mode(&ssh.join("payload_id_rsa"))?, 0o600);
    assert_eq!(mode(&ssh.join("payload_id_rsa.pub"))?, 0o600);

    // The CA is made where the operator stands.
    assert!(tenant.work().join("myca/cacert.crt").is_file());
    Ok(())
}

#[test]
fn node_certificate_names_its_uuid_and_verifies() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;

        let uuid = node.uuid()?;
        let (ca, leaf) = (
            node.unzipped("cacert.crt"),
            node.unzipped(&format!("{uuid}-cert.crt")),
        );
        let crl = node.unzipped("cacrl.pem");
        let (ca, leaf, crl) = (
            ca.display().to_string(),
            leaf.display().to_string(),
            crl.display().to_string(),
        );
        let tomorrow = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs()
            + 24 * 3600;
        let tomorrow = tomorrow.to_string();
        let arguments = [
            "verify",
            "-crl_check",
            "-attime",
            &tomorrow,
            "-CAfile",
            &ca,
            "-CRLfile",
            &crl,
            &leaf,
        ];
        let verified = openssl(&arguments)?;
        assert!(verified.contains("OK"), "{verified}");
        let subject = openssl(&[
            "x509",
            "-in",
            &leaf,
            "-noout",
            "-subject",
            "-nameopt",
            "multiline",
        ])?;
        assert!(subject.contains(&uuid), "{subject}");
        Ok(())
    });
}

#[test]
fn include_tree_with_modes() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        payload::write(&folder, "etc/app/deep/config", b"deep", 0o640)?;
        payload::write(
            &folder,
            "bin/tool",
            b"#!/bin/sh\necho tool ran >> /root/tool\n",
            0o750,
        )?;
        payload::write(&folder, "bin/setuid", b"#!/bin/sh\n", 0o4755)?;
        payload::script(&folder, "#!/bin/sh\nset -e\n./bin/tool\n")?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;

        assert_eq!(fs::read(node.unzipped("etc/app/deep/config"))?, b"deep");
        assert_eq!(mode(&node.unzipped("etc/app/deep/config"))? & 0o700, 0o600);
        assert_eq!(mode(&node.unzipped("bin/tool"))? & 0o700, 0o700);
        assert_eq!(
            mode(&node.unzipped("bin/setuid"))? & 0o7000,
            0,
            "setuid bits are dropped"
        );
        assert_eq!(
            fs::read_to_string(node.machine().root().join("tool"))?,
            "tool ran\n"
        );
        Ok(())
    });
}

#[test]
fn plain_file_payload() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        fs::write(tenant.work().join("secret.bin"), SECRET)?;
        tenant.does(&["-t", &node.ip(), "-f", "secret.bin"])?;
        let found = fs::read_dir(node.machine().unzipped())?
            .flatten()
            .any(|entry| fs::read(entry.path()).is_ok_and(|content| content == SECRET.as_bytes()));
        assert!(found, "the file isn't in the landing zone");
        Ok(())
    });
}

#[test]
fn readd_with_payload() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        for round in ["first", "second", "third"] {
            payload::write(&folder, "round", round.as_bytes(), 0o600)?;
            payload::script(
                &folder,
                &format!("#!/bin/sh\necho {round} >> /root/rounds\n"),
            )?;
            let uuid = node.uuid()?;
            match round {
                "first" => {}
                "second" => drop(tenant.does(&["-c", "delete", "-u", &uuid])?),
                _ => {
                    tenant.does(&[
                        "-c",
                        "update",
                        "-t",
                        &node.ip(),
                        "--cert",
                        "myca",
                        "--include",
                        "payload",
                    ])?;
                    assert_eq!(fs::read_to_string(node.unzipped("round"))?, round);
                    continue;
                }
            }
            tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
            assert_eq!(fs::read_to_string(node.unzipped("round"))?, round);
        }
        assert_eq!(
            fs::read_to_string(node.machine().root().join("rounds"))?,
            "first\nsecond\nthird\n"
        );
        Ok(())
    });
}

#[test]
fn adding_twice_is_a_clear_error() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        let add = ["-t", &node.ip(), "--cert", "myca", "--include", "payload"];
        tenant.does(&add)?;
        tenant.fails(&add)?.says(&["already", "update"])?;
        Ok(())
    });
}

#[test]
fn every_command_of_the_tenant() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let uuid = node.uuid()?;
        payload::documented(&tenant.work().join("payload"))?;

        tenant.does(&["-c", "reglist"])?.says(&[&uuid])?;
        tenant
            .does(&["-c", "regstatus", "-u", &uuid])?
            .says(&[&node.ip()])?;
        tenant.fails(&["-c", "cvstatus", "-u", &uuid])?;
        tenant.does(&[
            "-c",
            "add",
            "-t",
            &node.ip(),
            "-u",
            &uuid,
            "--cert",
            "myca",
            "--include",
            "payload",
            "--verify",
        ])?;
        tenant.does(&["-c", "cvlist"])?.says(&[&uuid])?;
        tenant.does(&["-c", "bulkinfo"])?.says(&[&uuid])?;
        tenant
            .does(&["-c", "cvstatus", "-u", &uuid])?
            .says(&["Get Quote"])?;
        tenant
            .does(&["-c", "status", "-u", &uuid])?
            .says(&[&uuid])?;
        let json = tenant.does(&["-c", "cvstatus", "-u", &uuid, "--json"])?;
        assert!(
            json.text.contains(&uuid) && json.text.trim_start().starts_with('{'),
            "{}",
            json.text
        );
        tenant.does(&["-c", "reactivate", "-u", &uuid])?;
        tenant.does(&["-c", "delete", "-u", &uuid])?;
        tenant.fails(&["-c", "cvstatus", "-u", &uuid])?;
        tenant.does(&["-c", "regdelete", "-u", &uuid])?;
        tenant.fails(&["-c", "regstatus", "-u", &uuid])?;
        Ok(())
    });
}

#[test]
fn uuid_comes_from_exactly_one_record_or_an_error() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let _node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        let told = tenant.fails(&[
            "-t",
            "127.250.0.1",
            "--cert",
            "myca",
            "--include",
            "payload",
        ])?;
        told.says(&["127.250.0.1"])?;
        tenant.does(&["-c", "cvlist"])?;
        Ok(())
    });
}

#[test]
fn both_banks_and_both_signatures_attest() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let kinds = [
            ["--tpm-hash-alg", "sha256", "--tpm-signing-alg", "ecdsa"],
            ["--tpm-hash-alg", "sha256", "--tpm-signing-alg", "rsassa"],
            ["--tpm-hash-alg", "sha384", "--tpm-signing-alg", "ecdsa"],
            ["--tpm-hash-alg", "sha384", "--tpm-signing-alg", "rsassa"],
        ];
        for kind in kinds {
            let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &kind)?;
            let tenant = Tenant::beside(&verifier)?;
            payload::documented(&tenant.work().join("payload"))?;
            tenant
                .does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])
                .map_err(|error| format!("{kind:?}: {error}"))?;
            assert!(
                node.machine().root().join(".ssh/payload_id_rsa").is_file(),
                "{kind:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn attestation_goes_on_and_sees_a_change() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        let policy = format!(r#"{{"15": "{}"}}"#, "0".repeat(64));
        tenant.does(&[
            "-t",
            &node.ip(),
            "--cert",
            "myca",
            "--include",
            "payload",
            "--tpm_policy",
            &policy,
        ])?;
        let uuid = node.uuid()?;
        let good = node.log()?.len();

        node.tpm().extend(15, 0x5a)?;
        until(LIMIT, "failed attestation", || {
            tenant
                .run(&["-c", "cvstatus", "-u", &uuid])
                .ok()
                .filter(|told| told.text.contains("Invalid Quote"))
        })?;
        // The agent hears of it, and checks who says so.
        node.log()?.wait_from(good, "revocation")?;
        Ok(())
    });
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

fn openssl(arguments: &[&str]) -> Result<String> {
    let output = std::process::Command::new("openssl")
        .args(arguments)
        .output()?;
    Ok(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
