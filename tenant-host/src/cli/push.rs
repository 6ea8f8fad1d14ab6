//! Options of the push model: the payload lies at the verifier, and the node fetches it.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::UsageError;
use crate::deposit::terms::{self, ScriptWish, Wishes};

/// The options as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Push model (the node calls, and may be off now)")]
#[serde(default, deny_unknown_fields)]
pub struct PushArguments {
    /// Deposit the payload at the verifier, sealed, for a node that calls: it may be off, or behind NAT. The agent isn't
    /// contacted. Needs -u. The payload is always a zip: with -f, one that holds that file under its name.
    #[arg(long)]
    pub push_model: bool,

    /// When it is released: `once` (to the first boot that asks), `per-boot` (to each boot), or `until=TIME` (to each boot
    /// until then; RFC 3339, or +DURATION after the sealing, such as +7d) [default: per-boot].
    #[arg(long, value_name = "WHEN")]
    pub deliver: Option<String>,

    /// The node's floor counter must not be above this; an older payload is refused by the node then. Only for a node that
    /// has such a counter. `-c rotate` counts on by itself.
    #[arg(long, value_name = "N")]
    pub floor: Option<u64>,

    /// The script in the payload that runs, or `none` [default: autorun.sh, if the payload has it].
    #[arg(long, value_name = "NAME")]
    pub script: Option<String>,

    /// How long the node may open its last good copy while it can't reach the verifier, such as 12h, or `never`
    /// [default: never].
    #[arg(long, value_name = "DURATION")]
    pub last_good: Option<String>,

    /// The PCR that ends a boot's chance once the payload is there [default: 15]. Not 16, nor 23.
    #[arg(long, value_name = "N")]
    pub cap_pcr: Option<u8>,

    /// What that PCR holds before, up to four values with commas between [default: zeros].
    #[arg(long, value_name = "HEX", value_delimiter = ',')]
    pub cap_value: Vec<String>,

    /// Deposit for a node whose policy names no PCR of its boot and no log: any system booted on that machine gets it.
    #[arg(long)]
    pub allow_weak_policy: bool,

    /// The CA whose PayloadSigner signs, with -f [default: `ca` in the Keylime directory]. With --cert it is that one.
    #[arg(long, value_name = "DIR")]
    pub signer: Option<PathBuf>,

    /// Seal to the EK that this certificate is of (PEM or DER), and to no other.
    #[arg(long, value_name = "FILE")]
    pub ek_cert: Option<PathBuf>,

    /// Seal to whatever EK the node registered with, if it is the node's first and passes --tpm_cert_store. The registrar's
    /// word is all there is then for that it is this machine.
    #[arg(long)]
    pub trust_new_ek: bool,

    /// If the node hasn't registered yet: wait until it has, so long at most [without SECONDS: as --timeout].
    #[arg(long, value_name = "SECONDS", num_args = 0..=1)]
    pub wait: Option<Option<u64>>,

    /// If the node hasn't registered yet: note the request, for `keyhalf-tenant watch`.
    #[arg(long)]
    pub queue: bool,

    /// Where requests are noted [default: `queue` in the Keylime directory].
    #[arg(long, value_name = "DIR")]
    pub queue_dir: Option<PathBuf>,

    /// watch: go through the requests once, and end.
    #[arg(long)]
    pub once: bool,
}

impl PushArguments {
    /// The terms that were asked for.
    ///
    /// # Errors
    /// [`UsageError::Terms`].
    pub fn wishes(&self) -> Result<Wishes, UsageError> {
        let script = self.script.as_ref().map(|name| match name.as_str() {
            "none" => ScriptWish::None,
            _ => ScriptWish::Named(name.clone()),
        });
        let last_good = match self.last_good.as_deref() {
            Some("never") => Some(None),
            Some(text) => Some(Some(terms::span(text).ok_or_else(|| {
                UsageError::BadSpan {
                    option: "--last-good",
                    text: text.to_owned(),
                }
            })?)),
            None => None,
        };
        let deliver = self.deliver.as_deref().map(terms::when).transpose()?;
        Ok(Wishes {
            deliver,
            floor: self.floor,
            script,
            last_good,
            cap_pcr: self.cap_pcr,
            cap_values: self.cap_value.clone(),
        })
    }

    /// The first option that was given and means nothing without --push-model.
    #[must_use]
    pub fn lonely(&self) -> Option<&'static str> {
        let given = [
            ("--deliver", self.deliver.is_some()),
            ("--floor", self.floor.is_some()),
            ("--script", self.script.is_some()),
            ("--last-good", self.last_good.is_some()),
            ("--cap-pcr", self.cap_pcr.is_some()),
            ("--cap-value", !self.cap_value.is_empty()),
            ("--allow-weak-policy", self.allow_weak_policy),
            ("--signer", self.signer.is_some()),
            ("--ek-cert", self.ek_cert.is_some()),
            ("--trust-new-ek", self.trust_new_ek),
            ("--wait", self.wait.is_some()),
            ("--queue", self.queue),
        ];
        let first = given.iter().find(|(_, is_given)| *is_given);
        first.map(|(option, _)| *option)
    }
}
