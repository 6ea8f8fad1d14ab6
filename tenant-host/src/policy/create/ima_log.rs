//! What a log of IMA in ASCII has measured, as a policy that allows it.
//!
//! Nothing is checked against a TPM here: whoever makes a policy of a log trusts the machine that it is from.
//!
//! Source: `Documentation/security/IMA-templates.rst` of Linux.

use std::io::{self, BufRead, Read};

use agent_core::wire::quote::Digest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::draft::{Draft, LeftOut};
use super::excludes::Excludes;
use super::{byte_of, from_hex};

/// The longest line; measured buffers are in it in hexadecimal.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line that is longer than lines are.
    #[error("line {number} is longer than {limit} bytes")]
    TooLong {
        /// Which one, from 1.
        number: usize,
        /// The limit.
        limit: usize,
    },
    /// A line that isn't one of such a log.
    #[error("line {number} has no {what}; is it a log in ASCII, as ascii_runtime_measurements?")]
    Line {
        /// Which one, from 1.
        number: usize,
        /// What it lacks.
        what: &'static str,
    },
}

/// What of a log is taken besides files.
#[derive(Clone, Copy, Debug)]
pub struct LogChoice<'a> {
    /// Keys that were put into keyrings.
    pub keyrings: bool,
    /// Other buffers.
    pub buffers: bool,
    /// Keyrings that are left out.
    pub ignored: &'a [String],
    /// Paths that are left out.
    pub excludes: &'a Excludes,
}

/// Adds what a log has to a policy. Returns the number of its lines, and what of it is left out.
///
/// # Errors
/// [`LogError`] with the first line that can't be read.
pub fn read(
    mut log: &mut dyn BufRead,
    choice: LogChoice<'_>,
    draft: &mut Draft,
) -> Result<(usize, LeftOut), LogError> {
    let mut left_out = LeftOut::default();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        Read::take(&mut log, limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok((number, left_out));
        }
        number += 1;
        if line.len() > MAX_LINE_BYTES {
            let limit = MAX_LINE_BYTES;
            return Err(LogError::TooLong { number, limit });
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            left_out.note("lines that aren't UTF-8", &format!("line {number}"));
            continue;
        };
        let entry = Entry::parse(text.trim_end_matches('\n'));
        let entry = entry.map_err(|what| LogError::Line { number, what })?;
        take(&entry, choice, draft, &mut left_out);
    }
}

/// A line: template, digest, name, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry<'a> {
    template: &'a str,
    digest: Digest,
    name: &'a str,
    data: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Result<Self, &'static str> {
        let mut fields = line.splitn(6, ' ');
        let mut next = |what| fields.next().filter(|field| !field.is_empty()).ok_or(what);
        let pcr: Result<u8, _> = next("PCR")?.parse();
        pcr.map_err(|_| "PCR")?;
        next("hash of the template")?;
        let template = next("template")?;
        // `sha256:abcd`, `ima:sha256:abcd`, or a SHA-1 alone.
        let digest = next("digest")?;
        let digest = digest.rsplit_once(':').map_or(digest, |(_, digest)| digest);
        let digest = from_hex(digest).ok_or("digest in hexadecimal")?;
        let name = next("name")?;
        Ok(Self {
            template,
            digest,
            name,
            data: fields.next(),
        })
    }
}

fn take(entry: &Entry<'_>, choice: LogChoice<'_>, draft: &mut Draft, left_out: &mut LeftOut) {
    let digest = entry.digest.clone();
    // The kernel couldn't tell what was read: no policy allows that.
    if digest.iter().all(|byte| *byte == 0) {
        left_out.note("violations", entry.name);
        return;
    }
    if entry.template != "ima-buf" {
        if !choice.excludes.matches(entry.name) {
            draft.allow_file(entry.name, digest);
        }
        return;
    }
    let is_key = entry.data.is_some_and(is_certificate);
    match (is_key, choice.keyrings, choice.buffers) {
        (true, ..) if choice.ignored.iter().any(|name| name == entry.name) => {}
        (true, true, _) => draft.allow_key(entry.name, digest),
        (true, false, _) => left_out.note("keys of keyrings (--keyrings takes them)", entry.name),
        (false, _, true) => draft.allow_buffer(entry.name, digest),
        (false, _, false) => left_out.note("measured buffers (--ima-buf takes them)", entry.name),
    }
}

/// Keylime's rule for what is a key.
fn is_certificate(hex: &str) -> bool {
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte_of).collect();
    bytes.is_some_and(|der| X509Certificate::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty()))
}
