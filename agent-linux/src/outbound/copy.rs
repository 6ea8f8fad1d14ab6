//! The last good copy: its file, when it is tried, and what is logged of it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_core::outbound::{Forget, Mode, OutboundConfig};

use crate::spool::{CopyFile, SpoolError};

/// A copy, and what goes into the next one.
pub(super) struct Copies {
    file: Option<CopyFile>,
    /// The body of the last answer with a deposit.
    deposit: Vec<u8>,
    /// From when on the copy is tried.
    due: Option<Instant>,
}

impl Copies {
    /// Where no copy is wanted, one that an earlier configuration left is removed.
    pub(super) fn new(
        config: &OutboundConfig,
        dir: Option<&Path>,
        deadline: Option<Instant>,
    ) -> Self {
        let file = dir.map(|dir| CopyFile::new(dir, &config.agent));
        let now = Instant::now();
        let half = |deadline: Instant| now + deadline.saturating_duration_since(now) / 2;
        let is_tried = config.last_good && config.mode == Mode::Provision;
        let copies = Self {
            due: deadline.filter(|_| is_tried && file.is_some()).map(half),
            file,
            deposit: Vec::new(),
        };
        if config.last_good {
            return copies;
        }
        copies.remove("last_good is off");
        Self {
            file: None,
            ..copies
        }
    }

    /// When the copy is tried, if it hasn't been.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The copy, once its time has come.
    pub(super) fn take_due(&mut self) -> Option<Vec<u8>> {
        self.due.filter(|due| *due <= Instant::now())?;
        self.due = None;
        log::warn!("nothing was heard of the verifier in half of the time");
        match self.file.as_ref()?.read() {
            Ok(Some(copy)) => Some(copy),
            Ok(None) => {
                log::warn!("there is no last good copy");
                None
            }
            Err(error) => {
                log::error!("the last good copy can't be read: {error}");
                None
            }
        }
    }

    /// A deposit has come.
    pub(super) fn hold(&mut self, deposit: &[u8]) {
        if self.file.is_some() {
            self.deposit.clear();
            self.deposit.extend_from_slice(deposit);
        }
    }

    pub(super) fn keep(&self, head: &[u8]) {
        let Some(file) = &self.file else { return };
        match file.write([head, &self.deposit]) {
            Ok(()) => log::info!("a last good copy is kept"),
            Err(error) => {
                log::error!("no last good copy is kept: {error}");
                self.remove("it is of an older payload");
            }
        }
    }

    pub(super) fn forget(&self, why: &Forget) {
        match why {
            // There is no other news of these than the copy's end.
            Forget::Verifier(_) | Forget::NotAllowed | Forget::Old => {}
            _ => log::warn!("no last good copy is kept: {why}"),
        }
        self.remove(&why.to_string());
    }

    fn remove(&self, why: &str) {
        let removed = self.file.as_ref().map(CopyFile::remove);
        match removed {
            Some(Ok(true)) => log::info!("the last good copy is removed: {why}"),
            Some(Err(error)) => log_left(&error),
            Some(Ok(false)) | None => {}
        }
    }
}

fn log_left(error: &SpoolError) {
    log::error!("the last good copy can't be removed: {error}");
}

/// An age for a person.
pub(super) fn spoken(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The system's clock, unless it is before the image was made.
pub(super) fn wall(earliest: u64) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    now.as_ref()
        .map(Duration::as_secs)
        .filter(|now| *now >= earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_image_is_none() {
        assert!(wall(0).is_some());
        assert_eq!(wall(1 << 60), None);
    }

    #[test]
    fn ages_read_well() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(spoken(seconds), text);
        }
    }
}
