//! Revocations: that a node of the same tenant is no longer trusted, or that there is a new revocation list.
//!
//! A message counts when its signature is the anchor's: of the notifier whose certificate came with this node's payload. Those
//! of our verifiers are entries of a log, numbered and chained; each is acted on by the shell, once after each landing of a
//! payload. Which ones are taken is the [`Ledger`]'s to say, which allocates nothing and keeps no file: the shell owns it, and
//! has it again after a restart by calling it as before.
//!
//! The rules stand in `agent-core/docs/revocation.md`.

mod actions;
mod answers;
mod entry;
mod head;
mod hear;
mod ledger;
mod notice;
mod outcome;

pub use crate::wire::text::LogId;
pub use actions::{
    ACTION_LIST_FILE, ACTION_PREFIX, ACTION_QUOTES, ACTION_SEPARATORS, ActionNameError,
    MAX_ACTION_LIST_BYTES, MAX_ACTION_NAME_BYTES, MAX_ACTIONS, check_action_name, listed_actions,
};
pub use answers::{
    Delivered, MAX_ENTRIES_BYTES, write_entries_path, write_outcomes_body, write_outcomes_path,
};
pub use entry::{Entry, Kind, Message, MessageError};
pub use head::{HEAD_FILE, HeadError, LogHead, MAX_HEAD_BYTES};
pub use hear::{Heard, NoticeError, hear};
pub use ledger::{Ledger, LedgerError, MAX_LOGS, MAX_REMEMBERED, Offer, Standing};
pub use notice::{Notice, NoticeForm};
pub use outcome::{ActionEnd, ActionOutcome, Each};
pub(crate) use outcome::{write_outcomes, write_standing};

/// The longest message: an entry with a revocation list of 20,480 bytes. Keylime's with a policy and a context take about
/// 1 KB.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// The longest signature: RSA-4096.
pub const MAX_SIGNATURE_BYTES: usize = 512;

/// Checks signatures by the notifier that this node's payload named, or its configuration.
///
/// Implemented by the shell: such algorithms allocate.
pub trait Verify {
    /// Whether the signature over the message is the notifier's: RSA-PSS, SHA-256, MGF1-SHA-256, salt of any length.
    ///
    /// # Errors
    /// [`VerifyError`].
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError>;
}

/// Acts on messages that count, and knows what came of it.
///
/// All of it is called while the agent is held: who holds what it needs must not wait for the agent.
pub trait Act: Verify {
    /// Takes over a verified message: asks its [`Ledger`], and one that is to be acted on is in the journal when this returns.
    /// The shell acts on it later, after those before it; it must not wait for that.
    ///
    /// # Errors
    /// [`ActError`]: this one isn't taken, and is as good as new when it comes again.
    fn act(&self, message: &Message, text: &str) -> Result<Taken, ActError>;

    /// Keeps a message that can't be checked, or not acted on, before a payload lands. The same one needs no room twice.
    ///
    /// # Errors
    /// [`Full`]: too many are kept.
    fn keep(&self, text: &str, signature: &[u8]) -> Result<(), Full>;

    /// Where this log stands, or the one that is followed: [`Ledger::standing`].
    fn standing(&self, of: Option<&LogId>) -> Standing;

    /// Hands over, in order, the entries of a log after this number whose actions have all ended, until `each` says no.
    fn outcomes(&self, of: &LogId, after: u64, each: &mut Each<'_>);
}

/// What became of a message that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is acted on.
    Acting,
    /// It was taken before.
    Known,
    /// Others have to come first.
    Ahead,
    /// No payload has landed yet: [`Act::keep`] is for it.
    Early,
}

/// Why a message isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActError {
    /// Too many wait already.
    Full,
    /// The ledger refuses it.
    Refused(LedgerError),
}

/// There is no room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a signature doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// No payload has brought a notifier's certificate yet, and none is configured.
    NoAnchor,
    /// It isn't the notifier's.
    Mismatch,
}
