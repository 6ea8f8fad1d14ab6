//! What our three programs say, held field by field against recorded traffic of Keylime's.

use std::collections::BTreeSet;

use hw_tests::day;
use hw_tests::operator::Maker;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::traffic;

#[test]
fn ours_say_what_keylimes_say() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let ours = day::recorded(&verifier, Maker::Keyhalf)?;
        let recorded = traffic::keylimes()?;

        let found = traffic::differences(&ours, &recorded);
        let meant = |route: &str, field: &str| {
            DIFFERENCES
                .iter()
                .any(|(at, name, _)| *at == route && field.ends_with(name))
        };
        let surprises: Vec<_> = found
            .iter()
            .filter(|found| !meant(&found.route, &found.field))
            .collect();
        assert!(surprises.is_empty(), "{surprises:#?}");
        let stale: Vec<_> = DIFFERENCES
            .iter()
            .filter(|(route, field, _)| {
                let is_it = |found: &&traffic::Difference| {
                    found.route == *route && found.field.ends_with(field)
                };
                !found.iter().any(|found| is_it(&found))
            })
            .collect();
        assert!(stale.is_empty(), "no longer different: {stale:#?}");

        let never: BTreeSet<_> = traffic::never_asked(&ours, &recorded);
        let wanted: BTreeSet<_> = NEVER_ASKED
            .iter()
            .map(|(route, _)| (*route).to_owned())
            .collect();
        assert_eq!(never, wanted);
        Ok(())
    });
}

/// Where ours differ, and why: the route, how the field ends, the reason.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (SHOW, ".v", NEVER_V),
    (
        SHOW,
        ".v_provided",
        "V itself is never shown, whether it was sent is",
    ),
    (SHOW, ".failure", WORDS),
    (SHOW, ".unreachable", "away is not failed"),
    (SHOW, ".warnings", WORDS),
    (BULK, ".v", NEVER_V),
    (
        BULK,
        ".v_provided",
        "V itself is never shown, whether it was sent is",
    ),
    (BULK, ".failure", WORDS),
    (BULK, ".unreachable", "away is not failed"),
    (BULK, ".warnings", WORDS),
    (
        "Verifier to Agent: POST /v2/notifications/revocation",
        "(text).context (text).pcr",
        "Keylime names the PCR in event_id alone",
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
const NEVER_V: &str = "a secret that nobody needs to see again";
const WORDS: &str = "both sides of what failed, in words";
