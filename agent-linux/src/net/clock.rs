//! The time that certificates are checked against.
//!
//! A machine may start in 1970, and has no other clock than that before it has a network. But it knows that it is later than
//! the build of this program, and later than the files of its image were written.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The latest of the clock, the time of the build (or `SOURCE_DATE_EPOCH` of it), and the times of files that are trusted.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: fn() -> SystemTime,
    /// Seconds since 1970.
    earliest: u64,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::by(SystemTime::now)
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn by(now: fn() -> SystemTime) -> Self {
        Self {
            now,
            earliest: env!("KEYHALF_BUILD_SECONDS").parse().unwrap_or(0),
        }
    }

    /// The same, never before this file was last written: the image that it is in was made after that. A file that isn't there
    /// changes nothing.
    #[must_use]
    pub fn not_before(mut self, file: &Path) -> Self {
        let written = file.metadata().and_then(|data| data.modified());
        self.earliest = self.earliest.max(written.map_or(0, seconds));
        self
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        seconds((self.now)()).max(self.earliest)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.seconds(),
        )))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn never_before_the_build_or_the_image() {
        let built: u64 = env!("KEYHALF_BUILD_SECONDS").parse().unwrap();
        assert!(built > 1_700_000_000);
        let clock = Clock::by(|| UNIX_EPOCH);
        assert_eq!(clock.seconds(), built);
        let before = Clock::by(|| UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before.seconds(), built);
        let file = tempfile::NamedTempFile::new().unwrap();
        let later = UNIX_EPOCH + Duration::from_secs(built + 1000);
        file.as_file().set_modified(later).unwrap();
        assert_eq!(clock.not_before(file.path()).seconds(), built + 1000);
        assert_eq!(clock.not_before(Path::new("/nowhere")).seconds(), built);
        let ahead = Clock::by(|| UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert_eq!(ahead.not_before(file.path()).seconds(), 1 << 40);
    }
}
