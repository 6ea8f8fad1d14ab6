//! From a node's failure to what others do about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hw_tests::Result;
use hw_tests::byhand::enrolment;
use hw_tests::liar::Liar;
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::receivers::Receivers;
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::figure::{Budget, Figure, Runs};

const RUNS: usize = 30;

/// How long it takes from the failing quote to a peer's action.
///
/// # Errors
/// A program fails.
pub(crate) fn to_action(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let tenant = Tenant::beside(&verifier)?;
    let peers = Receivers::start(&verifier, &tenant, 1, "keyhalf-agent")?;
    let sent = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&sent);
    let liar = Liar::before(
        verifier.client_of(&node)?,
        Box::new(move |path, truth| {
            if path.contains("quotes/integrity") {
                clock.store(now(), Ordering::SeqCst);
            }
            truth
        }),
    )?;
    let failing = Failing::add(&verifier, &tenant, &node, &liar)?;
    let mut count = 0;
    let runs = Runs::of(RUNS, || -> Result<f64> {
        failing.waits_for_a_pass()?;
        count += 1;
        node.tpm().extend(23, 1)?;
        peers.wait_until_all_acted(count)?;
        let acted = peers.acted(0).last().map_or(0, |(_, time)| *time);
        let took = acted.saturating_sub(sent.load(Ordering::SeqCst));
        node.tpm().tool("tpm2_pcrreset", &["23"])?;
        failing.is_taken_again()?;
        Ok(took as f64 / 1000.0)
    })?;
    Ok(vec![Figure {
        name: "revocation_to_action_ms",
        value: runs.ends().1,
        unit: "ms",
        budget: Budget::AtMost(100.0),
        how: format!(
            "from the failing quote's way to the verifier to the first line of a peer's action, a shell script; the worst; \
             one peer, loopback; {runs}"
        ),
    }])
}

/// How long it takes until a thousand agents act.
///
/// # Errors
/// A program fails.
pub(crate) fn fanout(site: &Site) -> Result<Vec<Figure>> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let verifier = Verifier::start_with(site, &["--quote-interval", "3600"])?;
    let tenant = Tenant::beside(&verifier)?;
    let receivers = Receivers::start(&verifier, &tenant, RECEIVERS, "keyhalf-agent-static-x86_64")?;
    let bad = receivers.name(0)?;
    let client = verifier.client()?;
    let mut number = 0;
    let runs = Runs::of(FANOUT_RUNS, || -> Result<f64> {
        number += 1;
        let body = json!({ "agent_id": bad, "reason": "measured" });
        let began = now();
        client
            .send("POST", "/v2.6/revocations", Some(&body))?
            .results()?;
        receivers.wait_until_all_acted(number)?;
        let all = (0..receivers.len()).filter_map(|one| Some(receivers.acted(one).last()?.1));
        Ok(all.max().unwrap_or(0).saturating_sub(began) as f64 / 1000.0)
    })?;
    Ok(vec![Figure {
        name: "revocation_fanout_1000_ms",
        value: runs.median(),
        unit: "ms",
        budget: Budget::None,
        how: format!(
            "from an operator's word to the first line of the last of 1,000 agents' actions, all agents, a shell for each \
             and the verifier on these processors; {runs}"
        ),
    }])
}

/// A node that fails and is taken again.
struct Failing<'a, 'site> {
    verifier: &'a Verifier<'site>,
    path: String,
}

impl<'a, 'site> Failing<'a, 'site> {
    /// Adds a node that the verifier reaches by way of the liar.
    fn add(
        verifier: &'a Verifier<'site>,
        tenant: &Tenant<'_>,
        node: &Node<'_>,
        liar: &Liar,
    ) -> Result<Self> {
        let path = format!("/v2.6/agents/{}", node.uuid()?);
        let record = verifier.registrar_client()?.get(&path)?.results()?;
        let policy = json!({ "23": ["0".repeat(64)], "mask": "0x800000" }).to_string();
        let mut body = enrolment(&record, &policy, None);
        let key = tenant.work().join("myca/RevocationNotifier-private.pem");
        body["revocation_key"] = Value::from(std::fs::read_to_string(key)?);
        body["cloudagent_ip"] = Value::from(liar.address().to_string());
        body["mtls_cert"] = Value::from(liar.certificate());
        verifier
            .client()?
            .send("POST", &path, Some(&body))?
            .results()?;
        Ok(Self { verifier, path })
    }

    fn waits_for_a_pass(&self) -> Result {
        let client = self.verifier.client()?;
        until(LIMIT, "a pass", || {
            let shown = client.get(&self.path).ok()?.results().ok()?;
            (shown["attestation_status"] == "PASS").then_some(())
        })
    }

    fn is_taken_again(&self) -> Result {
        let path = format!("{}/reactivate", self.path);
        self.verifier
            .client()?
            .send("PUT", &path, None)?
            .results()?;
        Ok(())
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

const RECEIVERS: usize = 1000;
const FANOUT_RUNS: usize = 5;
