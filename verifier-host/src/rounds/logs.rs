//! What a node shows, judged: its PCRs by its terms, IMA's list and the boot log each by the node's policy for it.
//!
//! A list is judged once: what is known of it from the last pass ([`Known`]) makes that only new lines travel. It counts for one
//! boot, one bank and one policy; after any change the list is read from its first line again. A restart of the verifier loses
//! it, which costs one whole list.

use std::sync::Arc;

use agent_core::wire::quote::{ClockInfo, HashAlg, PcrDump, PcrMask};
use agent_core::wire::text::Hex;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::progress::Failure;
use super::round::wrong_pcr;
use super::terms::Terms;
use crate::evidence::eventlog::{EventLog, EventLogError};
use crate::evidence::ima::{self, ImaError, Matched, Replayed};
use crate::evidence::shown::{self, Shown, ShownList};
use crate::policies::{JudgedBy, Kept, PolicyDigest};
use crate::policy::measured_boot::MeasuredBootPolicy;
use crate::policy::runtime::{Judge, Learnt, Refusal, RuntimePolicy};
use crate::policy::{IMA_PCR, PolicyName};

/// What is known of a node's IMA list since its last pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    boot: (u32, u32),
    bank: HashAlg,
    /// By which it was judged. None: nothing is known but how many lines came, since agents send the list unasked, and shall not
    /// send all of it each time.
    policy: Option<PolicyDigest>,
    replayed: Replayed,
    /// Lines that had come by then: the next quote is of one of them or of a later one.
    seen: u64,
    learnt: Learnt,
}

/// What a node is asked for, beside a quote.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What decides about its logs.
    pub judged_by: JudgedBy,
    known: Option<Arc<Known>>,
}

/// The logs as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Came<'a> {
    /// IMA's list, or its end.
    pub list: Option<List<'a>>,
    /// The boot log, `binary_bios_measurements`.
    pub boot_log: Option<&'a [u8]>,
}

/// Lines of IMA's list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Number of lines before them.
    pub after: u64,
    /// The lines, as text.
    pub lines: &'a [u8],
}

/// Why what a node showed doesn't let it pass.
#[derive(Debug)]
pub enum Fault {
    /// What came doesn't continue what is known, because the node booted anew: the whole list is needed.
    ReadAnew,
    /// It doesn't hold.
    Failed(Box<Failed>),
}

/// Evidence that doesn't hold, though its quote does.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// What was judged.
    pub shown: Shown,
}

enum Refused {
    ReadAnew,
    Failure(Failure),
}

impl Asked {
    /// What a node is asked that is judged by these policies, and of whose list this is known.
    #[must_use]
    pub fn new(judged_by: JudgedBy, known: Option<Arc<Known>>) -> Self {
        let policy = judged_by.runtime.as_ref().map(|kept| kept.digest);
        let known = known.filter(|known| known.policy == policy);
        Self { judged_by, known }
    }

    /// The same for a node that booted anew.
    #[must_use]
    pub fn from_the_first_line(self) -> Self {
        Self {
            known: None,
            ..self
        }
    }

