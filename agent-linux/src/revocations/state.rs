//! What is known, as the journal's lines make it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use agent_core::revocation::{
    ActError, Each, Full, Ledger, LogHead, LogId, MAX_REMEMBERED, Message, Offer, Standing, Taken,
};
use sha2::{Digest, Sha256};

use super::Places;
use super::journal::Journal;
use super::line::Line;
use super::record::{ActionRecord, Record, RecordedEnd};
use crate::notifier::Notifier;

/// How many messages may wait to be acted on.
pub const MAX_WAITING: usize = 16;
/// How many messages are kept until a payload lands.
pub const MAX_KEPT: usize = 16;
/// Of how many entries the outcomes are kept.
pub const MAX_OUTCOMES: usize = 64;

#[derive(Default)]
pub(super) struct State {
    pub(super) notifier: Option<Arc<Notifier>>,
    /// No action may begin.
    pub(super) is_held: bool,
    /// A message is being acted on.
    pub(super) is_running: bool,
    /// Nobody acts any more.
    pub(super) is_stopped: bool,
    /// None if it can't be used: nothing is taken then.
    journal: Option<Journal>,
    ledger: Ledger,
    landing: Option<u64>,
    head: Option<LogHead>,
    kept: Vec<Kept>,
    /// In the order in which they were taken.
    records: Vec<Record>,
    next: u64,
}

/// A message that nobody could check yet.
struct Kept {
    seq: u64,
    digest: [u8; 32],
    signature: Vec<u8>,
}

impl State {
    pub(super) fn open(directory: &Path, room: u64, places: &Places) -> Self {
        let mut state = Self::default();
        let mut is_whole = true;
        match Journal::open(directory, room) {
            Ok((journal, text)) => {
                for line in text.split_inclusive(|byte| *byte == b'\n') {
                    is_whole &= state.apply_text(line);
                }
                state.next = state.next.max(journal.last());
                state.journal = Some(journal);
            }
            Err(error) => {
                let path = directory.display();
                log::error!("{path} can't be used: {error}; revocation notices will be refused");
            }
        }
        if state.landing != places.landing() {
            state.land(places);
            return state;
        }
        state.notifier = places.notifier().map(Arc::new);
        if state.interrupt() | !is_whole {
            state.rewrite();
        }
        state.sweep();
        state
    }

    /// What has landed is another payload than before, or nothing.
    pub(super) fn land(&mut self, places: &Places) {
        self.notifier = places.notifier().map(Arc::new);
        let head = places.head().unwrap_or_else(|error| {
            log::error!(
                "revocation_log.json of the payload: {error}; revocation notices will be refused"
            );
            self.notifier = None;
            None
        });
        self.records.clear();
        self.ledger = Ledger::new();
        self.head = None;
        self.landing = places.landing();
        if let Some(landing) = self.landing {
            self.apply(Line::Land { landing, head });
        }
        self.rewrite();
        if self.landing.is_some() {
            self.take_kept();
        }
        self.sweep();
    }

    pub(super) fn act(&mut self, message: &Message, text: &str) -> Result<Taken, ActError> {
        let anchor = self
            .notifier
            .as_ref()
            .map_or("", |notifier| notifier.name());
        let offer = self.ledger.offer(anchor, message);
        match offer.map_err(ActError::Refused)? {
            Offer::Known => return Ok(Taken::Known),
            Offer::Ahead => return Ok(Taken::Ahead),
            Offer::Early => return Ok(Taken::Early),
            Offer::Take => {}
        }
        let waiting = self.records.iter().filter(|record| !record.is_done);
        if waiting.count() >= MAX_WAITING {
            return Err(ActError::Full);
        }
        let put = self.put(text, |seq| Line::Take {
            seq,
            message: message.clone(),
        });
        put.map(|()| Taken::Acting).map_err(|Full| ActError::Full)
    }

    pub(super) fn keep(&mut self, text: &str, signature: &[u8]) -> Result<(), Full> {
        let digest = Sha256::digest(text).into();
        let is_same = |kept: &Kept| kept.digest == digest && kept.signature == signature;
        if self.kept.iter().any(is_same) {
            return Ok(());
        }
        // After a landing without a certificate there is nothing to wait for.
        if self.ledger.has_landed() || self.kept.len() >= MAX_KEPT {
            return Err(Full);
        }
        self.put(text, |seq| Line::Keep {
            seq,
            digest,
            signature: signature.to_vec(),
        })
    }

