//! What the shell is to do next.

use crate::http::Answer;
use crate::http::emit::{Media, Verb};
use crate::payload::halves::Key;
use crate::payload::segment::{Binding, Segments};
use crate::wire::log::Attached;
use crate::wire::manifest::PayloadId;
use crate::wire::push::Verdict;
use crate::wire::text::{MAX_UUID_BYTES, Uuid};

use super::end::{End, Why};
use super::last_good::{Forget, NoCopy};

/// The longest path of a request: two identifiers and the words around them.
pub const MAX_PATH_BYTES: usize = 2 * MAX_UUID_BYTES + 96;

/// What is to be done.
pub enum Step<'o> {
    /// Send this request with the body that was written, and hand its answer to
    /// [`Outbound::answered`](super::Outbound::answered).
    Send(Request<'o>),
    /// Wait, or leave if there is no time for it.
    Wait {
        /// How long, in milliseconds.
        millis: u64,
        /// Why.
        why: Why,
    },
    /// Have the registrar take this node, and say so to [`Outbound::registered`](super::Outbound::registered).
    Register,
    /// Fetch what is missing of the sealed bytes, check them, and say so to [`Outbound::fetched`](super::Outbound::fetched).
    Fetch(Fetch<'o>),
    /// Open and unpack the sealed bytes, and say so to [`Outbound::unpacked`](super::Outbound::unpacked). The boot isn't
    /// capped yet: run nothing of it.
    Unpack(Unpack<'o>),
    /// The boot is capped: run this script of the payload, and say so to [`Outbound::ran`](super::Outbound::ran).
    Run {
        /// Its name.
        script: &'o str,
    },
    /// An attestation without a payload is over: for the log.
    Attested {
        /// Its number.
        attestation: u64,
        /// What the verifier says; Keylime's doesn't.
        verdict: Option<Verdict>,
    },
    /// The boot is capped: keep a copy in place of any other, this head and then the body of the deposit's answer.
    Keep {
        /// The head, at most [`MAX_COPY_HEAD_BYTES`](super::MAX_COPY_HEAD_BYTES).
        head: &'o [u8],
    },
    /// Remove the copy, if there is one.
    Forget(Forget),
    /// Check the sealed bytes that are there, fetch nothing, and say so to [`Outbound::fetched`](super::Outbound::fetched).
    Reread(Reread<'o>),
    /// Ask for the log's entries, act on them, report, and say so to [`Outbound::caught_up`](super::Outbound::caught_up).
    CatchUp(CatchUp<'o>),
    /// The copy isn't used: for the log. The verifier is asked again.
    NoCopy(NoCopy),
    /// How it ended with a payload; attesting goes on.
    Report(End),
    /// It is over.
    Done(End),
}

/// A request.
#[derive(Clone, Copy)]
pub struct Request<'o> {
    /// How it asks.
    pub verb: Verb,
    /// What it asks.
    pub path: &'o str,
    /// The bearer's token, if there is one.
    pub token: Option<&'o str>,
    /// What its body is.
    pub media: Media,
    /// Whether it asks for the deposit: the body of its answer goes into a copy.
    pub is_deposit: bool,
    /// What of the logs goes into its body, to be read from now on: no log may be older than its quote.
    pub logs: Option<Attached>,
}

/// Sealed bytes to fetch.
#[derive(Clone, Copy)]
pub struct Fetch<'o> {
    /// Where they are.
    pub path: &'o str,
    /// The bearer's token.
    pub token: Option<&'o str>,
    /// Which deposit.
    pub payload_id: PayloadId,
    /// How many there are.
    pub segments: Segments,
    /// What they have to hash to.
    pub sha256: &'o [u8; 32],
}

/// Sealed bytes that should be there.
#[derive(Clone, Copy)]
pub struct Reread<'o> {
    /// Which deposit.
    pub payload_id: PayloadId,
    /// How many there are.
    pub segments: Segments,
    /// What they have to hash to.
    pub sha256: &'o [u8; 32],
}

/// How a fetch ended.
pub enum Fetched<'a> {
    /// All are there, and fit their digest.
    Whole,
    /// The link broke, or there was none.
    Lost,
    /// All are there and don't fit their digest; they were thrown away.
    Digest,
    /// They can't be kept.
    NoRoom(&'a dyn core::fmt::Display),
    /// The verifier answers something else.
    Answered(Answer<'a>),
}

/// A payload to unpack.
pub struct Unpack<'o> {
    /// K: it serves this payload alone, and is wiped with the step.
    pub key: Key,
    /// What the segments are bound to.
    pub binding: Binding<'o>,
    /// How old the copy is that K is from, in seconds; none for a release.
    pub copy_age: Option<u64>,
}

/// What to ask for revocations with. The paths are [`write_entries_path`](crate::revocation::write_entries_path)'s and
/// [`write_outcomes_path`](crate::revocation::write_outcomes_path)'s, the bodies JSON.
#[derive(Clone, Copy)]
pub struct CatchUp<'o> {
    /// Who asks.
    pub agent: &'o Uuid,
    /// The bearer's token.
    pub token: &'o str,
}

/// How that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// There is nothing more to act on or to report.
    Done,
    /// The link broke, or an answer was of no use.
    Lost,
    /// The verifier answers something else.
    Answered {
        /// The status.
        status: u16,
    },
}

/// A step that borrows nothing yet.
pub(super) enum Advance {
    Send(Verb, Media),
    Wait(u64, Why),
    Register,
    Fetch,
    Unpack(Key),
    Run,
    Keep,
    Forget(Forget),
    Reread,
    CatchUp,
    NoCopy(NoCopy),
    Attested(u64, Option<Verdict>),
    Report(End),
    Done(End),
}
