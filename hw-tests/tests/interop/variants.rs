//! Older versions of the API, plain HTTP, other algorithms, and Keylime's own configuration of an agent.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use hw_tests::keylime::Keylime;
use hw_tests::machine::Machine;
use hw_tests::node::{Build, Node};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::steps::{self, RSASSA};

#[test]
fn api_2_6() {
    speaks("2.6");
}

#[test]
fn api_2_4() {
    speaks("2.4");
}

#[test]
fn api_2_1() {
    speaks("2.1");
}

/// An agent that speaks one version alone, with Keylime's registrar too.
fn speaks(version: &str) {
    story(|site| {
        let keylime = Keylime::start(site)?;
        let versions = [
            "--api-versions",
            version,
            "--registrar-api-versions",
            version,
        ];
        let options = [&RSASSA[..], &versions].concat();
        let node = Node::boot_with(&keylime, Swtpm::fresh(site)?, &options)?;
        steps::documented_example(&Tenant::keylimes_beside(&keylime)?, &node)
    });
}

#[test]
fn plain_http_where_both_sides_were_told_so() {
    story(|site| {
        let settings = [("verifier", "enable_agent_mtls", "False")];
        let keylime = Keylime::start_with(site, &settings)?;
        let mut node = Node::install(&keylime, Swtpm::fresh(site)?, &RSASSA)?;
        node.use_build(Build::PlainHttp);
        node.tell("KEYLIME_AGENT_ENABLE_AGENT_MTLS", "false");
        node.tell("KEYLIME_AGENT_ENABLE_INSECURE_PAYLOAD", "true");
        node.start_agent()?;
        node.wait_until_registered()?;
        let tenant = Tenant::keylimes_beside(&keylime)?.with("enable_agent_mtls", "False");
        steps::documented_example(&tenant, &node)
    });
}

#[test]
fn ak_rsassa_sha256() {
    attests("rsassa", "sha256");
}

#[test]
fn ak_rsassa_sha384() {
    attests("rsassa", "sha384");
}

#[test]
fn ak_ecdsa_sha256() {
    attests("ecdsa", "sha256");
}

#[test]
fn ak_ecdsa_sha384() {
    attests("ecdsa", "sha384");
}

/// A key of this scheme, and a bank of this hash, before Keylime's verifier.
fn attests(scheme: &str, hash: &str) {
    story(|site| {
        let keylime = Keylime::start(site)?;
        let options = ["--tpm-signing-alg", scheme, "--tpm-hash-alg", hash];
        let node = Node::boot_with(&keylime, Swtpm::fresh(site)?, &options)?;
        let tenant = Tenant::keylimes_beside(&keylime)?;
        // Keylime's own list lacks ECDSA.
        let tenant = tenant.with("accept_tpm_signing_algs", "['ecdsa', 'rsassa']");
        let digits = if hash == "sha384" { 96 } else { 64 };
        let policy = format!(r#"{{"23": ["{}"]}}"#, "0".repeat(digits));
        let (ip, uuid) = (node.ip(), node.uuid()?);
        tenant.does(&["-t", &ip, "-u", &uuid, "--tpm_policy", &policy])?;
        steps::wait_for_pass(&keylime, &uuid)?;
        node.tpm().extend(23, 1)?;
        steps::wait_for_state(&keylime, &uuid, &[7, 9])
    });
}

/// Every value at Keylime's default: all that is said besides is where the file and the TPM are.
#[test]
fn keylimes_own_agent_conf_works_unchanged() {
    story(|site| {
        let machine = Arc::new(Machine::new(site, "operator")?);
        let home = Ipv4Addr::LOCALHOST;
        let mut keylime = Keylime::install_at(site, machine, home, &[])?;
        keylime.start_verifier()?;
        keylime.start_registrar()?;
        let mut node = Node::configured_by(&keylime, Swtpm::fresh(site)?, home, &agent_conf())?;
        node.start_agent()?;
        assert_eq!(node.wait_until_registered()?, hw_tests::traffic::UUID);
        steps::documented_example(&Tenant::keylimes_beside(&keylime)?, &node)?;
        let log = node.log()?.text();
        assert!(
            !log.contains("agent.conf"),
            "a default was complained of:\n{log}"
        );
        Ok(())
    });
}

fn agent_conf() -> std::path::PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../agent-linux/src/config/vectors/keylime-agent-0.2.9.conf")
}
