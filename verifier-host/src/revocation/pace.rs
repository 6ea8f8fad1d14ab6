//! How many peers are called at the same time, and how often.

use std::sync::Arc;
use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::sync::Semaphore;

/// Permits for connections: peers that didn't answer lately wait for each other, and for nobody else.
pub(super) struct Lanes {
    pub(super) answering: Arc<Semaphore>,
    pub(super) silent: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            answering: Arc::new(Semaphore::new(AT_ONCE - SILENT_AT_ONCE)),
            silent: Arc::new(Semaphore::new(SILENT_AT_ONCE)),
        }
    }
}

/// Pauses, each twice the one before.
#[derive(Default)]
pub(super) struct Pace {
    waited: u32,
    failures: u32,
}

impl Pace {
    /// After an answer that moved nothing, at most so long.
    pub(super) fn later(&mut self, most: Duration) -> Duration {
        let pause = FIRST_POLL.saturating_mul(1 << self.waited.min(16));
        self.waited = self.waited.saturating_add(1);
        pause.min(most)
    }

    /// It answers: the next failure is the first one again.
    pub(super) const fn answered(&mut self) {
        self.failures = 0;
    }

    /// After no answer.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        jittered(pause.min(LAST_PAUSE))
    }
}

/// A tenth more or less, so that peers that were lost together aren't all called at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = SysRng.try_next_u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

/// Peers that have a connection at the same time.
const AT_ONCE: usize = 64;

/// Those among them that didn't answer the last time.
const SILENT_AT_ONCE: usize = 16;

/// Between two questions how actions go.
const FIRST_POLL: Duration = Duration::from_millis(50);

/// Between two tries to reach a peer.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(60);
