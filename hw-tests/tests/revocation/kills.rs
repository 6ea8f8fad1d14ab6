//! Power cuts for programs in the middle of a delivery: SIGKILL, at every moment that a loop hits.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use hw_tests::Result;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::tenant::Tenant;

use crate::peers::{added, heard, noted, noting, outcomes, revoke, wait_until_heard};

/// How long after an entry was made a program is killed: from before it has travelled to after its action.
const MOMENTS: [u64; 10] = [0, 2, 5, 10, 15, 20, 30, 40, 60, 100];

/// An action that takes a moment, and says when it begins and when it ends.
const SLOW: &str = "#!/bin/sh
number=$(sed -n 's/.*\"number\": *\\([0-9]*\\).*/\\1/p' \"$1\")
echo \"$number\" >> /root/begun
sleep 0.03
echo \"$number\" >> /root/ended
";

#[test]
fn killed_agent_loses_nothing_and_repeats_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let bad = added(&verifier, &tenant, &[])?;
        payload::write(
            &tenant.work().join("payload"),
            "local_action_note",
            SLOW.as_bytes(),
            0o755,
        )?;
        let mut peer = added(&verifier, &tenant, &[])?;
        let (uuid, bad) = (peer.uuid()?, bad.uuid()?);
        let mut interrupted = 0;
        for (number, moment) in (1..).zip(MOMENTS) {
            assert_eq!(revoke(&verifier, &bad, "once more")?, number);
            sleep(Duration::from_millis(moment));
            peer.kill_agent()?;
            peer.start_agent()?;
            let actions = outcomes(&verifier, number, &uuid)?;
            assert_eq!(actions.len(), 1, "{actions:?}");
            let read = |name: &str| -> Result<usize> {
                let text = fs::read_to_string(peer.machine().root().join(name)).unwrap_or_default();
                Ok(text
                    .lines()
                    .filter(|line| *line == number.to_string())
                    .count())
            };
            let times = (read("begun")?, read("ended")?);
            if actions[0]["interrupted"] == true {
                interrupted += 1;
                assert!(times.0 <= 1, "entry {number}, {moment} ms: {times:?}");
            } else {
                assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
                assert_eq!(times, (1, 1), "entry {number}, {moment} ms");
            }
        }
        assert!(interrupted > 0, "no kill hit an action");
        Ok(())
    });
}

#[test]
fn killed_verifier_loses_nothing_and_repeats_nothing() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let (bad, peer) = (
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        );
        let (uuid, bad_uuid) = (peer.uuid()?, bad.uuid()?);
        let mut wanted = Vec::new();
        for (number, moment) in (1..).zip(MOMENTS) {
            assert_eq!(revoke(&verifier, &bad_uuid, "once more")?, number);
            sleep(Duration::from_millis(moment));
            verifier.kill()?;
            verifier.start_again()?;
            wanted.push(noted(number, &bad)?);
            wait_until_heard(&peer, &wanted)?;
        }
        outcomes(&verifier, 10, &uuid)?;
        assert_eq!(heard(&peer), wanted);
        Ok(())
    });
}

/// Killed while the answer to an operator is on its way: what was answered is there, and nothing is there twice.
#[test]
fn killed_verifier_keeps_what_it_has_answered() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let (bad, peer) = (
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        );
        let mut answered = Vec::new();
        for moment in MOMENTS {
            let client = verifier.client()?;
            let body = serde_json::json!({ "agent_id": bad.uuid()?, "reason": "once more" });
            let asked = std::thread::spawn(move || {
                let reply = client.send("POST", "/v2.6/revocations", Some(&body)).ok()?;
                reply.results().ok()?["number"].as_u64()
            });
            sleep(Duration::from_millis(moment));
            verifier.kill()?;
            answered.extend(asked.join().map_err(|_| "the client panicked")?);
            verifier.start_again()?;
        }
        let last = revoke(&verifier, &bad.uuid()?, "the last")?;
        let all: Vec<String> = (1..=last)
            .map(|number| noted(number, &bad))
            .collect::<Result<_>>()?;
        wait_until_heard(&peer, &all)?;
        assert!(
            answered.iter().all(|number| *number < last),
            "{answered:?}, {last}"
        );
        let mut once = answered.clone();
        once.dedup();
        assert_eq!(once, answered);
        until(LIMIT, "the peer to have reported", || {
            outcomes(&verifier, last, &peer.uuid().ok()?).ok()
        })?;
        Ok(())
    });
}
