//! A policy from a log: what this machine measured at this boot is what may be measured.

use std::collections::BTreeSet;

use agent_core::wire::quote::HashAlg;
use agent_core::wire::text::Hex;
use thiserror::Error;

use super::VERSION;
use super::document::{
    BuiltinText, DigestTexts, Document, EfiStubText, ImagesText, MustText, RuleText, ShimGrubText,
    TextText,
};
use crate::evidence::eventlog::{Event, EventLog, EventType, Explained, Guid, LogHash};

/// How the machine boots, and so which policy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A unified kernel image with systemd's stub.
    Uki,
    /// A kernel that the firmware starts by its own EFI stub.
    EfiStub,
    /// Shim, GRUB, and a kernel.
    ShimGrub,
    /// A rule for each PCR of the log with all its digests: any change is refused.
    Exact,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Uki, Self::EfiStub, Self::ShimGrub, Self::Exact];

    /// `uki`, `efi-stub`, `shim-grub` or `exact`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uki => "uki",
            Self::EfiStub => "efi-stub",
            Self::ShimGrub => "shim-grub",
            Self::Exact => "exact",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How this log's machine seems to boot: by what is in it.
    #[must_use]
    pub fn of(log: &EventLog<'_>) -> Self {
        let has = |pcr, kind| {
            log.events()
                .any(|event| event.pcr == pcr && event.kind == kind)
        };
        if has(8, EventType::IPL) {
            Self::ShimGrub
        } else if has(11, EventType::IPL) || has(11, EventType::EVENT_TAG) {
            Self::Uki
        } else if has(9, EventType::EVENT_TAG) {
            Self::EfiStub
        } else {
            Self::Exact
        }
    }
}

/// Why no policy can be made of a log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Nothing of that kind is in it.
    #[error("the log has no {what} in PCR {pcr}, so it is of no machine that boots by {}", kind.name())]
    NotThatKind {
        /// The wanted kind.
        kind: Kind,
        /// What is missing.
        what: &'static str,
        /// Where it should be.
        pcr: u32,
    },
    /// Text that has to be in the policy isn't in the log.
    #[error(
        "event {event} was measured from a text that the log doesn't have; make a policy of the kind exact"
    )]
    NoText {
        /// The event's number.
        event: u32,
    },
}

/// Makes a policy of our form, in JSON, which a log like this passes: [`super::MeasuredBootPolicy::read`] takes it.
///
/// # Errors
/// [`CreateError`].
pub fn create(log: &EventLog<'_>, kind: Kind) -> Result<String, CreateError> {
    let maker = Maker { log, kind };
    let mut document = Document {
        version: VERSION,
        description: Some(format!(
            "made from an event log of {} events, as {}",
            log.count(),
            kind.name()
        )),
        builtins: Vec::new(),
        rules: Vec::new(),
        open: Vec::new(),
        empty: Vec::new(),
    };
    match kind {
        Kind::Uki => document.builtins.push(BuiltinText::Uki(maker.uki()?)),
        Kind::EfiStub => document
            .builtins
            .push(BuiltinText::EfiStub(maker.efi_stub()?)),
        Kind::ShimGrub => document
            .builtins
            .push(BuiltinText::ShimGrub(maker.shim_grub()?)),
        Kind::Exact => document.rules = maker.exact(),
    }
    // Strings, numbers and lists: nothing that JSON can't have.
    Ok(serde_json::to_string_pretty(&document).unwrap_or_default())
}

struct Maker<'a> {
    log: &'a EventLog<'a>,
    kind: Kind,
}

impl<'a> Maker<'a> {
    fn uki(&self) -> Result<ImagesText, CreateError> {
        let loader: Vec<_> = self.measured(12, EventType::IPL).collect();
        let texts = self.texts(&loader)?;
        Ok(ImagesText {
            images: self.images()?,
            command_line: (!texts.is_empty()).then_some(TextText::Equals(texts)),
            secure_boot: self.secure_boot(),
            signed_by: Vec::new(),
        })
    }

