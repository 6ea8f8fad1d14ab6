//! What a log of IMA has measured, as a policy that allows it.
//!
//! Nothing is checked against a TPM here: whoever makes a policy of a log trusts the machine that it is from. What a line says is
//! read by the verifier's own reader, so that what it judges and what is allowed here can't differ.

use agent_core::wire::quote::Digest;
use verifier_host::evidence::ima::{Content, Entry, FileKey, LineError, Lines};
use verifier_host::policy::runtime::{DIGEST_BYTES, Excludes};

use super::draft::{Draft, LeftOut};

/// The largest log that is read: some million lines.
pub const MAX_LOG_BYTES: usize = 256 << 20;

/// A line that isn't one of such a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is none of an IMA log (ascii_ or binary_runtime_measurements): {reason}")]
pub struct LogError {
    /// Which one, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: LineError,
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

/// Adds what a log has, as text or in the kernel's binary form, to a policy. Returns what of it is left out.
///
/// # Errors
/// [`LogError`] with the first line that can't be read.
pub fn read(log: &[u8], choice: LogChoice<'_>, draft: &mut Draft) -> Result<LeftOut, LogError> {
    let mut left_out = LeftOut::default();
    let mut lines = Lines::new(log);
    loop {
        let line = lines.read() + 1;
        match lines.next() {
            None => return Ok(left_out),
            Some(Ok(entry)) => take(&entry, choice, draft, &mut left_out),
            Some(Err(reason)) => return Err(LogError { line, reason }),
        }
    }
}

fn take(entry: &Entry<'_>, choice: LogChoice<'_>, draft: &mut Draft, left_out: &mut LeftOut) {
    let Some(name) = entry.path_str() else {
        return left_out.note("names that aren't UTF-8", &format!("line {}", entry.line));
    };
    // The kernel couldn't tell what was read: no policy allows that.
    if entry.violation {
        return left_out.note("violations", name);
    }
    let digest = Digest::from_slice(entry.digest.bytes).ok();
    let Some(digest) = digest.filter(|digest| DIGEST_BYTES.contains(&digest.len())) else {
        return left_out.note("digests that no policy can have", name);
    };
    let Content::Buffer(buffer) = entry.content else {
        if !choice.excludes.matches(entry.path) {
            draft.allow_file(name, digest);
        }
        return;
    };
    let is_key = FileKey::from_der(buffer).is_ok();
    match (is_key, choice.keyrings, choice.buffers) {
        (true, ..) if choice.ignored.iter().any(|ignored| ignored == name) => {}
        (true, true, _) => draft.allow_key(name, digest),
        (true, false, _) => left_out.note("keys of keyrings (--keyrings takes them)", name),
        (false, _, true) => draft.allow_buffer(name, digest),
        (false, _, false) => left_out.note("measured buffers (--ima-buf takes them)", name),
    }
}
