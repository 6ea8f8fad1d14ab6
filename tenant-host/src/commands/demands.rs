//! What a node is to show: its policies, read and checked before anybody is asked.

use agent_core::wire::quote::PcrMask;
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use verifier_host::link::Limits;
use verifier_host::policy::{IMA_PCRS, MEASURED_BOOT_PCRS};

use super::policies::EMPTY_MEASURED_BOOT;
use super::policy::Policy;
use crate::cli::{Arguments, Settings};
use crate::client::{PolicyAnswer, Verifier};
use crate::deposit::made::policy_sha256;
use crate::error::Failure;
use crate::policy::{
    CheckedMeasuredBoot, CheckedRuntime, PolicyKind, PolicyName, read_measured_boot, sha256,
};

/// The policies of one node.
pub(super) struct Demands {
    /// `tpm_policy`, with the PCRs of the others in its mask.
    pub(super) pcrs: Policy,
    runtime_name: Option<PolicyName>,
    runtime: Option<CheckedRuntime>,
    /// The runtime policy in base64; empty if none is given.
    pub(super) runtime_text: String,
    /// The key that it is signed by in base64; empty if it isn't signed.
    pub(super) runtime_key: String,
    boot_name: Option<PolicyName>,
    boot: Option<CheckedMeasuredBoot>,
}

impl Demands {
    /// Reads, and fetches, what the arguments name.
    pub(super) async fn read(
        arguments: &Arguments,
        settings: &Settings,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let runtime = arguments.policies.runtime()?;
        let boot = arguments
            .policies
            .measured_boot(settings.mb_policy.as_ref())?;
        let mut logged = PcrMask::EMPTY;
        if runtime.name.is_some() || runtime.file.is_some() {
            logged = IMA_PCRS.iter().fold(logged, PcrMask::with);
        }
        if boot.name.is_some() || boot.file.is_some() {
            logged = MEASURED_BOOT_PCRS.iter().fold(logged, PcrMask::with);
        }
        let pcrs = Policy::parse(arguments.tpm_policy.as_deref().unwrap_or("{}"), logged)?;
        let boot_file = boot.file.as_deref().map(read_measured_boot).transpose()?;
        let checked = match &runtime.file {
            Some(file) => Some(file.read(limits).await?),
            None => None,
        };
        let encode = |bytes: fn(&CheckedRuntime) -> &[u8]| {
            checked
                .as_ref()
                .map_or_else(String::new, |policy| BASE64.encode(bytes(policy)))
        };
        Ok(Self {
            pcrs,
            runtime_name: runtime.name,
            runtime_text: encode(|policy| &policy.bytes),
            runtime_key: encode(|policy| policy.key_pem.as_bytes()),
            runtime: checked,
            boot_name: boot.name,
            boot: boot_file,
        })
    }

    /// The runtime policy's name at the verifier; empty for none.
    pub(super) fn runtime_name(&self) -> &str {
        self.runtime_name
            .as_ref()
            .map_or_else(Default::default, PolicyName::as_str)
    }

    /// The measured-boot policy's name at the verifier; empty for none.
    pub(super) fn boot_name(&self) -> &str {
        self.boot_name
            .as_ref()
            .map_or_else(Default::default, PolicyName::as_str)
    }

    /// The measured-boot policy, if one is given.
    pub(super) fn boot_text(&self) -> Option<&str> {
        self.boot.as_ref().map(|policy| policy.text.as_str())
    }

    /// Whether a log decides about the node: a runtime or measured-boot policy, given or kept.
    pub(super) const fn has_logs(&self) -> bool {
        self.runtime.is_some()
            || self.runtime_name.is_some()
            || self.boot.is_some()
            || self.boot_name.is_some()
    }

