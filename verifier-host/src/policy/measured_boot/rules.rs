//! Our own rules, checked: each can be judged, and no two contradict each other.

use std::collections::BTreeSet;

use agent_core::wire::quote::{PCR_COUNT, PcrMask};

use super::condition::Condition;
use super::document::{Document, RuleText};
use super::{MeasuredBootPolicyError, VERSION, builtin, json, part};
use crate::evidence::eventlog::EventType;
use crate::policy::MEASURED_BOOT_PCRS;

/// The most rules of a policy, with those of its builtins.
const MAX_RULES: usize = 1024;

/// Rules over the events of some PCRs. In these, each event must be taken by a rule, unless the PCR is open.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) rules: Vec<Rule>,
    pub(super) open: PcrMask,
    pub(super) empty: PcrMask,
}

/// A rule takes events of one PCR and type of which its condition holds.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) pcr: u8,
    pub(super) kind: EventType,
    pub(super) condition: Condition,
    pub(super) min: u32,
    pub(super) max: u32,
}

impl Rules {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, MeasuredBootPolicyError> {
        let document: Document = serde_json::from_slice(bytes).map_err(json)?;
        Self::new(document)
    }

    pub(super) fn new(document: Document) -> Result<Self, MeasuredBootPolicyError> {
        if document.version != VERSION {
            return Err(MeasuredBootPolicyError::Version {
                found: document.version,
                known: VERSION,
            });
        }
        let mut rules = Self {
            rules: Vec::new(),
            open: mask("open", &document.open)?,
            empty: mask("empty", &document.empty)?,
        };
        for builtin in document.builtins {
            builtin::expand(builtin, &mut rules)?;
        }
        for text in document.rules {
            rules.rules.push(Rule::new(text)?);
        }
        rules.check()?;
        Ok(rules)
    }

    /// The PCRs that rules are about, and those that must be empty.
    pub(super) fn pcrs(&self) -> PcrMask {
        let rules = self.rules.iter().map(|rule| rule.pcr);
        rules.fold(self.empty, PcrMask::with)
    }

    fn check(&self) -> Result<(), MeasuredBootPolicyError> {
        let (have, limit) = (self.rules.len(), MAX_RULES);
        if have > limit {
            return Err(MeasuredBootPolicyError::TooManyRules { have, limit });
        }
        if have == 0 && self.empty == PcrMask::EMPTY {
            return Err(MeasuredBootPolicyError::NoRules);
        }
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            if !names.insert(&rule.name) {
                return Err(part(rule.title(), "another rule has this name"));
            }
            if self.empty.contains(rule.pcr) {
                return Err(part(rule.title(), "its PCR is listed in empty"));
            }
            let authority = matches!(rule.condition, Condition::SignedBy(_));
            if authority && self.open.contains(rule.pcr) {
                let why = "signed_by says nothing in an open PCR, where other authorities may stand beside it";
                return Err(part(rule.title(), why));
            }
        }
        let judged = self.pcrs();
        if let Some(pcr) = self.open.iter().find(|pcr| !judged.contains(*pcr)) {
            return Err(part(format!("open lists PCR {pcr}"), "no rule is about it"));
        }
        Ok(())
    }
}

impl Rule {
    pub(super) fn new(text: RuleText) -> Result<Self, MeasuredBootPolicyError> {
        let title = title(&text.name);
        let refused = |why: String| part(title.clone(), why);
        if !MEASURED_BOOT_PCRS.contains(text.pcr) {
            return Err(refused(format!(
                "PCR {} is none of 0 to 9, 11 to 15",
                text.pcr
            )));
        }
        let kind = EventType::from_text(&text.event)
            .filter(|kind| *kind != EventType::NO_ACTION)
            .ok_or_else(|| {
                refused(format!(
                    "{:?} is no type of events that are measured",
                    text.event
                ))
            })?;
        let max = text.max.unwrap_or(u32::MAX);
        if max == 0 || text.min > max {
            return Err(refused(format!("it wants {} to {max} events", text.min)));
        }
        Ok(Self {
            condition: Condition::new(text.must).map_err(&refused)?,
            name: text.name,
            pcr: text.pcr,
            kind,
            min: text.min,
            max,
        })
    }

    fn title(&self) -> String {
        title(&self.name)
    }
}

fn title(name: &str) -> String {
    let name: String = name.chars().take(80).collect();
    format!("rule {name:?}")
}

fn mask(what: &str, pcrs: &[u8]) -> Result<PcrMask, MeasuredBootPolicyError> {
    let allowed = |pcr: &&u8| **pcr >= PCR_COUNT || !MEASURED_BOOT_PCRS.contains(**pcr);
    match pcrs.iter().find(allowed) {
        Some(pcr) => Err(part(
            format!("{what} lists PCR {pcr}"),
            "it is none of 0 to 9, 11 to 15",
        )),
        None => Ok(pcrs.iter().copied().fold(PcrMask::EMPTY, PcrMask::with)),
    }
}
