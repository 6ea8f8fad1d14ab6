//! What an operator sees and does: who has acted, who hasn't, and a word against a node.

use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::peers::{added, between, fail, heard, noted, noting, outcomes, wait_until_heard};

#[test]
fn status_shows_who_has_acted_and_who_has_not() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let (bad, peer, mut away) = (
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        );
        let (bad_uuid, peer_uuid, away_uuid) = (bad.uuid()?, peer.uuid()?, away.uuid()?);
        away.stop_agent()?;
        fail(&bad)?;
        outcomes(&verifier, 1, &peer_uuid)?;
        until(LIMIT, "the verifier to know who is away", || {
            let told = tenant.run(&["-c", "revocations", "-u", &bad_uuid]).ok()?;
            (told.code == 0 && told.text.contains(&away_uuid) && told.text.contains(&peer_uuid))
                .then_some(())
        })?;
        let json = tenant.does(&["-c", "revocations", "-u", &bad_uuid, "--json"])?;
        let json: Value = serde_json::from_str(
            json.text
                .lines()
                .rfind(|line| line.starts_with('{'))
                .unwrap_or_default(),
        )?;
        let text = json.to_string();
        assert!(
            text.contains(&away_uuid) && text.contains("unreachable"),
            "{text}"
        );
        tenant
            .run(&["-c", "status", "-u", &bad_uuid])?
            .says(&["acted", &away_uuid])?;
        Ok(())
    });
}

#[test]
fn operator_revokes_a_node_and_waits() {
    between(|_, tenant, bad, peer| {
        let uuid = bad.uuid()?;
        let told = tenant.does(&[
            "-c", "revoke", "-u", &uuid, "--reason", "sold", "--wait", "30",
        ])?;
        told.says(&["1"])?;
        assert_eq!(heard(&peer), [noted(1, &bad)?]);
        tenant
            .run(&["-c", "cvstatus", "-u", &uuid])?
            .says(&["Invalid Quote"])?;
        tenant.fails(&["-c", "revoke", "-u", "nobody", "--reason", "x"])?;
        tenant
            .fails(&["-c", "revoke", "-u", &uuid])?
            .says(&["--reason"])?;
        wait_until_heard(&peer, &[noted(1, &bad)?])
    });
}
