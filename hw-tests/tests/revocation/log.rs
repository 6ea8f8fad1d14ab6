//! The log of revocations: nothing of it is lost, nothing is acted on twice, nothing is believed unsigned.

use std::fs;
use std::time::Duration;

use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::{Value, json};

use crate::peers::{
    add, added, between, entries, fail, heard, log_id, noted, noting, outcomes, revoke, state,
    wait_until_heard, wire,
};

const NOTIFICATIONS: &str = "/v2.6/notifications/revocation";

#[test]
fn revocation_replay_is_refused() {
    between(|verifier, _, bad, peer| {
        fail(&bad)?;
        let once = [noted(1, &bad)?];
        wait_until_heard(&peer, &once)?;
        outcomes(verifier, 1, &peer.uuid()?)?;

        let entry = wire(&entries(verifier)?[0]);
        let client = verifier.client_of(&peer)?;
        for _ in 0..3 {
            let answer = client
                .send("POST", NOTIFICATIONS, Some(&entry))?
                .results()?;
            assert_eq!(
                (&answer["position"], &answer["wanted"]),
                (&json!(1), &json!(2))
            );
        }
        // The next entry is acted on after those: had one of them been, it would stand before it.
        revoke(verifier, &bad.uuid()?, "said again")?;
        wait_until_heard(&peer, &[noted(1, &bad)?, noted(2, &bad)?])
    });
}

#[test]
fn tampered_is_refused_loudly() {
    between(|verifier, _, bad, peer| {
        fail(&bad)?;
        wait_until_heard(&peer, &[noted(1, &bad)?])?;
        outcomes(verifier, 1, &peer.uuid()?)?;

        let entry = entries(verifier)?[0].clone();
        let msg = entry["msg"].as_str().unwrap_or_default();
        let client = verifier.client_of(&peer)?;
        let lies = [
            ("another node", msg.replace(&bad.uuid()?, &peer.uuid()?)),
            (
                "another number",
                msg.replace("\"number\":1", "\"number\":2"),
            ),
            ("no number", msg.replace("\"number\":1,", "")),
            ("one more blank", format!("{msg} ")),
        ];
        for (name, lie) in lies {
            assert_ne!(lie, msg, "{name}");
            let before = peer.log()?.len();
            let body = json!({ "msg": lie, "signature": entry["signature"] });
            let reply = client.send("POST", NOTIFICATIONS, Some(&body))?;
            assert_eq!(reply.status, 400, "{name}: {}", reply.body);
            peer.log()?.wait_from(before, "refused")?;
        }
        revoke(verifier, &bad.uuid()?, "said again")?;
        wait_until_heard(&peer, &[noted(1, &bad)?, noted(2, &bad)?])
    });
}

#[test]
fn revocation_after_restart() {
    between(|verifier, _, bad, mut peer| {
        revoke(verifier, &bad.uuid()?, "before the restart")?;
        wait_until_heard(&peer, &[noted(1, &bad)?])?;
        for is_killed in [true, false] {
            if is_killed {
                peer.kill_agent()?;
            } else {
                peer.stop_agent()?;
            }
            peer.start_agent()?;
        }
        revoke(verifier, &bad.uuid()?, "after the restart")?;
        wait_until_heard(&peer, &[noted(1, &bad)?, noted(2, &bad)?])
    });
}

#[test]
fn offline_peer_catches_up() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        let (peer, mut away) = (
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        );
        let uuid = away.uuid()?;
        away.stop_agent()?;
        let mut wanted = Vec::new();
        for number in 1..=5 {
            revoke(&verifier, &bad.uuid()?, "again and again")?;
            wanted.push(noted(number, &bad)?);
        }
        wait_until_heard(&peer, &wanted)?;
        until(LIMIT, "the verifier to say who is away", || {
            (state(&verifier, &uuid).ok()? == "unreachable").then_some(())
        })?;
        assert!(heard(&away).is_empty());
        // The verifier goes away and comes back meanwhile.
        verifier.kill()?;
        verifier.start_again()?;
        away.start_agent()?;
        wait_until_heard(&away, &wanted)?;
        outcomes(&verifier, 5, &uuid)?;
        assert_eq!(heard(&peer), wanted);
        Ok(())
    });
}

