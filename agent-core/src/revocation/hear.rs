//! A notice from its arrival to the shell: verified, told apart, handed over.

use core::fmt;

use super::entry::{Message, MessageError};
use super::ledger::LedgerError;
use super::notice::Notice;
use super::{Act, ActError, Full, Taken, VerifyError};
use crate::wire::text::LogId;

/// What became of a notice that counts, or can't be checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It says that a node is silent: nothing is done.
    Silence,
    /// It waits for a payload.
    Kept,
    /// An unnumbered one.
    Plain(Taken),
    /// An entry.
    Entry {
        /// Its log.
        log_id: LogId,
        /// Its number.
        number: u64,
        /// What became of it.
        taken: Taken,
    },
}

/// Why a notice isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeError {
    /// The signature doesn't count.
    Verify(VerifyError),
    /// The text is no message.
    Message(MessageError),
    /// The ledger refuses it.
    Ledger(LedgerError),
    /// There is no room for it now.
    Full,
}

/// Hands a notice to the shell if it counts, or has it kept if that can't be said before a payload lands.
///
/// # Errors
/// [`NoticeError`].
pub fn hear(notice: &Notice<'_>, act: &dyn Act) -> Result<Heard, NoticeError> {
    let text = notice.message();
    let verified = act.verify(text.as_bytes(), notice.signature());
    if verified == Err(VerifyError::Mismatch) {
        return Err(NoticeError::Verify(VerifyError::Mismatch));
    }
    let message = Message::read(text).map_err(NoticeError::Message)?;
    if message == Message::Silence {
        return Ok(Heard::Silence);
    }
    let taken = match verified {
        Ok(()) => act.act(&message, text).map_err(|error| match error {
            ActError::Full => NoticeError::Full,
            ActError::Refused(error) => NoticeError::Ledger(error),
        })?,
        Err(_) => Taken::Early,
    };
    if taken == Taken::Early {
        let kept = act.keep(text, notice.signature());
        return kept.map(|()| Heard::Kept).map_err(|Full| NoticeError::Full);
    }
    Ok(match message {
        Message::Entry(entry) => Heard::Entry {
            log_id: entry.log_id,
            number: entry.number,
            taken,
        },
        _ => Heard::Plain(taken),
    })
}

impl fmt::Display for NoticeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify(VerifyError::NoAnchor) => {
                out.write_str("no payload has brought a revocation certificate yet")
            }
            Self::Verify(VerifyError::Mismatch) => {
                out.write_str("the signature is not the revocation notifier's")
            }
            Self::Message(error) => error.fmt(out),
            Self::Ledger(error) => error.fmt(out),
            Self::Full => out.write_str("too many revocation notices wait already; try again"),
        }
    }
}

impl core::error::Error for NoticeError {}
