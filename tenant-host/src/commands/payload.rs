//! Sealing for one node, and whether its agent can take the result.

use std::path::PathBuf;
use std::sync::Arc;

use agent_core::wire::text::Uuid;
use zeroize::Zeroizing;

use super::logs::{self, Beginning};
use crate::ca::CaDirectory;
use crate::cli::{PayloadSource, Settings};
use crate::client::AgentInfo;
use crate::error::Failure;
use crate::seal::{
    MAX_INPUT_BYTES, Sealed, complete_actions, package, read_file, read_tree, seal,
    sealed_elsewhere,
};

/// What an agent takes that doesn't tell: with the zip and what it unpacks to in 1 MiB, Keylime's ends here.
const KEYLIME_LIMIT_BYTES: u64 = 480_000;

/// What goes to a node.
pub(super) struct Load {
    /// The sealed payload; `None` if the node is attested only.
    pub(super) sealed: Option<Sealed>,
    /// JSON text with the certificate's serial number and subject, and the node's group.
    pub(super) metadata: String,
    /// The key that the verifier signs revocations with, PEM; empty without a package.
    pub(super) revocation_key: Zeroizing<String>,
    /// The CA that was made on the way.
    pub(super) new_ca: Option<PathBuf>,
    /// What has to be said.
    pub(super) warnings: Vec<String>,
}

/// Makes the certificates and the package, and seals. Blocks; touches files and no network. A package of a CA needs what was
/// settled with the verifier.
pub(super) fn prepare(
    source: &PayloadSource,
    uuid: &Uuid,
    group: Option<&str>,
    beginning: Option<Beginning>,
    settings: &Arc<Settings>,
) -> Result<Load, Failure> {
    let plain = |sealed| Load {
        sealed,
        metadata: logs::metadata(None, group),
        revocation_key: Zeroizing::default(),
        new_ca: None,
        warnings: Vec::new(),
    };
    let (ca, include) = match source {
        PayloadSource::None => return Ok(plain(None)),
        PayloadSource::File(path) => {
            let content = read_file(path, MAX_INPUT_BYTES)?;
            return Ok(plain(Some(seal(&content, Some(content.len() as u64))?)));
        }
        PayloadSource::Sealed { key, payload } => {
            return Ok(plain(Some(sealed_elsewhere(key, payload)?)));
        }
        PayloadSource::Package { ca, include } => (ca, include),
    };
    let beginning = beginning.ok_or(Failure::Interrupted)?;
    let mut tree = include
        .as_deref()
        .map(read_tree)
        .transpose()?
        .unwrap_or_default();
    let mut warnings = complete_actions(&mut tree)?;
    warnings.extend_from_slice(beginning.warnings());
    let mut ca = CaDirectory::open(ca, settings.ca_passphrase.as_ref())?;
    let identity = beginning.identity(&mut ca, uuid, settings)?;
    let (zip, unpacked) = package(uuid.as_str(), &identity, &tree)?;
    Ok(Load {
        sealed: Some(seal(&zip, Some(unpacked))?),
        metadata: beginning.metadata(&identity),
        revocation_key: identity.notifier_private_pem,
        new_ca: beginning.new_ca,
        warnings,
    })
}

/// Checks the payload against the agent's limits, or those of agents that don't tell. Returns what has to be said.
pub(super) fn check_size(
    sealed: &Sealed,
    agent: &AgentInfo,
    configured: Option<u64>,
) -> Result<Option<String>, Failure> {
    let have = sealed.bytes().len() as u64;
    let too_large = |have, limit, unpacked, whose, remedy| {
        Err(Failure::TooLarge {
            have,
            unpacked,
            limit,
            whose,
            remedy,
        })
    };
    if let (Some(unpacked), Some(limit)) = (sealed.unpacked_bytes(), agent.max_unpacked_bytes)
        && unpacked > limit
    {
        let remedy = "Its landing zone can be made larger (secure_size in its configuration)";
        return too_large(unpacked, limit, " when unpacked", "the agent's", remedy);
    }
    if let Some(limit) = agent.max_sealed_bytes.filter(|limit| have > *limit) {
        return too_large(
            have,
            limit,
            "",
            "the agent's",
            "It can be raised (max_payload_size in its configuration)",
        );
    }
    if let Some(limit) = configured.filter(|limit| have > *limit) {
        return too_large(
            have,
            limit,
            "",
            "this tenant's",
            "--max-payload-size, or max_payload_size in tenant.conf, sets it",
        );
    }
    if agent.max_sealed_bytes.is_some() || have <= KEYLIME_LIMIT_BYTES {
        return Ok(None);
    }
    if configured.is_none() {
        let remedy = "Keylime's agents lose what is larger, and this one doesn't tell its limit. If it can take more, \
            --max-payload-size says how much";
        return too_large(
            have,
            KEYLIME_LIMIT_BYTES,
            "",
            "a Keylime agent's usual",
            remedy,
        );
    }
    Ok(Some(format!(
        "warning: the payload has {have} bytes and this agent doesn't tell its limit; Keylime's agents lose more than about \
         {KEYLIME_LIMIT_BYTES}"
    )))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    #[test]
    fn payload_too_large_is_refused_before_sending() {
        let info = |payload, unpacked| AgentInfo {
            max_sealed_bytes: payload,
            max_unpacked_bytes: unpacked,
        };
        type Row = (
            &'static str,
            usize,
            AgentInfo,
            Option<u64>,
            Result<bool, u64>,
        );
        let rows: [Row; 9] = [
            ("fits", 1000, info(Some(4096), Some(8192)), None, Ok(false)),
            (
                "over the agent's",
                5000,
                info(Some(4096), None),
                None,
                Err(4096),
            ),
            (
                "over the agent's, though configured",
                5000,
                info(Some(4096), None),
                Some(9000),
                Err(4096),
            ),
            (
                "unpacked over the agent's",
                3000,
                info(Some(4096), Some(2999)),
                None,
                Err(2999),
            ),
            (
                "over the configured",
                3000,
                info(Some(4096), None),
                Some(2000),
                Err(2000),
            ),
            (
                "large for an agent of ours",
                900_000,
                info(Some(4 << 20), None),
                None,
                Ok(false),
            ),
            (
                "Keylime's agent",
                400_000,
                info(None, None),
                None,
                Ok(false),
            ),
            (
                "too large for Keylime's agent",
                500_000,
                info(None, None),
                None,
                Err(KEYLIME_LIMIT_BYTES),
            ),
            (
                "at one's own risk",
                500_000,
                info(None, None),
                Some(1 << 20),
                Ok(true),
            ),
        ];
        for (name, bytes, agent, configured, wanted) in rows {
            let sealed = seal(&vec![0; bytes], Some(bytes as u64)).unwrap();
            let result = check_size(&sealed, &agent, configured);
            let result = result
                .map(|warning| warning.is_some())
                .map_err(|error| match error {
                    Failure::TooLarge { limit, .. } => limit,
                    other => panic!("{name}: {other}"),
                });
            assert_eq!(result, wanted, "{name}");
        }
    }
}
