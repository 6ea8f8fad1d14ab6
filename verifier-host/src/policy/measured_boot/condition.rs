//! What a rule wants of an event, and whether the event has it.

use std::fmt::Write as _;

use agent_core::wire::quote::{Digest, HashAlg};
use agent_core::wire::text::Hex;
use regex::{Regex, RegexBuilder};

use super::document::{DigestTexts, MustText, TextText, VariableText};
use crate::evidence::eventlog::{Event, Explained, Guid, LogHash, Variable};
use crate::policy::from_hex;

/// The longest regular expression, in bytes; a kernel's command line has at most 4096.
const MAX_EXPRESSION_BYTES: usize = 8192;

/// What a compiled expression may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;

const SHA256_BYTES: usize = 32;

/// What must hold of an event.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Its digest is one of these.
    Digest(Vec<(LogHash, Vec<Digest>)>),
    /// One of these texts was measured, whether the log has it or not.
    TextEquals(Vec<String>),
    /// The text in the log was measured, and all of it matches.
    TextMatches(Regex),
    /// An authority with one of these certificates, by SHA-256.
    SignedBy(Vec<Digest>),
    /// A variable that the firmware measured.
    Variable(WantedVariable),
    /// The firmware is done with this PCR.
    Separator,
}

/// Which variable, and what it must be like.
#[derive(Clone, Debug)]
pub(super) struct WantedVariable {
    pub(super) owner: Guid,
    pub(super) name: String,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Any,
    /// One of these, by SHA-256.
    Sha256(Vec<Digest>),
    /// This byte.
    Flag(bool),
    /// Signatures, among which are these digests.
    AtLeast(Vec<Digest>),
}

impl Condition {
    pub(super) fn new(must: MustText) -> Result<Self, String> {
        Ok(match must {
            MustText::Digest(texts) => Self::digest(&texts)?,
            MustText::Text(text) => Self::text(text)?,
            MustText::SignedBy(texts) => Self::SignedBy(sha256s("signed_by", &texts)?),
            MustText::SecureBoot(on) => Self::Variable(WantedVariable {
                owner: Guid::GLOBAL,
                name: "SecureBoot".to_owned(),
                content: Content::Flag(on),
            }),
            MustText::Variable(text) => Self::Variable(WantedVariable::new(text)?),
            MustText::DbxAtLeast(texts) => Self::Variable(WantedVariable {
                owner: Guid::SECURITY_DATABASE,
                name: "dbx".to_owned(),
                content: Content::AtLeast(sha256s("dbx_at_least", &texts)?),
            }),
            MustText::Separator => Self::Separator,
        })
    }

    pub(super) fn digest(texts: &DigestTexts) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("it lists no bank".to_owned());
        }
        let banks = texts.iter().map(|(name, texts)| {
            let hash = LogHash::from_name(name)
                .ok_or_else(|| format!("{name:?} is none of sha1, sha256, sha384, sha512"))?;
            let digests = digests(name, hash.digest_bytes(), texts)?;
            Ok((hash, digests))
        });
        Ok(Self::Digest(banks.collect::<Result<_, String>>()?))
    }

    pub(super) fn text(text: TextText) -> Result<Self, String> {
        let expression = match text {
            TextText::Equals(texts) if texts.is_empty() => {
                return Err("equals lists no text".to_owned());
            }
            TextText::Equals(texts) => return Ok(Self::TextEquals(texts)),
            TextText::Matches(expression) => expression,
        };
        anchored(&expression).map(Self::TextMatches)
    }

    /// Why an event isn't what is wanted; what would allow it comes with it.
    pub(super) fn refuses(&self, event: &Event<'_>, bank: HashAlg) -> Result<(), String> {
        match self {
            Self::Digest(banks) => digest_refuses(banks, event, bank),
            Self::TextEquals(texts) => {
                if texts.iter().any(|text| event.is_text(bank, text)) {
                    return Ok(());
                }
                Err(format!(
                    "wants {}; add the text that was measured to equals",
                    several(texts.len(), "one text", "one of the texts")
                ))
            }
            Self::TextMatches(expression) => match event.explained(bank) {
                Some(Explained::Text(text)) if expression.is_match(&text.text()) => Ok(()),
                Some(Explained::Text(_)) => Err(format!(
                    "wants a text that matches {:?} from its start to its end",
                    inner(expression)
                )),
                _ => Err("wants a text, and the log has none that was measured".to_owned()),
            },
            Self::SignedBy(certificates) => signed_by_refuses(certificates, event, bank),
            Self::Variable(wanted) => match event.explained(bank) {
                Some(Explained::Variable(variable)) if wanted.is(&variable) => {
                    wanted.content.refuses(&variable)
                }
                _ => Err(format!(
                    "wants the variable {:?} of {}",
                    wanted.name, wanted.owner
                )),
            },
            Self::Separator if event.is_separator(bank) => Ok(()),
            Self::Separator => Err("wants a separator".to_owned()),
        }
    }
}

impl WantedVariable {
    fn new(text: VariableText) -> Result<Self, String> {
        let owner = match text.owner.as_deref() {
            Some(owner) => {
                Guid::from_text(owner).ok_or_else(|| format!("owner {owner:?} is no GUID"))?
            }
            None if matches!(text.name.as_str(), "db" | "dbx" | "dbt" | "dbr") => {
                Guid::SECURITY_DATABASE
            }
            None => Guid::GLOBAL,
        };
        let content = if text.sha256.is_empty() {
            Content::Any
        } else {
            Content::Sha256(sha256s("sha256", &text.sha256)?)
        };
        Ok(Self {
            owner,
            name: text.name,
            content,
        })
    }