#[test]
fn offline_node_revokes_nobody() {
    between(|verifier, tenant, mut off, peer| {
        let uuid = off.uuid()?;
        off.stop_agent()?;
        let client = verifier.client()?;
        until(LIMIT, "the verifier to notice", || {
            let shown = client
                .get(&format!("/v2.6/agents/{uuid}"))
                .ok()?
                .results()
                .ok()?;
            (shown["attestation_status"] == "TIMEOUT").then_some(())
        })?;
        assert!(entries(verifier)?.is_empty());
        assert!(heard(&peer).is_empty());
        // An operator can.
        tenant.does(&[
            "-c",
            "revoke",
            "-u",
            &uuid,
            "--reason",
            "stolen from the rack",
        ])?;
        wait_until_heard(&peer, &[noted_of(1, &uuid)])?;
        let entry: Value =
            serde_json::from_str(entries(verifier)?[0]["msg"].as_str().unwrap_or_default())?;
        assert_eq!(entry["reason"], "stolen from the rack");
        assert_eq!(entry["type"], "revocation");
        Ok(())
    });
}

#[test]
fn revocation_before_payload_is_kept() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        // Sealed before the revocation, and nowhere yet: its script takes its time.
        let folder = tenant.work().join("payload");
        let script =
            "#!/bin/sh\nuntil test -e /root/go; do sleep 0.05; done\necho ran >> /root/script\n";
        payload::script(&folder, script)?;
        let late = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = late.uuid()?;
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| add(&tenant, &late, "payload", &[]).map(drop));
            until(LIMIT, "the script to be at it", || {
                late.log()
                    .ok()?
                    .text()
                    .contains("running autorun.sh")
                    .then_some(())
            })?;
            revoke(&verifier, &bad.uuid()?, "while it waits")?;
            // It is there, and waits.
            until(LIMIT, "the entry to be on the node", || {
                let text = late.log().ok()?.text();
                text.contains("revocation").then_some(())
            })?;
            std::thread::sleep(Duration::from_millis(300));
            assert!(
                heard(&late).is_empty(),
                "acted on before the script had ended"
            );
            fs::write(late.machine().root().join("go"), "")?;
            adding
                .join()
                .map_err(|_| "the tenant's thread panicked")??;
            hw_tests::Result::Ok(())
        })?;
        wait_until_heard(&late, &[noted(1, &bad)?])?;
        outcomes(&verifier, 1, &uuid)?;
        Ok(())
    });
}

/// A node is told of its own group, and each group's log has no gaps.
#[test]
fn groups_hear_of_their_own() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let mut told = Vec::new();
        for group in ["red", "blue"] {
            let group = ["--group", group];
            let (bad, peer) = (
                added(&verifier, &tenant, &group)?,
                added(&verifier, &tenant, &group)?,
            );
            told.push((bad, peer));
        }
        let alone = added(&verifier, &tenant, &[])?;
        for (bad, _) in &told {
            fail(bad)?;
        }
        for (bad, peer) in &told {
            wait_until_heard(peer, &[noted(1, bad)?])?;
        }
        assert!(heard(&alone).is_empty());
        let logs = verifier.client()?.get("/v2.6/revocations")?.results()?;
        assert_eq!(logs["logs"].as_array().map(Vec::len), Some(3), "{logs}");
        Ok(())
    });
}

/// Numbers, digests and signatures of the log fit, whoever reads it.
#[test]
fn log_is_a_chain() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let nodes = [
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        ];
        // At once.
        for node in &nodes {
            fail(node)?;
        }
        until(LIMIT, "three entries", || {
            (entries(&verifier).ok()?.len() == 3).then_some(())
        })?;
        let id = log_id(&verifier)?;
        let mut previous = "0".repeat(64);
        for (number, entry) in (1..).zip(entries(&verifier)?) {
            let msg = entry["msg"].as_str().unwrap_or_default();
            let read: Value = serde_json::from_str(msg)?;
            assert_eq!(read["number"], number);
            assert_eq!(read["log_id"], id.as_str());
            assert_eq!(read["previous"], previous.as_str());
            previous = hw_tests::byhand::sha256_hex(msg.as_bytes());
        }
        Ok(())
    });
}

/// An entry that comes before its turn isn't acted on: those before it are fetched, by whoever sent it.
#[test]
fn gap_is_noticed_and_filled() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        let mut peer = added(&verifier, &tenant, &[])?;
        peer.stop_agent()?;
        let mut all = Vec::new();
        for number in 1..=3 {
            revoke(&verifier, &bad.uuid()?, "again and again")?;
            all.push(noted(number, &bad)?);
        }
        let third = wire(&entries(&verifier)?[2]);
        let client = verifier.client_of(&peer)?;
        verifier.kill()?;
        peer.start_agent()?;
        let answer = client
            .send("POST", NOTIFICATIONS, Some(&third))?
            .results()?;
        assert_eq!(
            (&answer["position"], &answer["wanted"]),
            (&json!(0), &json!(1))
        );
        verifier.start_again()?;
        wait_until_heard(&peer, &all)
    });
}

fn noted_of(number: u64, uuid: &str) -> String {
    format!("{number} {uuid}")
}