    fn efi_stub(&self) -> Result<EfiStubText, CreateError> {
        let all = |event: &Event<'_>| event.is_extended() && event.pcr == 9;
        Ok(EfiStubText {
            images: self.images()?,
            // Its digest is among the files': the log hasn't the text.
            command_lines: Vec::new(),
            files: self.digests(self.log.events().filter(all)),
            secure_boot: self.secure_boot(),
            signed_by: Vec::new(),
        })
    }

    fn shim_grub(&self) -> Result<ShimGrubText, CreateError> {
        let commands: Vec<_> = self.measured(8, EventType::IPL).collect();
        let files = self.digests(self.measured(9, EventType::IPL));
        let missing = |what, pcr| CreateError::NotThatKind {
            kind: self.kind,
            what,
            pcr,
        };
        if commands.is_empty() {
            return Err(missing("commands of GRUB", 8));
        }
        if files.is_empty() {
            return Err(missing("files of GRUB", 9));
        }
        Ok(ShimGrubText {
            images: self.images()?,
            files,
            commands: TextText::Equals(self.texts(&commands)?),
            mok: self.digests(self.measured(14, EventType::IPL)),
            secure_boot: self.secure_boot(),
        })
    }

    /// A rule for each PCR and type.
    fn exact(&self) -> Vec<RuleText> {
        let measured = self.log.events().filter(Event::is_extended);
        let kinds: BTreeSet<_> = measured.map(|event| (event.pcr, event.kind.0)).collect();
        let rules = kinds.into_iter().filter_map(|(pcr, kind)| {
            let kind = EventType(kind);
            let pcr = u8::try_from(pcr).ok()?;
            let judged = super::super::MEASURED_BOOT_PCRS.contains(pcr);
            judged.then(|| RuleText {
                name: format!("PCR {pcr}: {kind}"),
                pcr,
                event: kind.to_string(),
                must: MustText::Digest(self.digests(self.measured(pcr.into(), kind))),
                min: 1,
                max: u32::try_from(self.measured(pcr.into(), kind).count()).ok(),
            })
        });
        rules.collect()
    }

    fn measured(&self, pcr: u32, kind: EventType) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let events = self.log.events();
        events.filter(move |event| event.pcr == pcr && event.kind == kind)
    }

    fn images(&self) -> Result<DigestTexts, CreateError> {
        let images = self.digests(self.measured(4, EventType::APPLICATION));
        if images.is_empty() {
            return Err(CreateError::NotThatKind {
                kind: self.kind,
                what: "images",
                pcr: 4,
            });
        }
        Ok(images)
    }

    /// Digests of all banks that can be quoted, each once, in the order of the log.
    fn digests(&self, events: impl Iterator<Item = Event<'a>>) -> DigestTexts {
        let mut digests = DigestTexts::new();
        for event in events {
            for bank in QUOTED {
                let Some(digest) = event.digest(bank) else {
                    continue;
                };
                let listed = digests.entry(bank.name().to_owned()).or_default();
                let digest = Hex(digest).to_string();
                if !listed.contains(&digest) {
                    listed.push(digest);
                }
            }
        }
        digests
    }

    fn texts(&self, events: &[Event<'_>]) -> Result<Vec<String>, CreateError> {
        let mut texts: Vec<String> = Vec::new();
        for event in events {
            let Some(Explained::Text(text)) = self.explained(event) else {
                return Err(CreateError::NoText {
                    event: event.number,
                });
            };
            let text = text.text().into_owned();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Ok(texts)
    }

    /// What the log's first bank says of Secure Boot; nothing where it doesn't say it.
    fn secure_boot(&self) -> Option<bool> {
        let mut variables = self.measured(7, EventType::VARIABLE_DRIVER_CONFIG);
        variables.find_map(|event| match self.explained(&event) {
            Some(Explained::Variable(variable)) if variable.is(Guid::GLOBAL, "SecureBoot") => {
                Some(variable.content == [1])
            }
            _ => None,
        })
    }

    fn explained<'e>(&self, event: &Event<'e>) -> Option<Explained<'e>> {
        let bank = QUOTED.into_iter().find(|bank| self.log.has_bank(*bank))?;
        event.explained(LogHash::from(bank))
    }
}

const QUOTED: [HashAlg; 3] = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];
