//! What a node's kernel measured since it booted: IMA's measurement list, replayed to the PCR 10 of a quote.
//!
//! Whoever sends a list may write into it what he likes. It counts up to the line where its replay gives the quoted PCR 10, and
//! nothing that was read from it, nor what a judge made of it, may be used before [`check`] has found that line.
//!
//! Source: `security/integrity/ima` in Linux (`ima_fs.c`, `ima_template_lib.c`, `ima_crypto.c`, `ima_queue.c`).

use std::fmt;

use agent_core::wire::quote::{Digest, HashAlg, MAX_DIGEST_BYTES};
use agent_core::wire::text::Hex;
use thiserror::Error;

mod aggregate;
mod ascii;
mod binary;
mod blocks;
mod entry;
mod hash;
mod key;
mod list;
mod signature;
mod template;

use blocks::Blocks;

pub use aggregate::BootAggregate;
pub use entry::{Content, Entry, FileDigest, MAX_DATA_BYTES, MAX_PATH_BYTES};
pub use hash::ListHash;
pub use key::{FileKey, FileKeyError};
pub use list::{LineError, Lines, MAX_LINE_BYTES};
pub use signature::{FileSignature, FileSignatureError, SignatureHash};

/// The PCR that the kernel extends with each line.
pub const IMA_PCR: u32 = 10;

/// What the kernel calls its measurement of PCRs 0 to 9, the first line of a list.
pub const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";

/// How far a node's list is known: so many lines give this value of PCR 10. By default nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Number of lines, counted from the list's first.
    pub lines: u64,
    /// The PCR's value after them; empty if there are none.
    pub pcr: Digest,
}

/// Where a list gives the quoted PCR 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// What is known from now on.
    pub replayed: Replayed,
    /// Number of lines that came beyond it: measured after the quote, and not looked at.
    pub beyond: u64,
}

/// Why a list isn't what the quote says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImaError<E> {
    /// A line that no kernel writes, or of a template that can't be rebuilt.
    #[error("line {line} of the IMA list can't be read: {reason}")]
    Line {
        /// The line's number; the list's first is 1.
        line: u64,
        /// What is wrong with it.
        reason: LineError,
    },
    /// A line whose template data don't have the hash that stands beside them.
    #[error(
        "line {line} of the IMA list was changed: its data ({path}) have the hash {got}, and it says {said}"
    )]
    TemplateHash {
        /// The line's number.
        line: u64,
        /// The measured path.
        path: String,
        /// What the line's data hash to.
        got: String,
        /// What the line says.
        said: String,
    },
    /// A line that went into another PCR than 10: the quote says nothing about it.
    #[error(
        "line {line} of the IMA list ({path}) was extended into PCR {pcr}, and PCR 10 is evaluated; no IMA rule of the \
         node may have pcr="
    )]
    Pcr {
        /// The line's number.
        line: u64,
        /// The measured path.
        path: String,
        /// The line's PCR.
        pcr: u32,
    },
    /// What the judge refuses.
    #[error("line {line} of the IMA list: {reason}")]
    Refused {
        /// The line's number.
        line: u64,
        /// The judge's reason.
        reason: E,
    },
    /// No line gives the quoted PCR. Which line it is that lacks, is too many or stands elsewhere can't be told from the list.
    #[error(
        "no line of the IMA list gives the quoted PCR 10, {quoted}: {}; a line was left out or moved, the list ends before \
         the quote, it is another boot's, or something other than IMA extended PCR 10",
        Span(*.first, *.last, .pcr)
    )]
    NoMatch {
        /// The first line that was replayed: those before agreed with an earlier quote.
        first: u64,
        /// The last line; before `first` if there was none.
        last: u64,
        /// What PCR 10 is after it, in hex.
        pcr: String,
        /// What PCR 10 is, in hex.
        quoted: String,
    },
    /// The quote is older than lines that an earlier answer already had.
    #[error(
        "the quoted PCR 10 is that of line {matched} of the IMA list, and an earlier answer already had {at_least} lines: \
         the quote doesn't catch up with its list"
    )]
    Behind {
        /// The line that gives the quoted PCR.
        matched: u64,
        /// The first line that may.
        at_least: u64,
    },
    /// What is known of the list was replayed in another bank.
    #[error(
        "the list is known in a bank of {have} bytes, and the quote's has {want}: read it from its first line"
    )]
    Bank {
        /// Size of the known PCR's value.
        have: usize,
        /// Size of the bank's digests.
        want: usize,
    },
}

impl<E> ImaError<E> {
    /// The line that decides, counted from 1; none where no single one does.
    #[must_use]
    pub const fn line(&self) -> Option<u64> {
        match self {
            Self::Line { line, .. }
            | Self::TemplateHash { line, .. }
            | Self::Pcr { line, .. }
            | Self::Refused { line, .. } => Some(*line),
            Self::Behind { matched, .. } => Some(*matched),
            Self::NoMatch { .. } | Self::Bank { .. } => None,
        }
    }
}

struct Span<'a>(u64, u64, &'a str);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, last, pcr) = self;
        if last < first {
            write!(f, "there is none after line {last}, which gives {pcr}")
        } else {
            write!(f, "lines {first} to {last} lead to {pcr}")
        }
    }
}

