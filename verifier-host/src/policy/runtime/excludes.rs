//! `excludes`: regular expressions of paths that aren't looked at.
//!
//! Keylime matches each from the path's start with Python's `re`. Here they are matched in linear time, whatever a path looks like; an
//! expression that this can't do, or that means something else in Python, is refused when the policy is read.

use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;

use super::{RuntimePolicyError, line};

/// The longest regular expression, in bytes; no path is longer.
pub(super) const MAX_EXCLUDE_BYTES: usize = 4096;

/// The longest that all expressions of a policy may be.
const MAX_TEXT_BYTES: usize = 256 << 10;

/// The most escapes by a letter: `\w` alone is some kilobytes while it is compiled.
const MAX_CLASSES: usize = 1024;

/// What all expressions may take, compiled, and what matching them may.
const MAX_COMPILED_BYTES: usize = 8 << 20;
const MAX_CACHE_BYTES: usize = 2 << 20;

/// The expressions, compiled to one.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    texts: Vec<String>,
    any: Option<Regex>,
}

impl PartialEq for Excludes {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Excludes {}

impl Excludes {
    /// Compiles the expressions.
    ///
    /// # Errors
    /// [`RuntimePolicyError`]: the first that can't be taken, or all together are too large.
    pub fn parse(texts: Vec<String>) -> Result<Self, RuntimePolicyError> {
        check_sizes(&texts)?;
        for text in &texts {
            check(text).map_err(|reason| RuntimePolicyError::Expression {
                expression: line(text),
                reason,
            })?;
        }
        if texts.is_empty() {
            return Ok(Self::default());
        }
        let groups: Vec<String> = texts.iter().map(|text| format!("(?:{text})")).collect();
        let any = RegexBuilder::new(&format!(r"\A(?:{})", groups.join("|")))
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_CACHE_BYTES)
            .build();
        // Each is an expression by itself, so that together they can only be too large.
        let any = any.map_err(|_| together("bytes, compiled", MAX_COMPILED_BYTES))?;
        Ok(Self {
            texts,
            any: Some(any),
        })
    }

    /// The expressions as they stand in the policy.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether one of them matches from the start of a path; its end needn't be matched.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.any.as_ref().is_some_and(|any| any.is_match(path))
    }
}

fn check_sizes(texts: &[String]) -> Result<(), RuntimePolicyError> {
    if let Some(text) = texts.iter().find(|text| text.len() > MAX_EXCLUDE_BYTES) {
        return Err(RuntimePolicyError::Exclude {
            have: text.len(),
            limit: MAX_EXCLUDE_BYTES,
        });
    }
    if texts.iter().map(String::len).sum::<usize>() > MAX_TEXT_BYTES {
        return Err(together("bytes", MAX_TEXT_BYTES));
    }
    let by_letter = |pair: &&[u8]| matches!(pair, [b'\\', letter] if letter.is_ascii_alphabetic());
    let classes = |text: &String| text.as_bytes().windows(2).filter(by_letter).count();
    if texts.iter().map(classes).sum::<usize>() > MAX_CLASSES {
        return Err(together("classes such as \\w", MAX_CLASSES));
    }
    Ok(())
}

const fn together(what: &'static str, limit: usize) -> RuntimePolicyError {
    RuntimePolicyError::Excludes { what, limit }
}

/// What is wrong with an expression, if there is anything.
fn check(text: &str) -> Result<(), String> {
    if let Some(reason) = differs_in_python(text) {
        return Err(reason.to_owned());
    }
    ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(text)
        .map(|_| ())
        .map_err(|error| reason(&error))
}

/// The last line of what the parser says: those before show the expression.
fn reason(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// What both engines take, and take for different things.
///
/// Source: Python's documentation of `re`, and that of the crate regex.
fn differs_in_python(text: &str) -> Option<&'static str> {
    let mut rest = text.chars();
    let mut after = After::Nothing;
    while let Some(letter) = rest.next() {
        let quantifier = matches!(letter, '*' | '+' | '?' | '{');
        after = match (letter, after) {
            ('?', After::Quantifier) => After::Lazy,
            (_, After::Quantifier | After::Lazy) if quantifier => {
                return Some("a quantifier after a quantifier means different things");
            }
            ('{', _) => {
                rest.by_ref().find(|letter| *letter == '}');
                After::Quantifier
            }
            _ if quantifier => After::Quantifier,
            ('\\', _) => {
                if matches!(rest.next(), Some('<' | '>')) {
                    return Some("\\< and \\> are letters in Python, and the ends of a word here");
                }
                After::Nothing
            }
            ('[', _) => {
                if let Some(difference) = class(&mut rest) {
                    return Some(difference);
                }
                After::Nothing
            }
            ('(', _) if other_flags(rest.as_str()) => {
                return Some("of flags, i, m, s and u alone mean the same");
            }
            ('(', _) => {
                if rest.as_str().starts_with('?') {
                    rest.next();
                }
                After::Nothing
            }
            _ => After::Nothing,
        };
    }
    None
}

/// What stands before a letter, as far as it matters.
#[derive(Clone, Copy)]
enum After {
    Nothing,
    Quantifier,
    Lazy,
}

/// Goes to the end of a class. A bracket that stands first in it is a letter.
fn class(rest: &mut Chars<'_>) -> Option<&'static str> {
    let mut last = None;
    if rest.as_str().starts_with('^') {
        rest.next();
    }
    if rest.as_str().starts_with(']') {
        rest.next();
    }
    while let Some(letter) = rest.next() {
        match letter {
            ']' => break,
            '[' => return Some("[ inside [...] means different things: write \\["),
            '&' | '-' | '~' if last == Some(letter) => {
                return Some("&&, -- and ~~ inside [...] mean different things: escape them");
            }
            '\\' => {
                rest.next();
                last = None;
            }
            _ => last = Some(letter),
        }
    }
    None
}

/// Whether a group begins, behind its bracket, with flags that one of the engines lacks, or that end at a line's end.
fn other_flags(group: &str) -> bool {
    let Some(group) = group.strip_prefix('?') else {
        return false;
    };
    let flags = group.find([':', ')']).and_then(|end| group.get(..end));
    flags.is_some_and(|flags| {
        let are_flags = flags
            .chars()
            .all(|flag| flag == '-' || flag.is_ascii_alphabetic());
        are_flags && flags.chars().any(|flag| !"imsu-".contains(flag))
    })
}