    pub(super) fn standing(&self, of: Option<&LogId>) -> Standing {
        self.ledger.standing(of)
    }

    pub(super) fn outcomes(&self, of: &LogId, after: u64, each: &mut Each<'_>) {
        for record in self.records.iter().filter(|record| record.is_done) {
            if let Some(entry) = record.entry()
                && entry.log_id == *of
                && entry.number > after
                && !each(
                    entry.number,
                    &mut record.actions.iter().map(ActionRecord::outcome),
                )
            {
                return;
            }
        }
    }

    pub(super) fn journal_directory(&self) -> Option<&File> {
        self.journal.as_ref().map(Journal::directory)
    }

    /// The first message that waits to be acted on.
    pub(super) fn waiting(&self) -> Option<&Record> {
        self.records.iter().find(|record| !record.is_done)
    }

    pub(super) fn record(&self, seq: u64) -> Option<&Record> {
        self.records.iter().find(|record| record.seq == seq)
    }

    /// A message's text, the same that was taken.
    pub(super) fn text(&self, seq: u64, digest: &[u8; 32]) -> io::Result<String> {
        let journal = self.journal.as_ref().ok_or(ErrorKind::NotFound)?;
        let text = journal.get(seq)?;
        if Sha256::digest(&text)[..] == digest[..] {
            Ok(text)
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }

    /// Writes down what has happened, and takes it in.
    pub(super) fn note(&mut self, line: Line) -> io::Result<()> {
        let journal = self.journal.as_mut().ok_or(ErrorKind::NotFound)?;
        journal.append(&line)?;
        self.apply(line);
        Ok(())
    }

    /// The same of what has happened whether it can be written down or not.
    pub(super) fn note_anyway(&mut self, line: Line) {
        let journal = self.journal.as_mut();
        if let Some(Err(error)) = journal.map(|journal| journal.append(&line)) {
            log::error!(
                "what became of a revocation can't be written to the landing zone: {error}"
            );
        }
        self.apply(line);
    }

    /// All actions of a message have ended.
    pub(super) fn finish(&mut self, seq: u64) {
        self.note_anyway(Line::Done { seq });
        self.sweep();
        if self.journal.as_ref().is_some_and(Journal::is_long) {
            self.rewrite();
        }
    }

    /// Puts a message into the journal, and the line about it.
    fn put(&mut self, text: &str, line: impl FnOnce(u64) -> Line) -> Result<(), Full> {
        let seq = self.next + 1;
        let journal = self.journal.as_mut().ok_or(Full)?;
        let put = journal.put(seq, text).and_then(|()| self.note(line(seq)));
        if let Err(error) = put {
            log::error!("a revocation notice can't be written to the landing zone: {error}");
            self.sweep();
            return Err(Full);
        }
        Ok(())
    }

    /// Looks at what was kept, now that a payload has landed.
    fn take_kept(&mut self) {
        let kept: Vec<_> = self.kept.iter().map(|kept| kept.seq).collect();
        for seq in kept {
            if let Err(why) = self.take_one(seq) {
                log::warn!(
                    "a revocation notice that came before the payload isn't acted on: {why}"
                );
                self.note_anyway(Line::Drop { seq });
            }
        }
    }

    fn take_one(&mut self, seq: u64) -> Result<(), String> {
        let kept = self.kept.iter().find(|kept| kept.seq == seq);
        let kept = kept.ok_or_else(String::new)?;
        let notifier = self.notifier.as_ref().ok_or("there is no notifier")?;
        let text = self.text(seq, &kept.digest);
        let text = text.map_err(|error| error.to_string())?;
        notifier
            .verify(text.as_bytes(), &kept.signature)
            .map_err(|_| "it isn't the notifier's")?;
        let message = Message::read(&text).map_err(|error| error.to_string())?;
        let offer = self.ledger.offer(notifier.name(), &message);
        match offer.map_err(|error| error.to_string())? {
            Offer::Take => self
                .note(Line::Take { seq, message })
                .map_err(|error| error.to_string()),
            Offer::Known => Err("it is older than the payload".to_owned()),
            Offer::Ahead | Offer::Early => Err("others have to come first".to_owned()),
        }
    }

    /// Actions that were begun and have no end are interrupted: whether there were any.
    fn interrupt(&mut self) -> bool {
        let mut cut = Vec::new();
        for record in self.records.iter().filter(|record| !record.is_done) {
            let names = record.actions.iter().filter(|action| action.end.is_none());
            cut.extend(names.map(|action| (record.seq, action.name.clone())));
        }
        let found = !cut.is_empty();
        for (seq, name) in cut {
            log::error!("revocation action {name} was interrupted, and isn't run again by itself");
            self.apply(Line::End {
                seq,
                name,
                end: RecordedEnd::Interrupted,
                millis: 0,
            });
        }
        found
    }

    fn rewrite(&mut self) {
        let mut lines = Vec::new();
        if let Some(landing) = self.landing {
            let head = self.head.clone();
            lines.push(Line::Land { landing, head });
        }
        lines.extend(self.kept.iter().map(|kept| Line::Keep {
            seq: kept.seq,
            digest: kept.digest,
            signature: kept.signature.clone(),
        }));
        for record in &self.records {
            record.write(&mut lines);
        }
        let written = self.journal.as_mut().map(|journal| journal.rewrite(&lines));
        if let Some(Err(error)) = written {
            log::error!(
                "the journal of revocations can't be written: {error}; notices will be refused"
            );
            self.journal = None;
        }
    }

    /// Removes what nobody needs any more.
    fn sweep(&mut self) {
        let (kept, records) = (&self.kept, &self.records);
        if let Some(journal) = &mut self.journal {
            journal.retain(|seq| {
                kept.iter().any(|kept| kept.seq == seq)
                    || records.iter().any(|one| one.seq == seq && !one.is_done)
            });
        }
    }

    fn apply_text(&mut self, line: &[u8]) -> bool {
        let text = line
            .strip_suffix(b"\n")
            .and_then(|line| str::from_utf8(line).ok());
        match text.and_then(Line::read) {
            Some(line) => {
                self.apply(line);
                true
            }
            None => {
                log::error!(
                    "the journal of revocations is damaged: a line of {} bytes is left out",
                    line.len()
                );
                false
            }
        }
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Land { landing, head } => {
                self.ledger.land(head.as_ref());
                self.records.clear();
                (self.landing, self.head) = (Some(landing), head);
            }
            Line::Keep {
                seq,
                digest,
                signature,
            } => {
                self.next = self.next.max(seq);
                self.kept.push(Kept {
                    seq,
                    digest,
                    signature,
                });
            }
            Line::Drop { seq } => self.kept.retain(|kept| kept.seq != seq),
            Line::Take { seq, message } => {
                self.next = self.next.max(seq);
                self.kept.retain(|kept| kept.seq != seq);
                self.ledger.take(&message);
                self.records.push(Record {
                    seq,
                    message,
                    actions: Vec::new(),
                    is_done: false,
                });
            }
            Line::Begin { seq, name } => self.action(seq, name, None),
            Line::End {
                seq,
                name,
                end,
                millis,
            } => self.action(seq, name, Some((end, millis))),
            Line::Done { seq } => {
                let record = self.records.iter_mut().find(|record| record.seq == seq);
                if let Some(record) = record {
                    record.is_done = true;
                    if let Some(entry) = record.entry() {
                        self.ledger.ended(&entry.log_id, entry.number);
                    }
                }
                self.forget();
            }
        }
    }

    fn action(&mut self, seq: u64, name: String, end: Option<(RecordedEnd, u64)>) {
        let record = self.records.iter_mut().find(|record| record.seq == seq);
        let Some(record) = record else { return };
        match record.actions.iter_mut().find(|one| one.name == name) {
            Some(action) => action.end = end,
            None => record.actions.push(ActionRecord { name, end }),
        }
    }

    /// Drops the oldest outcomes, where there are too many; never the last of a log, whose number says what comes next.
    fn forget(&mut self) {
        for (are_entries, limit) in [(true, MAX_OUTCOMES), (false, MAX_REMEMBERED)] {
            let is_one = |one: &Record| one.is_done && one.entry().is_some() == are_entries;
            if self.records.iter().filter(|one| is_one(one)).count() <= limit {
                continue;
            }
            let oldest = self.records.iter().position(|one| {
                let log = one.entry().map(|entry| &entry.log_id);
                let later = |other: &Record| {
                    other.seq > one.seq && other.entry().map(|entry| &entry.log_id) == log
                };
                is_one(one) && self.records.iter().any(later)
            });
            if let Some(oldest) = oldest {
                self.records.remove(oldest);
            }
        }
    }
}
