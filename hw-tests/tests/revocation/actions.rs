//! Actions that operators write, as Keylime's documentation tells them to and otherwise.

use std::fs;

use hw_tests::node::Node;
use hw_tests::payload::{self, SECRET};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::peers::{
    add, added, entries, fail, noted, noting, outcomes, wait_for_file, wait_until_heard,
};

#[test]
fn documented_action_takes_the_keys_away() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        payload::documented_with_action(&tenant.work().join("payload"))?;
        add(&tenant, &node, "payload", &[])?;
        let key = wait_for_file(&node, ".ssh/payload_id_rsa", true)?;
        assert_eq!(fs::read_to_string(key)?, SECRET);
        // The folder has no list of its own: the tenant wrote one.
        let list = fs::read_to_string(node.unzipped("action_list"))?;
        assert_eq!(list.trim(), "local_action_rm_ssh");

        fail(&node)?;
        wait_for_file(&node, ".ssh/payload_id_rsa", false)?;
        wait_for_file(&node, ".ssh/payload_id_rsa.pub", false)?;
        let actions = outcomes(&verifier, 1, &node.uuid()?)?;
        assert_eq!(actions.len(), 1, "{actions:?}");
        assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
        Ok(())
    });
}

#[test]
fn one_bad_action_stops_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let folder = tenant.work().join("payload");
        let raises =
            b"def execute(json_revocation):\n    raise RuntimeError(json_revocation['agent_id'])\n";
        payload::write(&folder, "local_action_a_raises.py", raises, 0o644)?;
        payload::write(
            &folder,
            "local_action_b_fails",
            b"#!/bin/sh\nexit 3\n",
            0o755,
        )?;
        payload::write(
            &folder,
            "local_action_c_ends",
            b"#!/bin/sh\nkill -9 $$\n",
            0o755,
        )?;
        let list =
            "local_action_a_raises, local_action_b_fails\nlocal_action_c_ends local_action_note";
        payload::write(&folder, "action_list", list.as_bytes(), 0o644)?;
        let (bad, peer) = (
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        );
        fail(&bad)?;
        wait_until_heard(&peer, &[noted(1, &bad)?])?;
        let actions = outcomes(&verifier, 1, &peer.uuid()?)?;
        let ends: Vec<_> = actions
            .iter()
            .map(|action| {
                (
                    action["name"].as_str(),
                    action["exit_code"].as_i64(),
                    action["signal"].as_i64(),
                )
            })
            .collect();
        let wanted = [
            (Some("local_action_a_raises"), Some(1), None),
            (Some("local_action_b_fails"), Some(3), None),
            (Some("local_action_c_ends"), None, Some(9)),
            (Some("local_action_note"), Some(0), None),
        ];
        assert_eq!(ends, wanted);
        Ok(())
    });
}

/// An action on the node is the operator's, comes first, and needs no Python; a message is on its standard input, too.
#[test]
fn installed_action_comes_first() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        let options = [
            "--revocation-actions",
            "own",
            "--revocation-actions-dir",
            "/var/lib/keylime/actions",
        ];
        let mut peer = Node::install(&verifier, Swtpm::fresh(site)?, &options)?;
        let installed = peer.machine().keylime().join("actions");
        payload::write(
            &installed,
            "own",
            b"#!/bin/sh\nset -e\ncmp - \"$1\"\ntest ! -e /root/heard\ncat \"$1\" > /root/own\n",
            0o755,
        )?;
        peer.start_agent()?;
        peer.wait_until_registered()?;
        add(&tenant, &peer, "payload", &[])?;

        fail(&bad)?;
        wait_until_heard(&peer, &[noted(1, &bad)?])?;
        let told = fs::read_to_string(peer.machine().root().join("own"))?;
        assert_eq!(
            told,
            entries(&verifier)?[0]["msg"].as_str().unwrap_or_default()
        );
        let actions = outcomes(&verifier, 1, &peer.uuid()?)?;
        assert_eq!(actions[0]["name"], "own");
        assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
        Ok(())
    });
}
