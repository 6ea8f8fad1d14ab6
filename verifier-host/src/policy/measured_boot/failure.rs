//! Why a boot isn't what the policy wants.

use std::fmt;

use agent_core::wire::quote::HashAlg;

/// A rule that could have taken an event, and why it didn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule's name.
    pub rule: String,
    /// What it wants, and what would have allowed the event.
    pub why: String,
}

/// The first thing that a policy doesn't allow, or lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeasuredBootFailure {
    /// No rule takes the event.
    Unlisted {
        /// Its number in the log.
        event: u32,
        /// What it is.
        described: String,
        /// The rules of its PCR, those of its type first.
        rules: Vec<Refusal>,
    },
    /// The event is what a rule is about, and isn't as it wants it.
    Refused {
        /// Its number in the log.
        event: u32,
        /// What it is.
        described: String,
        /// The rule.
        rule: Refusal,
    },
    /// The firmware measured something else than the log says, where variables are judged: the log could hide one.
    Unverified {
        /// Its number in the log.
        event: u32,
        /// What it is.
        described: String,
    },
    /// The PCR was to be empty.
    NotEmpty {
        /// Its number in the log.
        event: u32,
        /// What it is.
        described: String,
    },
    /// Not as many events as a rule wants.
    Missing {
        /// The rule's name.
        rule: String,
        /// Where it looks.
        pcr: u8,
        /// What kind of events it takes.
        kind: String,
        /// How many it wants.
        wanted: u32,
        /// How many there are.
        found: u32,
    },
    /// Keylime's reference state lists digests of SHA-256 only.
    Bank {
        /// The quoted bank.
        quoted: HashAlg,
    },
    /// An event that Keylime's example policy doesn't take, or not this often or not with this data.
    Reference {
        /// Its number in the log.
        event: u32,
        /// What it is.
        described: String,
        /// Why not.
        why: String,
    },
    /// The events as a whole are none of those that the reference state lists.
    ReferenceList {
        /// Which list of the reference state.
        list: &'static str,
        /// What differs.
        why: String,
    },
}

impl MeasuredBootFailure {
    /// What Keylime calls it in revocation messages.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Reference { .. } | Self::ReferenceList { .. } | Self::Bank { .. } => {
                "measured_boot.policy_example"
            }
            _ => "measured_boot.policy_rules",
        }
    }

    /// The number of the event that decided, if one did.
    #[must_use]
    pub const fn number(&self) -> Option<u32> {
        match self {
            Self::Unlisted { event, .. }
            | Self::Refused { event, .. }
            | Self::Unverified { event, .. }
            | Self::NotEmpty { event, .. }
            | Self::Reference { event, .. } => Some(*event),
            _ => None,
        }
    }
}

impl fmt::Display for MeasuredBootFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted {
                described, rules, ..
            } => {
                write!(f, "no rule allows {described}")?;
                rules.iter().enumerate().try_for_each(|(number, refusal)| {
                    let before = if number == 0 { ": " } else { "; " };
                    write!(f, "{before}rule {:?} {}", refusal.rule, refusal.why)
                })?;
                if rules.is_empty() {
                    f.write_str(": no rule is about events of this type in this PCR; add one, or list the PCR in open")?;
                }
                Ok(())
            }
            Self::Refused {
                described, rule, ..
            } => {
                write!(
                    f,
                    "rule {:?} refuses {described}: it {}",
                    rule.rule, rule.why
                )
            }
            Self::Unverified { described, .. } => write!(
                f,
                "{described}: the log doesn't say what was measured here, before the firmware's end, where a variable could hide; a rule with its digest would allow it"
            ),
            Self::NotEmpty { described, .. } => write!(
                f,
                "{described}: its PCR must be empty; take the PCR from empty, and list what may be measured in a rule"
            ),
            Self::Missing {
                rule,
                pcr,
                kind,
                wanted,
                found,
            } => write!(
                f,
                "rule {rule:?} wants {wanted} events in PCR {pcr} ({kind}), and the log has {found} that it takes"
            ),
            Self::Bank { quoted } => write!(
                f,
                "Keylime's reference states list digests of SHA-256, and the bank {} was quoted: quote sha256",
                quoted.name()
            ),
            Self::Reference { described, why, .. } => write!(f, "{described}: {why}"),
            Self::ReferenceList { list, why } => write!(f, "{list} of the reference state: {why}"),
        }
    }
}

impl std::error::Error for MeasuredBootFailure {}
