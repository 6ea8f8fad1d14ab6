//! What happens between power-on and secret, one stage after the other, and when each ended.

use std::time::Duration;

use hw_tests::Result;

use crate::meter::millis;

/// A stage, and the console's line at whose time it is over.
#[derive(Debug)]
pub(super) struct Stage {
    /// What happens.
    pub(super) name: &'static str,
    /// The first line with this in it; without it, the kernel's clock begins.
    mark: Option<&'static str>,
}

/// What the wrapper of the agent says before it starts it.
pub(super) const STARTS: &str = "bench: provision starts";

/// What it says as the agent has ended, before the exit code.
pub(super) const ENDED: &str = "bench: provision ended with ";

/// From power-on to the secret.
pub(super) const BOOT: [Stage; 7] = [
    Stage {
        name: "firmware; the kernel is loaded and unpacked",
        mark: None,
    },
    Stage {
        name: "the kernel, until it starts init",
        mark: Some("Run /init as init process"),
    },
    Stage {
        name: "init: modules, network",
        mark: Some(STARTS),
    },
    Stage {
        name: "the agent proves the boot, and opens its payload",
        mark: Some("payload unpacked to "),
    },
    Stage {
        name: "it caps the boot, and tells the verifier",
        mark: Some("running autorun.sh"),
    },
    Stage {
        name: "the payload's script",
        mark: Some("autorun.sh ended well"),
    },
    Stage {
        name: "it tells the verifier, and ends",
        mark: Some(ENDED),
    },
];

/// The first one that is the agent's; all after it are.
pub(super) const AGENTS_FIRST: usize = 3;

/// The agent's part of that, as its log tells it at level debug.
pub(super) const AGENT: [Stage; 9] = [
    Stage {
        name: "it starts, until the TPM's first answer",
        mark: Some("TPM2_GetCapability"),
    },
    Stage {
        name: "the TPM makes its attestation key",
        mark: Some("TPM2_GetRandom"),
    },
    Stage {
        name: "landing zone, connection to the verifier, session",
        mark: Some("TPM2_Certify"),
    },
    Stage {
        name: "challenge and quote",
        mark: Some("TPM2_Quote"),
    },
    Stage {
        name: "the verifier's verdict; the TPM activates its key",
        mark: Some("TPM2_ActivateCredential"),
    },
    Stage {
        name: "the payload is fetched and opened",
        mark: Some("payload unpacked to "),
    },
    Stage {
        name: "cap, and the first receipt",
        mark: Some("running autorun.sh"),
    },
    Stage {
        name: "the payload's script",
        mark: Some("autorun.sh ended well"),
    },
    Stage {
        name: "the last receipt, and the end",
        mark: Some(ENDED),
    },
];

/// One boot: milliseconds from the beginning of its first stage to the end of each.
#[derive(Debug)]
pub(super) struct Timeline(Vec<f64>);

impl Timeline {
    /// A boot's, from power-on.
    ///
    /// # Errors
    /// A line is missing, or isn't after the one before it.
    pub(super) fn of_boot(console: &Console) -> Result<Self> {
        // The guest's clock doesn't know what was before the kernel.
        let before = millis(console.starts) - console.time(STARTS)?;
        Self::read(&BOOT, console, before)
    }

    /// That of an agent that logs at level debug, from its start.
    ///
    /// # Errors
    /// As [`Timeline::of_boot`].
    pub(super) fn of_agent(console: &Console) -> Result<Self> {
        Self::read(&AGENT, console, -console.time(STARTS)?)
    }

    /// `before` is to be added to the guest's times.
    fn read(stages: &[Stage], console: &Console, before: f64) -> Result<Self> {
        let mut ends = Vec::new();
        let mut last = 0.0;
        for stage in stages {
            let end = match stage.mark {
                None => before,
                Some(part) => before + console.time(part)?,
            };
            if end < last {
                return Err(format!("{:?} ends before it begins", stage.name).into());
            }
            ends.push(end);
            last = end;
        }
        Ok(Self(ends))
    }

    /// Milliseconds that a stage took.
    pub(super) fn took(&self, stage: usize) -> f64 {
        self.from(stage) - self.from(stage + 1)
    }

    /// Milliseconds from the beginning of a stage to the end of the last.
    pub(super) fn from(&self, stage: usize) -> f64 {
        let before = stage.checked_sub(1).and_then(|last| self.0.get(last));
        let whole = self.0.last().copied().unwrap_or(0.0);
        whole - before.copied().unwrap_or(0.0)
    }
}

/// What a boot has said until its agent ended.
#[derive(Debug)]
pub(super) struct Console {
    /// All of it.
    pub(super) text: String,
    /// How old the boot was, by the host's clock, when the agent started.
    pub(super) starts: Duration,
    /// And when it had ended.
    pub(super) ended: Duration,
}

impl Console {
    /// Whether guest and host agree on how long the agent took. The guest's clock goes wrong, twice as fast even, where the
    /// host was too busy when the kernel measured its processor.
    ///
    /// # Errors
    /// A line is missing.
    pub(super) fn has_true_time(&self) -> Result<bool> {
        let guests = self.time(ENDED)? - self.time(STARTS)?;
        let hosts = millis(self.ended.saturating_sub(self.starts));
        Ok((guests - hosts).abs() <= 0.05 * hosts + READING_MS)
    }

    /// What the agent waited for its TPM, in milliseconds, by its log at level debug.
    pub(super) fn by_the_tpm(&self) -> f64 {
        let micros = self.text.lines().filter_map(|line| {
            let (_, took) = line.split_once("agent: debug: TPM2_")?;
            let (_, micros) = took.strip_suffix(" us")?.split_once(": ")?;
            micros.parse::<f64>().ok()
        });
        micros.sum::<f64>() / 1e3
    }

    /// The kernel's time, in milliseconds, of the first line that has `part` in it: `[    4.123456] ...`.
    fn time(&self, part: &str) -> Result<f64> {
        let line = self.text.lines().find(|line| line.contains(part));
        let line = line.ok_or_else(|| format!("the console doesn't say {part:?}"))?;
        let time = line.split(['[', ']']).nth(1).unwrap_or_default().trim();
        let seconds: f64 = time.parse().map_err(|_| format!("no time in {line:?}"))?;
        Ok(seconds * 1e3)
    }
}

/// How late the host may read a line.
const READING_MS: f64 = 30.0;
