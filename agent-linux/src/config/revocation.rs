//! What `serve`, `push` and `provision` are told of revocations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{self, Settings};
use super::{ConfigError, value};
#[cfg(feature = "revocations")]
use crate::{actions::ActionRules, crl::ListRules, revocations::TrustRules};

/// Whose word counts on a revocation, and what it sets off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationConfig {
    /// The node's actions, as given: names with commas between them.
    pub actions: String,
    /// The directory of the node's actions.
    pub actions_dir: PathBuf,
    /// How long each action may run.
    pub action_timeout: Duration,
    /// Whether a payload may bring actions of its own.
    pub allow_payload_actions: bool,
    /// The notifier's certificate; the payload's `RevocationNotifier-cert.crt` if there is none.
    pub cert: Option<PathBuf>,
    /// Whether a node that has no payload acts too.
    pub without_payload: bool,
    /// The certificate of the authority whose revocation lists are taken; the payload's `cacert.crt` if there is none.
    pub crl_ca_cert: Option<PathBuf>,
    /// The file that takes each newer revocation list, beside the payload's.
    pub crl_path: Option<PathBuf>,
}

#[cfg(feature = "revocations")]
impl RevocationConfig {
    /// Whose notices count.
    #[must_use]
    pub fn trust(&self) -> TrustRules {
        TrustRules {
            notifier: self.cert.clone(),
            without_payload: self.without_payload,
        }
    }

    /// What they set off, run in this directory.
    #[must_use]
    pub fn rules(&self, directory: &Path) -> ActionRules {
        ActionRules {
            configured: self.actions.clone(),
            installed: self.actions_dir.clone(),
            allow_payload: self.allow_payload_actions,
            directory: directory.to_owned(),
            timeout: self.action_timeout,
            lists: ListRules {
                authority: self.crl_ca_cert.clone(),
                file: self.crl_path.clone(),
            },
        }
    }
}

impl Settings {
    /// What the options of the group say.
    pub(super) fn revocation(&self, keylime_dir: &Path) -> Result<RevocationConfig, ConfigError> {
        let file = |key| self.optional(key, |text| Ok(self.path(key, text, keylime_dir)));
        let cert = file("revocation_cert")?;
        let without_payload = self.value("revocation_without_payload", value::switch)?;
        if without_payload && cert.is_none() {
            let wanted = "without a payload nobody says whose notices count: set revocation_cert";
            return Err(self.refused("revocation_without_payload", wanted.to_owned()));
        }
        Ok(RevocationConfig {
            actions: self.text("revocation_actions").to_owned(),
            actions_dir: self.value("revocation_actions_dir", value::absolute)?,
            action_timeout: self.value("revocation_action_timeout", settings::seconds)?,
            allow_payload_actions: self.value("allow_payload_revocation_actions", value::switch)?,
            cert,
            without_payload,
            crl_ca_cert: file("crl_ca_cert")?,
            crl_path: self.optional("crl_path", value::absolute)?,
        })
    }
}
