//! Our agent in Keylime's agent-driven model, before Keylime's own verifier.

use hw_tests::keylime::Keylime;
use hw_tests::node::Node;
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
        let said = keylime.verifier_program()?.log();
        said.wait_for("passed verification")?;
        // The next one too.
        said.wait_from(said.len(), "passed verification")?;
        node.tpm().extend(23, 1)?;
        said.wait_from(said.len(), "failed verification")?;
        Ok(())
    });
}
