//! Our rules over a log.
//!
//! Types aren't measured, so a log can call an event what it likes. Three things keep that harmless: in a PCR that isn't open
//! each event must be taken by some rule, whose condition looks at the digest; a variable is judged where the firmware measured
//! it, before the PCR's first separator, which is known by its digest; and up to there the log must say of each event what was
//! measured, so that no variable hides behind another name.

use agent_core::wire::quote::{HashAlg, PCR_SLOTS};

use super::condition::{Condition, WantedVariable};
use super::failure::{MeasuredBootFailure, Refusal};
use super::rules::{Rule, Rules};
use crate::evidence::eventlog::{Event, EventLog, Explained, Variable, describe};

/// The most rules that a failure quotes.
const MAX_REFUSALS: usize = 8;

impl Rules {
    pub(super) fn judge(
        &self,
        log: &EventLog<'_>,
        bank: HashAlg,
    ) -> Result<(), MeasuredBootFailure> {
        let mut judge = Judge {
            rules: self,
            bank,
            taken: vec![0; self.rules.len()],
            separated: [false; PCR_SLOTS],
        };
        let pcrs = self.pcrs();
        for event in log.events().filter(Event::is_extended) {
            let pcr = u8::try_from(event.pcr)
                .ok()
                .filter(|pcr| pcrs.contains(*pcr));
            if let Some(pcr) = pcr {
                judge.event(&event, pcr)?;
            }
        }
        judge.end()
    }
}

struct Judge<'a> {
    rules: &'a Rules,
    bank: HashAlg,
    taken: Vec<u32>,
    /// PCRs that the firmware is done with.
    separated: [bool; PCR_SLOTS],
}

impl Judge<'_> {
    fn event(&mut self, event: &Event<'_>, pcr: u8) -> Result<(), MeasuredBootFailure> {
        if self.rules.empty.contains(pcr) {
            return Err(MeasuredBootFailure::NotEmpty {
                event: event.number,
                described: describe(event, self.bank),
            });
        }
        let separated = self.separated.get(usize::from(pcr)).copied();
        if separated == Some(false) {
            self.firmware(event, pcr)?;
        }
        let taken = self.take(event, pcr, separated == Some(true));
        if let Some(place) = self.separated.get_mut(usize::from(pcr)) {
            *place = *place || event.is_separator(self.bank);
        }
        if taken || self.rules.open.contains(pcr) {
            return Ok(());
        }
        Err(self.unlisted(event, pcr))
    }

    /// Before the separator: whatever it is called, a variable that a rule is about must be as the rule wants it, and nothing
    /// may be unknown.
    fn firmware(&self, event: &Event<'_>, pcr: u8) -> Result<(), MeasuredBootFailure> {
        if !self
            .of(pcr)
            .any(|rule| matches!(rule.condition, Condition::Variable(_)))
        {
            return Ok(());
        }
        let described = || describe(event, self.bank);
        let Some(explained) = event.explained(self.bank) else {
            let listed = |rule: &Rule| {
                matches!(
                    rule.condition,
                    Condition::Digest(_) | Condition::TextEquals(_)
                ) && rule.condition.refuses(event, self.bank).is_ok()
            };
            if self.of(pcr).any(listed) {
                return Ok(());
            }
            return Err(MeasuredBootFailure::Unverified {
                event: event.number,
                described: described(),
            });
        };
        let Explained::Variable(variable) = explained else {
            return Ok(());
        };
        for (rule, wanted) in self.wanted(pcr, variable) {
            if let Err(why) = wanted.content.refuses(&variable) {
                return Err(MeasuredBootFailure::Refused {
                    event: event.number,
                    described: described(),
                    rule: Refusal {
                        rule: rule.name.clone(),
                        why,
                    },
                });
            }
        }
        Ok(())
    }

    /// The rules about this variable.
    fn wanted<'s>(
        &'s self,
        pcr: u8,
        variable: Variable<'s>,
    ) -> impl Iterator<Item = (&'s Rule, &'s WantedVariable)> {
        self.of(pcr).filter_map(move |rule| match &rule.condition {
            Condition::Variable(wanted) if wanted.is(&variable) => Some((rule, wanted)),
            _ => None,
        })
    }

    /// Whether a rule takes it: all that do count it.
    fn take(&mut self, event: &Event<'_>, pcr: u8, separated: bool) -> bool {
        let mut any = false;
        for (rule, taken) in self.rules.rules.iter().zip(&mut self.taken) {
            let about = rule.pcr == pcr && rule.kind == event.kind && *taken < rule.max;
            let late = separated && matches!(rule.condition, Condition::Variable(_));
            if about && !late && rule.condition.refuses(event, self.bank).is_ok() {
                *taken = taken.saturating_add(1);
                any = true;
            }
        }
        any
    }

    fn of(&self, pcr: u8) -> impl Iterator<Item = &Rule> {
        self.rules.rules.iter().filter(move |rule| rule.pcr == pcr)
    }

    fn unlisted(&self, event: &Event<'_>, pcr: u8) -> MeasuredBootFailure {
        let refusal = |rule: &Rule| Refusal {
            rule: rule.name.clone(),
            why: match rule.condition.refuses(event, self.bank) {
                Err(why) => why,
                Ok(()) if matches!(rule.condition, Condition::Variable(_)) => {
                    "takes it before the separator only".to_owned()
                }
                Ok(()) => format!("takes {} events of this kind, and has them", rule.max),
            },
        };
        let same = self.of(pcr).filter(|rule| rule.kind == event.kind);
        MeasuredBootFailure::Unlisted {
            event: event.number,
            described: describe(event, self.bank),
            rules: same.take(MAX_REFUSALS).map(refusal).collect(),
        }
    }

    fn end(&self) -> Result<(), MeasuredBootFailure> {
        let counted = self.rules.rules.iter().zip(&self.taken);
        for (rule, taken) in counted {
            if *taken < rule.min {
                return Err(MeasuredBootFailure::Missing {
                    rule: rule.name.clone(),
                    pcr: rule.pcr,
                    kind: rule.kind.to_string(),
                    wanted: rule.min,
                    found: *taken,
                });
            }
        }
        Ok(())
    }
}
