//! Our agent in Keylime's agent-driven model, before Keylime's own verifier.

use hw_tests::Result;
use hw_tests::keylime::Keylime;
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Client;
use hw_tests::servers::{Servers, VERIFIER_PORT, administrator};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::steps::RSASSA;

const POLICY: &str =
    r#"{"23": "0000000000000000000000000000000000000000000000000000000000000000"}"#;

#[test]
fn push_agent_attests_to_keylimes_verifier() {
    story(|site| {
        // In this mode Keylime takes whole seconds only.
        let settings = [
            ("verifier", "mode", "push"),
            ("verifier", "quote_interval", "1"),
        ];
        let keylime = Keylime::start_with(site, &settings)?;
        let options = [&RSASSA[..], &["--attestation-interval-seconds", "1"]].concat();
        let mut node = Node::calling(&keylime, Swtpm::fresh(site)?, "push", &options)?;
        node.launch()?;
        let uuid = node.wait_until_registered()?;
        let tenant = Tenant::beside(&keylime)?;
        let add = [
            "-c",
            "add",
            "-u",
            &uuid,
            "--push-model",
            "--tpm_policy",
            POLICY,
        ];
        tenant.does(&add)?;
        wait_for(&keylime, &uuid, "pass")?;
        // The next ones too, on the same session and on others.
        wait_for(&keylime, &uuid, "pass")?;
        node.tpm().extend(23, 1)?;
        wait_for(&keylime, &uuid, "fail")
    });
}

/// Waits until the newest attestation that Keylime has judged is a new one, and ended so.
fn wait_for(keylime: &Keylime<'_>, uuid: &str, verdict: &str) -> Result {
    let client = Client::tls(
        keylime.verifier(),
        VERIFIER_PORT,
        administrator(keylime.machine())?,
    )?;
    let path = format!("/v3.0/agents/{uuid}/attestations/latest");
    let judged = || {
        let answer = client.get(&path).ok()?.json().ok()?;
        let attributes = answer["data"]["attributes"].clone();
        let ended = attributes["evaluation"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (ended == "pass" || ended == "fail").then(|| (answer["links"].to_string(), ended))
    };
    let before = judged();
    until(
        LIMIT,
        &format!("attestation that ends with {verdict}"),
        || judged().filter(|now| Some(now) != before.as_ref() && now.1 == verdict),
    )?;
    Ok(())
}