/// Who says whether an entry may stand in a list.
pub trait Judges {
    /// Why one may not.
    type Refusal;

    /// What was begun for one.
    type Begun;

    /// Begins to look for what the entry is judged by. What this asks of the memory comes while the entry is hashed.
    fn begin(&self, entry: &Entry<'_>) -> Self::Begun;

    /// Asks the memory for what was found to be needed then. It comes while the entry is hashed for the bank.
    fn fetch(&self, entry: &Entry<'_>, begun: &Self::Begun);

    /// Whether the entry may stand there, given what was begun for it.
    ///
    /// # Errors
    /// It may not.
    fn decide(&mut self, entry: &Entry<'_>, begun: Self::Begun) -> Result<(), Self::Refusal>;
}

impl<J: FnMut(&Entry<'_>) -> Result<(), E>, E> Judges for J {
    type Refusal = E;
    type Begun = ();

    fn begin(&self, _: &Entry<'_>) {}

    fn fetch(&self, _: &Entry<'_>, (): &()) {}

    fn decide(&mut self, entry: &Entry<'_>, (): ()) -> Result<(), E> {
        self(entry)
    }
}

/// Replays a list in `bank` from the line after `from.lines` on, up to the line where PCR 10 is `quoted`, but never one before line
/// `at_least`. Each entry up to there goes to `judge`, in order; the first that it refuses is the failure.
///
/// `list` is text as `ascii_runtime_measurements` has it, or the kernel's binary list; it starts with that line. No line at all and
/// an unchanged PCR hold.
///
/// # Errors
/// [`ImaError`]; what the judge learnt from the list must be forgotten then.
///
/// # Cost
/// Linear in the list. Besides it, one entry is held in memory.
pub fn check<J: Judges>(
    list: &[u8],
    bank: HashAlg,
    from: &Replayed,
    quoted: &[u8],
    at_least: u64,
    judge: &mut J,
) -> Result<Matched, ImaError<J::Refusal>> {
    let mut pcr = start(from, bank)?;
    let mut lines = Lines::after(from.lines, list);
    let mut behind = None;
    loop {
        if pcr == quoted {
            if lines.read() >= at_least {
                let lines_read = lines.read();
                return Ok(Matched {
                    replayed: Replayed {
                        lines: lines_read,
                        pcr,
                    },
                    beyond: lines.count_rest(),
                });
            }
            behind = Some(lines.read());
        }
        let line = lines.read() + 1;
        let Some(entry) = lines.next() else {
            break;
        };
        let entry = entry.map_err(|reason| ImaError::Line { line, reason })?;
        // What the judge needs of the memory comes during one hash and the other: no step waits for what was asked for just before.
        let begun = judge.begin(&entry);
        let blocks = Blocks::new(entry.data);
        check_entry(&entry, &blocks)?;
        judge.fetch(&entry, &begun);
        let extended = extended(&entry, &blocks, bank);
        let judged = judge.decide(&entry, begun);
        judged.map_err(|reason| ImaError::Refused { line, reason })?;
        pcr = hash::extend(bank, &pcr, &extended);
    }
    let at_least = at_least.max(from.lines);
    Err(match behind {
        Some(matched) => ImaError::Behind { matched, at_least },
        None => ImaError::NoMatch {
            first: from.lines + 1,
            last: lines.read(),
            pcr: Hex(&pcr).to_string(),
            quoted: Hex(quoted).to_string(),
        },
    })
}

/// The PCR's value where the replay starts.
fn start<E>(from: &Replayed, bank: HashAlg) -> Result<Digest, ImaError<E>> {
    let want = bank.digest_bytes();
    if from.lines == 0 {
        return Ok([0; MAX_DIGEST_BYTES].into_iter().take(want).collect());
    }
    let have = from.pcr.len();
    if have == want {
        Ok(from.pcr.clone())
    } else {
        Err(ImaError::Bank { have, want })
    }
}

/// Checks what an entry says of itself: its PCR, and the hash of its data.
fn check_entry<E>(entry: &Entry<'_>, blocks: &Blocks<'_>) -> Result<(), ImaError<E>> {
    let line = entry.line;
    if entry.pcr != IMA_PCR {
        let (path, pcr) = (entry.path_text(), entry.pcr);
        return Err(ImaError::Pcr { line, path, pcr });
    }
    if entry.violation {
        return Ok(());
    }
    let got = entry.list_hash.of(blocks);
    if got != entry.template_hash {
        return Err(ImaError::TemplateHash {
            line,
            path: entry.path_text(),
            got: Hex(&got).to_string(),
            said: Hex(entry.template_hash).to_string(),
        });
    }
    Ok(())
}

/// What the kernel extended a bank with for an entry that was checked: the hash of its data; for a violation ones.
fn extended(entry: &Entry<'_>, blocks: &Blocks<'_>, bank: HashAlg) -> Digest {
    if entry.violation {
        let ones = [0xFF; MAX_DIGEST_BYTES];
        return ones.into_iter().take(bank.digest_bytes()).collect();
    }
    ListHash::Sha2(bank).of(blocks)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
pub(crate) mod tests;