    pub(super) fn is(&self, variable: &Variable<'_>) -> bool {
        variable.is(self.owner, &self.name)
    }
}

impl Content {
    pub(super) fn refuses(&self, variable: &Variable<'_>) -> Result<(), String> {
        let content = variable.content;
        match self {
            Self::Any => Ok(()),
            Self::Sha256(wanted) => {
                let has = HashAlg::Sha256.digest([content]);
                if wanted.contains(&has) {
                    return Ok(());
                }
                Err(format!(
                    "wants another content; add {} to sha256",
                    Hex(&has)
                ))
            }
            Self::Flag(on) => match content {
                [flag] if *flag == u8::from(*on) => Ok(()),
                _ => Err(format!("wants it to be {}", u8::from(*on))),
            },
            Self::AtLeast(wanted) => {
                let has: Vec<&[u8]> = variable
                    .signatures()
                    .map(|signature| signature.map(|signature| signature.data))
                    .collect::<Result<_, _>>()
                    .map_err(|_| "wants a list of signatures".to_owned())?;
                let mut missing = wanted
                    .iter()
                    .filter(|wanted| !has.contains(&wanted.as_slice()));
                let Some(first) = missing.next() else {
                    return Ok(());
                };
                Err(format!(
                    "wants {} in it, which it lacks ({} missing); update the machine's dbx",
                    Hex(first),
                    1 + missing.count()
                ))
            }
        }
    }
}

fn digest_refuses(
    banks: &[(LogHash, Vec<Digest>)],
    event: &Event<'_>,
    bank: HashAlg,
) -> Result<(), String> {
    let Some((_, wanted)) = banks.iter().find(|(hash, _)| *hash == LogHash::from(bank)) else {
        return Err(format!(
            "lists no {} digests, and that bank was quoted",
            bank.name()
        ));
    };
    // An event without a digest of the quoted bank isn't in that bank.
    let has = event.digest(bank).unwrap_or_default();
    if wanted.iter().any(|wanted| wanted.as_slice() == has) {
        return Ok(());
    }
    Err(format!(
        "wants {}; add {} to its {} digests",
        several(wanted.len(), "another digest", "one of the digests"),
        Hex(has),
        bank.name()
    ))
}

fn signed_by_refuses(
    certificates: &[Digest],
    event: &Event<'_>,
    bank: HashAlg,
) -> Result<(), String> {
    let Some(Explained::Variable(variable)) = event.explained(bank) else {
        return Err("wants a certificate, and the log has none that was measured".to_owned());
    };
    let mut said = "wants ".to_owned();
    said.push_str(several(
        certificates.len(),
        "another certificate",
        "one of the certificates",
    ));
    for certificate in variable.certificates().into_iter().flatten() {
        let digest = HashAlg::Sha256.digest([certificate]);
        if certificates.contains(&digest) {
            return Ok(());
        }
        // DER of a certificate: a sequence with a length of two bytes.
        if certificate.starts_with(&[0x30, 0x82]) {
            let _ = write!(said, "; add {} to signed_by", Hex(&digest));
        }
    }
    Err(said)
}

fn several(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}

/// An expression that must match from start to end. It is compiled to an automaton: its time is linear in the text.
pub(super) fn anchored(expression: &str) -> Result<Regex, String> {
    if expression.len() > MAX_EXPRESSION_BYTES {
        return Err(format!(
            "an expression of {} bytes; ones of up to {MAX_EXPRESSION_BYTES} are taken",
            expression.len()
        ));
    }
    // By itself first: "a)|(b" would get out of the group.
    regex_syntax(expression)?;
    RegexBuilder::new(&format!("{ANCHORS_BEFORE}{expression}{ANCHORS_AFTER}"))
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|error| format!("no regular expression: {error}"))
}

fn regex_syntax(expression: &str) -> Result<(), String> {
    RegexBuilder::new(expression)
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map(|_| ())
        .map_err(|error| format!("no regular expression: {error}"))
}

const ANCHORS_BEFORE: &str = r"\A(?:";
const ANCHORS_AFTER: &str = r")\z";

/// The expression as it stands in the policy.
fn inner(expression: &Regex) -> &str {
    let text = expression.as_str();
    text.strip_prefix(ANCHORS_BEFORE)
        .and_then(|text| text.strip_suffix(ANCHORS_AFTER))
        .unwrap_or(text)
}

pub(super) fn sha256s(what: &str, texts: &[String]) -> Result<Vec<Digest>, String> {
    digests(what, SHA256_BYTES, texts)
}

fn digests(what: &str, bytes: usize, texts: &[String]) -> Result<Vec<Digest>, String> {
    if texts.is_empty() {
        return Err(format!("{what} lists no digest"));
    }
    let digest = |text: &String| {
        from_hex(text)
            .filter(|digest| digest.len() == bytes)
            .ok_or_else(|| {
                let start: String = text.chars().take(2 * bytes + 2).collect();
                format!(
                    "{what} lists {start:?}, which is no digest of {bytes} bytes in hexadecimal"
                )
            })
    };
    texts.iter().map(digest).collect()
}