    /// SHA-256 of the policies that were given, for a manifest.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let runtime = self.runtime.as_ref().map(|policy| policy.bytes.as_slice());
        let boot = self.boot_text().unwrap_or_default();
        policy_sha256(&self.pcrs.text, runtime.unwrap_or_default(), boot)
    }

    /// Asks the verifier whether it can have these policies, so that one that can't is known before anything is made or sent.
    pub(super) async fn check_at(
        &self,
        verifier: &mut Verifier,
        uuid: &Uuid,
    ) -> Result<(), Failure> {
        let (runtime, boot) = (PolicyKind::Runtime, PolicyKind::MeasuredBoot);
        let wishes = [
            (runtime, &self.runtime_name, self.runtime.is_some()),
            (boot, &self.boot_name, self.boot.is_some()),
        ];
        for (kind, name, is_given) in wishes {
            if name.is_none() && !is_given {
                continue;
            }
            let PolicyAnswer::Done(names) = verifier.policy_names(kind).await? else {
                let verifier = verifier.endpoint().to_string();
                return Err(Failure::PoliciesNotKept { kind, verifier });
            };
            // What lives under the identifier of a node that is there goes with it.
            let is_new = verifier.view(uuid).await?.is_none();
            let new_node = is_new.then_some(uuid);
            fits(kind, name.as_ref(), is_given, &names, new_node)?;
        }
        Ok(())
    }

    /// What has to be said of them.
    pub(super) fn warnings(&self) -> Vec<&'static str> {
        let nothing = (self.pcrs.is_empty && !self.has_logs())
            .then_some("warning: there is no --tpm_policy, so every boot of this node passes");
        let boot = self.boot.as_ref().filter(|policy| policy.is_empty);
        let boot = boot.map(|_| EMPTY_MEASURED_BOOT);
        nothing.into_iter().chain(boot).collect()
    }

    /// What is reported of them.
    pub(super) fn as_json(&self) -> Value {
        let name = |name: &Option<PolicyName>| name.as_ref().map(|name| name.as_str().to_owned());
        json!({
            "runtime_policy_name": name(&self.runtime_name),
            "runtime_policy_sha256": self.runtime.as_ref().map(|policy| sha256(&policy.bytes)),
            "mb_policy_name": name(&self.boot_name),
            "mb_policy_sha256": self.boot_text().map(sha256),
        })
    }
}

/// Whether a policy fits those that the verifier has. A nameless one lives under the identifier of its `new_node`; one that is
/// there already would count instead of it, since Keylime's verifier keeps the older one and says nothing.
fn fits(
    kind: PolicyKind,
    name: Option<&PolicyName>,
    is_given: bool,
    names: &[String],
    new_node: Option<&Uuid>,
) -> Result<(), Failure> {
    let own_name = new_node.map(Uuid::as_str);
    let Some(name) = name.map(PolicyName::as_str).or(own_name) else {
        return Ok(());
    };
    let (is_there, name) = (
        names.iter().any(|known| known.as_str() == name),
        name.to_owned(),
    );
    match (is_given, is_there) {
        (true, true) => Err(Failure::PolicyExists { kind, name }),
        (false, false) => Err(Failure::NoPolicy { kind, name }),
        (true, false) | (false, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_new_or_there_but_not_both() {
        let (exists, absent) = (Some("already, and another"), Some("the verifier has no"));
        let rows = [
            ("new", Some("new"), true, true, None),
            ("kept", Some("web"), false, true, None),
            ("given and kept", Some("web"), true, true, exists),
            ("neither", Some("new"), false, true, absent),
            ("under the node's name", None, true, true, None),
            ("goes with the node", None, true, false, None),
            (
                "given and kept, node there",
                Some("web"),
                true,
                false,
                exists,
            ),
        ];
        let names = ["web".to_owned()];
        let node = Uuid::parse("node");
        for (row, name, is_given, is_new, wanted) in rows {
            let name = name.and_then(|name| PolicyName::parse(name.to_owned()).ok());
            let node = node.as_ref().filter(|_| is_new);
            let result = fits(PolicyKind::Runtime, name.as_ref(), is_given, &names, node);
            let error = result.err().map(|error| error.to_string());
            let fits = match (&error, wanted) {
                (Some(error), Some(wanted)) => error.contains(wanted),
                (error, wanted) => error.is_none() && wanted.is_none(),
            };
            assert!(fits, "{row}: {error:?}");
        }
        let left_over = [String::from("node")];
        let result = fits(PolicyKind::Runtime, None, true, &left_over, node.as_ref());
        assert!(matches!(result, Err(Failure::PolicyExists { .. })));
    }
}
