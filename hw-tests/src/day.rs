//! One day of an operator, recorded: a node is added, looked at, changes a PCR, is revoked, and goes.

use crate::Result;
use crate::node::Node;
use crate::operator::Maker;
use crate::payload;
use crate::process::{LIMIT, until};
use crate::servers::Servers;
use crate::swtpm::Swtpm;
use crate::tap::Tap;
use crate::tenant::Tenant;
use crate::traffic::{Message, UUID};

/// A policy that a node with an untouched PCR 23 satisfies.
pub fn untouched_23() -> String {
    format!(r#"{{"23": ["{}"]}}"#, "0".repeat(64))
}

/// All that servers, a tenant of this maker and our agent say on such a day; the agent speaks one version of the API, or all.
/// The servers' `cv_ca` must be keyhalf's.
///
/// # Errors
/// Something of it doesn't happen.
pub fn recorded<'site, S: Servers<'site>>(
    servers: &S,
    tenant: Maker,
    version: Option<&str>,
) -> Result<Vec<Message>> {
    let mut tap = Tap::before(servers)?;
    let tpm = Swtpm::fresh(servers.site())?;
    let version = version.unwrap_or("default");
    let options = [
        ["--uuid", UUID],
        ["--tpm-signing-alg", "rsassa"],
        ["--api-versions", version],
        ["--registrar-api-versions", version],
    ];
    let node = Node::boot_with(&tap, tpm, options.as_flattened())?;
    tap.and_before(&node)?;
    let tenant = match tenant {
        Maker::Keyhalf => Tenant::beside(&tap)?,
        Maker::Keylime => Tenant::keylimes_beside(&tap)?,
    };
    // Nobody has added it yet.
    tenant.run(&["-c", "cvstatus", "-u", UUID])?;
    payload::documented(&tenant.work().join("payload"))?;
    let (agent, policy) = (tap.agent().to_string(), untouched_23());
    let with_payload = ["--cert", "default", "--include", "payload", "--verify"];
    let add = ["-t", &agent, "-u", UUID, "--tpm_policy", &policy];
    tenant.does(&[&add[..], &with_payload].concat())?;
    for command in LOOKS {
        tenant.does(&["-c", command, "-u", UUID])?;
    }
    node.tpm().extend(23, 1)?;
    until(LIMIT, "revocation", || {
        let recording = tap.recording();
        let mut paths = recording.iter().map(|message| message.path.as_str());
        paths
            .any(|path| path.ends_with("/notifications/revocation"))
            .then_some(())
    })?;
    for command in ["cvstatus", "reactivate", "delete", "regdelete"] {
        tenant.run(&["-c", command, "-u", UUID])?;
    }
    Ok(tap.recording())
}

/// Commands that change nothing.
const LOOKS: [&str; 6] = [
    "status",
    "cvstatus",
    "regstatus",
    "cvlist",
    "reglist",
    "bulkinfo",
];
