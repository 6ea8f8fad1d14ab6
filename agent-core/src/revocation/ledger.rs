//! What was taken since a payload landed, and so what is to be taken: the rules of a log, without a file.
//!
//! A ledger is a function of the calls that change it, in their order: whoever writes these down and calls them again has it
//! again.

use core::fmt;

use heapless::HistoryBuf;

use super::entry::{Entry, Message};
use super::head::LogHead;
use crate::wire::text::LogId;

/// Logs of one anchor that are followed after a landing.
pub const MAX_LOGS: usize = 4;

/// Unnumbered messages that are remembered, 32 bytes each. The oldest is forgotten when so many newer ones have come; all of
/// them carry the notifier's signature, so nobody else can push one out.
pub const MAX_REMEMBERED: usize = 64;

/// What was taken since the last landing.
#[derive(Clone, Default)]
pub struct Ledger {
    landed: Landed,
    logs: heapless::Vec<Log, MAX_LOGS>,
    /// Which of them is followed: the one that was taken from last, else the payload's.
    followed: usize,
    remembered: HistoryBuf<[u8; 32], MAX_REMEMBERED>,
}

/// What has landed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Landed {
    #[default]
    Nothing,
    /// A payload whose package says nothing of a log.
    Plain,
    /// One whose package has its log's head: its notifier numbers all that it sends.
    Numbered,
}

/// One log.
#[derive(Clone)]
struct Log {
    id: LogId,
    taken: u64,
    /// SHA-256 of the text of the last entry that was taken.
    last: [u8; 32],
    ended: u64,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Take it: it is to be acted on.
    Take,
    /// It was taken before, or says nothing to act on.
    Known,
    /// Entries before it have to come first.
    Ahead,
    /// Nothing has landed yet: keep it.
    Early,
}

/// Why a message is refused, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerError {
    /// The log is another anchor's than the one that signed.
    OtherAnchor,
    /// The log has forked: this entry doesn't follow the one before, or isn't the one that was taken with its number.
    Forked {
        /// Its number.
        number: u64,
    },
    /// It has no number, and the payload's notifier numbers what it sends: it is an old one that was sent again.
    Unnumbered,
    /// [`MAX_LOGS`] are followed already, and the entry is of another one.
    TooManyLogs,
}

/// Where a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The log; none while none is known.
    pub log_id: Option<LogId>,
    /// The last number whose actions have all ended.
    pub position: u64,
    /// The number that is taken next: what came before was taken, or is older than the payload.
    pub wanted: u64,
}

impl Ledger {
    /// One before the first landing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A payload has landed: all that was taken before is forgotten, also what still waits to be acted on. `head` is what its
    /// package says of a log. A node that needs no payload to act calls this at its start, without one.
    pub fn land(&mut self, head: Option<&LogHead>) {
        *self = Self::new();
        self.landed = Landed::Plain;
        if let Some(head) = head {
            self.landed = Landed::Numbered;
            // An empty ledger has room.
            let _ = self.logs.push(Log {
                id: head.log_id.clone(),
                taken: head.number,
                last: head.previous,
                ended: head.number,
            });
        }
    }

    /// Whether a payload has landed.
    #[must_use]
    pub fn has_landed(&self) -> bool {
        self.landed != Landed::Nothing
    }

    /// What is to be done with a message that this anchor has signed.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn offer(&self, anchor: &str, message: &Message) -> Result<Offer, LedgerError> {
        match message {
            Message::Silence => Ok(Offer::Known),
            Message::Entry(entry) if entry.log_id.anchor() != anchor => {
                Err(LedgerError::OtherAnchor)
            }
            _ if !self.has_landed() => Ok(Offer::Early),
            Message::Plain { .. } if self.landed == Landed::Numbered => {
                Err(LedgerError::Unnumbered)
            }
            Message::Plain { digest } if self.remembered.as_slice().contains(digest) => {
                Ok(Offer::Known)
            }
            Message::Plain { .. } => Ok(Offer::Take),
            Message::Entry(entry) => self.offer_entry(entry),
        }
    }

    fn offer_entry(&self, entry: &Entry) -> Result<Offer, LedgerError> {
        let number = entry.number;
        let (taken, last) = match self.log(&entry.log_id) {
            Some(log) => (log.taken, log.last),
            None if self.logs.is_full() => return Err(LedgerError::TooManyLogs),
            None => (0, [0; 32]),
        };
        let fits = if number == taken {
            entry.digest == last
        } else if number == taken.saturating_add(1) {
            entry.previous == last
        } else {
            true
        };
        match (fits, number.checked_sub(taken)) {
            (false, _) => Err(LedgerError::Forked { number }),
            (true, None | Some(0)) => Ok(Offer::Known),
            (true, Some(1)) => Ok(Offer::Take),
            (true, Some(_)) => Ok(Offer::Ahead),
        }
    }

    /// A message was taken that was to be taken. One that wasn't changes nothing that would have another taken twice.
    pub fn take(&mut self, message: &Message) {
        match message {
            Message::Silence => {}
            Message::Plain { digest } => self.remembered.write(*digest),
            Message::Entry(entry) => self.take_entry(entry),
        }
    }

    fn take_entry(&mut self, entry: &Entry) {
        let known = self.logs.iter().position(|log| log.id == entry.log_id);
        let at = known.unwrap_or(self.logs.len());
        if known.is_none() {
            let log = Log {
                id: entry.log_id.clone(),
                taken: 0,
                last: [0; 32],
                ended: 0,
            };
            if self.logs.push(log).is_err() {
                return;
            }
        }
        if let Some(log) = self.logs.get_mut(at)
            && entry.number > log.taken
        {
            (log.taken, log.last) = (entry.number, entry.digest);
            self.followed = at;
        }
    }

    /// The actions of an entry have all ended, and so had those of the entries before it.
    pub fn ended(&mut self, log_id: &LogId, number: u64) {
        if let Some(log) = self.logs.iter_mut().find(|log| log.id == *log_id) {
            log.ended = log.ended.max(number.min(log.taken));
        }
    }

    /// Where this log stands; one that nothing was taken from stands at its beginning. Without a name: the log that is followed,
    /// which is the one that was taken from last, or else the payload's.
    #[must_use]
    pub fn standing(&self, of: Option<&LogId>) -> Standing {
        let log = match of {
            Some(id) => self.log(id),
            None => self.logs.get(self.followed),
        };
        let (ended, taken) = log.map_or((0, 0), |log| (log.ended, log.taken));
        Standing {
            log_id: of.or(log.map(|log| &log.id)).cloned(),
            position: ended,
            wanted: taken.saturating_add(1),
        }
    }

    fn log(&self, id: &LogId) -> Option<&Log> {
        self.logs.iter().find(|log| log.id == *id)
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::OtherAnchor => "the log is another notifier's than the one that signed",
            Self::Forked { number } => {
                return write!(
                    out,
                    "the log has forked: entry {number} doesn't fit the ones before"
                );
            }
            Self::Unnumbered => {
                "the notifier of this payload numbers what it sends, and this has no number"
            }
            Self::TooManyLogs => "too many logs are followed already",
        })
    }
}

impl core::error::Error for LedgerError {}

#[cfg(test)]
mod tests;