    /// The line of IMA's list that is wanted first, counted from 0.
    #[must_use]
    pub fn first_line(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.replayed.lines)
    }

    /// Whether IMA's list is wanted.
    #[must_use]
    pub const fn wants_list(&self) -> bool {
        self.judged_by.runtime.is_some()
    }

    /// Whether the boot log is wanted.
    #[must_use]
    pub fn wants_boot_log(&self) -> bool {
        self.boot_pcrs() != PcrMask::EMPTY
    }

    /// The PCRs that the logs explain.
    #[must_use]
    pub fn pcrs(&self) -> PcrMask {
        let boot = self.boot_pcrs();
        if self.wants_list() {
            boot.with(IMA_PCR)
        } else {
            boot
        }
    }

    fn boot_pcrs(&self) -> PcrMask {
        let policy = self.judged_by.measured_boot.as_ref();
        policy.map_or(PcrMask::EMPTY, |kept| kept.policy.pcrs())
    }

    /// Judges PCR values that were checked, and the logs beside them, by a node's terms and policies. What is known of the list
    /// from now on.
    ///
    /// # Errors
    /// [`Fault`].
    ///
    /// # Cost
    /// Linear in the logs.
    pub fn judge(
        &self,
        terms: &Terms,
        came: Came<'_>,
        quoted: &PcrDump,
        clock: ClockInfo,
    ) -> Result<Option<Arc<Known>>, Fault> {
        self.judge_all(terms, came, quoted, clock)
            .map_err(|refusal| match refusal {
                Refused::ReadAnew => Fault::ReadAnew,
                Refused::Failure(failure) => {
                    let shown = self.shown(&failure, terms, came, quoted);
                    Fault::Failed(Box::new(Failed { failure, shown }))
                }
            })
    }

    fn judge_all(
        &self,
        terms: &Terms,
        came: Came<'_>,
        quoted: &PcrDump,
        clock: ClockInfo,
    ) -> Result<Option<Arc<Known>>, Refused> {
        let judged = terms.policy.judge(quoted.values());
        judged.map_err(|mismatch| Refused::Failure(wrong_pcr(&mismatch)))?;
        if let Some(kept) = &self.judged_by.measured_boot {
            self.judge_boot(&kept.policy, came.boot_log, quoted)?;
        }
        match &self.judged_by.runtime {
            Some(kept) => Ok(Some(self.judge_list(kept, came.list, quoted, clock)?)),
            None => Ok(came.list.map(|list| Arc::new(counted(list, quoted, clock)))),
        }
    }

    fn shown(&self, failure: &Failure, terms: &Terms, came: Came<'_>, quoted: &PcrDump) -> Shown {
        let list = came.list.filter(|_| self.wants_list()).map(|list| {
            let known = self.known.as_ref().filter(|_| list.after > 0);
            let from = known
                .map(|known| known.replayed.clone())
                .unwrap_or_default();
            let at_least = known.map_or(0, |known| known.seen);
            ShownList::of(&String::from_utf8_lossy(list.lines), &from, at_least)
        });
        let boot_log = came.boot_log.filter(|_| self.wants_boot_log());
        let pcr = |(pcr, value): (u8, &[u8])| (pcr, Hex(value).to_string());
        Shown {
            version: shown::VERSION,
            failure: failure.reason.clone(),
            bank: quoted.bank().name().to_owned(),
            pcrs: values(quoted).map(pcr).collect(),
            tpm_policy: terms.text.tpm_policy.clone(),
            runtime_policy: terms
                .text
                .runtime_policy
                .as_ref()
                .map(PolicyName::to_string),
            mb_policy: terms.text.mb_policy.as_ref().map(PolicyName::to_string),
            ima: list,
            boot_log: boot_log.map(|log| BASE64_STANDARD.encode(log)),
        }
    }

    fn judge_boot(
        &self,
        policy: &MeasuredBootPolicy,
        log: Option<&[u8]>,
        quoted: &PcrDump,
    ) -> Result<(), Refused> {
        let pcrs = self.boot_pcrs();
        if pcrs == PcrMask::EMPTY {
            return Ok(());
        }
        let log = log.filter(|log| !log.is_empty()).ok_or_else(|| {
            failure(
                "measured_boot.missing_log",
                "a measured-boot policy is set, and the node sent no boot log: its firmware writes none, or its agent can't \
                 read it"
                    .to_owned(),
            )
        })?;
        let failed =
            |error: EventLogError| failure(&error.event(), format!("the boot log: {error}"));
        let log = EventLog::parse(log).map_err(failed)?;
        let bank = quoted.bank();
        log.check(bank, values(quoted), pcrs).map_err(failed)?;
        policy
            .judge(&log, bank)
            .map_err(|error| failure(error.event(), format!("the boot log: {error}")))
    }

    fn judge_list(
        &self,
        kept: &Kept<RuntimePolicy>,
        list: Option<List<'_>>,
        quoted: &PcrDump,
        clock: ClockInfo,
    ) -> Result<Arc<Known>, Refused> {
        let list = list.ok_or_else(|| {
            failure(
                "ima.missing_list",
                "a runtime policy is set, and the node sent no IMA list: its kernel has no IMA, or its agent can't read it"
                    .to_owned(),
            )
        })?;
        let known = self.continues(list, quoted.bank(), clock)?;
        let from = known
            .map(|known| known.replayed.clone())
            .unwrap_or_default();
        let learnt = known.map(|known| known.learnt.clone()).unwrap_or_default();
        let seen = self
            .known
            .as_ref()
            .filter(|known| known.boot == boot(clock));
        let at_least = seen.map_or(0, |known| known.seen);
        let pcr = quoted.value(IMA_PCR).unwrap_or_default();
        let mut judge = Judge::new(&kept.policy, learnt, quoted);
        let matched = ima::check(list.lines, quoted.bank(), &from, pcr, at_least, &mut judge);
        let Matched { replayed, beyond } = matched.map_err(|error| refused(&error))?;
        Ok(Arc::new(Known {
            boot: boot(clock),
            bank: quoted.bank(),
            policy: Some(kept.digest),
            seen: replayed.lines.saturating_add(beyond),
            replayed,
            learnt: judge.into_learnt(),
        }))
    }

    /// What is known of the lines before those that came; none if these are the first.
    fn continues(
        &self,
        list: List<'_>,
        bank: HashAlg,
        clock: ClockInfo,
    ) -> Result<Option<&Known>, Refused> {
        let wanted = self.first_line();
        match (list.after, self.known.as_deref()) {
            (0, _) => Ok(None),
            (after, Some(known)) if after == wanted => {
                if known.boot == boot(clock) && known.bank == bank {
                    Ok(Some(known))
                } else {
                    Err(Refused::ReadAnew)
                }
            }
            (after, _) => {
                let reason = format!(
                    "the node was asked for its IMA list from line {wanted} on and sent it from line {after} on"
                );
                Err(failure("qoute_validation.invalid_ima_entry_nb", reason))
            }
        }
    }
}

/// Of a list that nobody wanted: how many lines it has.
fn counted(list: List<'_>, quoted: &PcrDump, clock: ClockInfo) -> Known {
    let came = list.lines.iter().filter(|byte| **byte == b'\n').count();
    let lines = list
        .after
        .saturating_add(u64::try_from(came).unwrap_or(u64::MAX));
    Known {
        boot: boot(clock),
        bank: quoted.bank(),
        policy: None,
        replayed: Replayed {
            lines,
            ..Replayed::default()
        },
        seen: lines,
        learnt: Learnt::default(),
    }
}

const fn boot(clock: ClockInfo) -> (u32, u32) {
    (clock.reset_count, clock.restart_count)
}

fn values(quoted: &PcrDump) -> impl Iterator<Item = (u8, &[u8])> {
    quoted
        .values()
        .iter()
        .map(|(pcr, value)| (*pcr, &value[..]))
}

fn refused(error: &ImaError<Refusal>) -> Refused {
    failure(error.event(), error.to_string())
}

fn failure(event_id: &str, reason: String) -> Refused {
    Refused::Failure(Failure {
        event_id: event_id.to_owned(),
        context: json!({ "context": &reason }),
        reason,
    })
}
