//! `policy create measured-boot`: what this machine measured at this boot is what may be measured.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;
use verifier_host::evidence::eventlog::{EventLog, MAX_LOG_BYTES};
use verifier_host::policy::measured_boot::{Kind, create};

use crate::error::Failure;
use crate::policy::tool::{self, Target, ToolError};
use crate::report::{Output, Report};

/// Which log, and how its machine boots.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The firmware's event log: /sys/kernel/security/tpm0/binary_bios_measurements of a machine that is trusted.
    #[arg(long, value_name = "FILE")]
    pub event_log: PathBuf,

    /// How the machine boots [default: as the log looks].
    #[arg(long, value_enum)]
    pub boot: Option<Boot>,

    /// Where the policy goes.
    #[command(flatten)]
    pub target: Target,
}

/// Ways to boot that there are rules for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Boot {
    /// A unified kernel image with systemd's stub.
    Uki,
    /// A kernel that the firmware starts by its own EFI stub.
    EfiStub,
    /// Shim, GRUB, and a kernel.
    ShimGrub,
    /// Any: each PCR with all its digests, so that any change is refused.
    Exact,
}

impl From<Boot> for Kind {
    fn from(boot: Boot) -> Self {
        match boot {
            Boot::Uki => Self::Uki,
            Boot::EfiStub => Self::EfiStub,
            Boot::ShimGrub => Self::ShimGrub,
            Boot::Exact => Self::Exact,
        }
    }
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    arguments.target.check()?;
    let path = || arguments.event_log.clone();
    let bytes = tool::read_bounded(&arguments.event_log, MAX_LOG_BYTES)?;
    let log = EventLog::parse(&bytes).map_err(|source| {
        let path = path();
        ToolError::EventLog { path, source }
    })?;
    let kind = arguments.boot.map_or_else(|| Kind::of(&log), Kind::from);
    let text = create(&log, kind).map_err(|source| {
        let path = path();
        ToolError::MeasuredBoot { path, source }
    })?;
    output.say(&format!(
        "{} events of a machine that boots by {}",
        log.events().count(),
        kind.name()
    ));
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    let shown = arguments.target.write(&|out| writeln!(out, "{text}"))?;
    if let (None, Some(file)) = (shown, &arguments.target.output) {
        let text = format!(
            "{}: a measured-boot policy, {}",
            file.display(),
            kind.name()
        );
        return Ok(Report::done(text, json));
    }
    Ok(Report::done(text, json))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::path::Path;

    use verifier_host::policy::measured_boot::MeasuredBootPolicy;

    use super::*;

    /// Logs that are told where they are kept.
    #[test]
    fn each_log_makes_a_policy_that_can_be_read() {
        let vectors =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier-host/tests/vectors/eventlog");
        let root = tempfile::tempdir().unwrap();
        let made = root.path().join("policy.json");
        let rows = [
            ("ovmf-uki.bin", None, true),
            ("ovmf-efi-stub.bin", None, true),
            ("ovmf-shim-grub.bin", None, true),
            ("ovmf-shim-grub.bin", Some(Boot::Exact), true),
            ("ovmf-efi-stub.bin", Some(Boot::ShimGrub), false),
            ("ovmf-uki.pcrs", None, false),
        ];
        for (name, boot, wanted) in rows {
            let target = Target {
                output: Some(made.clone()),
                force: true,
            };
            let arguments = Arguments {
                event_log: vectors.join(name),
                boot,
                target,
            };
            let report = run(&arguments, &Output::new(true));
            assert_eq!(report.is_ok(), wanted, "{name} {boot:?}");
            if wanted {
                MeasuredBootPolicy::read(&std::fs::read(&made).unwrap()).unwrap();
            }
        }
    }
}
