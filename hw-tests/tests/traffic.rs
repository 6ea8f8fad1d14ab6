//! What our three programs say, held field by field against recorded traffic of Keylime's.

use std::collections::BTreeSet;

use hw_tests::day;
use hw_tests::operator::Maker;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::traffic::{self, Difference, Message};

#[test]
fn ours_say_what_keylimes_say() {
    story(|site| {
        let ours = day::recorded(&Verifier::start(site)?, Maker::Keyhalf, None)?;
        let recorded = traffic::keylimes()?;
        held_to(&traffic::differences(&ours, &recorded), DIFFERENCES);

        let never = traffic::never_asked(&ours, &recorded);
        let wanted: BTreeSet<_> = NEVER_ASKED
            .iter()
            .map(|(route, _)| (*route).to_owned())
            .collect();
        assert_eq!(never, wanted);
        Ok(())
    });
}

#[test]
fn our_agent_says_in_2_4_what_keylimes_says() {
    agent_says("2.4", traffic::AGENT_2_4, &[]);
}

#[test]
fn our_agent_says_in_2_1_what_keylimes_says() {
    let plain = [(
        "Agent to Registrar: POST /v2/agents/{uuid}",
        ".mtls_cert",
        "recorded over plain HTTP",
    )];
    agent_says("2.1", traffic::AGENT_2_1, &plain);
}

/// An agent that speaks an older version alone, its registration and all that it is asked.
fn agent_says(version: &str, recording: &str, meant: &[Meant]) {
    story(|site| {
        let said = day::recorded(&Verifier::start(site)?, Maker::Keyhalf, Some(version))?;
        let of_agents = |messages: Vec<Message>| -> Vec<Message> {
            let theirs = messages.into_iter();
            theirs.filter(Message::is_with_agent).collect()
        };
        let (said, recorded) = (of_agents(said), of_agents(traffic::read(recording)?));
        let used = said
            .iter()
            .any(|message| message.path.contains(&format!("/v{version}/quotes/")));
        assert!(used, "the agent was never asked in {version}");
        let others: Vec<_> = DIFFERENCES
            .iter()
            .filter(|(route, ..)| {
                route.contains("Agent") && !(version == "2.1" && route.contains("agent/info"))
            })
            .chain(meant)
            .copied()
            .collect();
        held_to(&traffic::differences(&said, &recorded), &others);
        Ok(())
    });
}

/// Where ours differ on purpose: the route, how the field ends, the reason.
type Meant = (&'static str, &'static str, &'static str);

/// Wants these differences and no others.
fn held_to(found: &BTreeSet<Difference>, meant: &[Meant]) {
    let is = |found: &Difference, (route, field, _): &Meant| {
        found.route == *route && found.field.ends_with(field)
    };
    let surprises: Vec<_> = found
        .iter()
        .filter(|found| !meant.iter().any(|meant| is(found, meant)))
        .filter(|found| found.route != OUTCOMES)
        .collect();
    assert!(surprises.is_empty(), "{surprises:#?}");
    let stale: Vec<_> = meant
        .iter()
        .filter(|meant| !found.iter().any(|found| is(found, meant)))
        .collect();
    assert!(stale.is_empty(), "no longer different: {stale:#?}");
}

const DIFFERENCES: &[Meant] = &[
    (SHOW, ".v", NEVER_V),
    (SHOW, ".v_provided", PROVIDED),
    (SHOW, ".failure", WORDS),
    (SHOW, ".unreachable", AWAY),
    (SHOW, ".warnings", WORDS),
    (BULK, ".v", NEVER_V),
    (BULK, ".v_provided", PROVIDED),
    (BULK, ".failure", WORDS),
    (BULK, ".unreachable", AWAY),
    (BULK, ".warnings", WORDS),
    (SHOW, ".revocations", HEARD),
    (BULK, ".revocations", HEARD),
    (
        REVOCATION,
        "(text).context (text).pcr",
        "Keylime names the PCR in event_id alone",
    ),
    (
        REVOCATION,
        "answer.results",
        "how far the agent is in the log",
    ),
    (REVOCATION, "(text).log_id", ENTRY),
    (REVOCATION, "(text).number", ENTRY),
    (REVOCATION, "(text).previous", ENTRY),
    (REVOCATION, "(text).time", ENTRY),
    (REVOCATION, "(text).reason", ENTRY),
    (REVOCATION, "(text).cert_serial", ENTRY),
    ("Tenant to Verifier: PUT /v2/revocations", "status", LOGS),
    ("Tenant to Verifier: GET /v2/revocations", "status", LOGS),
    (
        "Tenant to Verifier: GET /v2/revocations/{log_id}/peers",
        "status",
        LOGS,
    ),
    (
        "Tenant to Agent: GET /v2/agent/info",
        "status",
        "our tenant asks for the agent's limits; Keylime's never asks",
    ),
    (
        "Tenant to Agent: GET /v2/payload/outcome",
        "status",
        "ours alone: how the script ended",
    ),
    (
        "Tenant to Verifier: GET /v2/agents/",
        "status",
        "where no verifier is named, Keylime's tenant sends its parameter empty",
    ),
];

/// What Keylime's ask and ours needn't.
const NEVER_ASKED: &[(&str, &str)] = &[
    ("Tenant to Registrar: GET /version", "2.6 is spoken by both"),
    ("Tenant to Verifier: GET /v2/agents/?verifier", "see above"),
    ("Tenant to Verifier: GET /version", "2.6 is spoken by both"),
];

const SHOW: &str = "Tenant to Verifier: GET /v2/agents/{uuid}";
const BULK: &str = "Tenant to Verifier: GET /v2/agents/?bulk&verifier";
/// Ours alone: how actions ended. It is asked where they haven't when the entry is answered.
const OUTCOMES: &str = "Verifier to Agent: GET /v2/revocations/outcomes?after&log_id";
const REVOCATION: &str = "Verifier to Agent: POST /v2/notifications/revocation";
const ENTRY: &str = "an entry of a log; Keylime's agents ignore what they don't know";
const LOGS: &str = "ours alone: revocation logs";
const HEARD: &str = "which revocations the node has acted on";
const NEVER_V: &str = "a secret that nobody needs to see again";
const PROVIDED: &str = "V itself is never shown, whether it was sent is";
const AWAY: &str = "away is not failed";
const WORDS: &str = "both sides of what failed, in words";
