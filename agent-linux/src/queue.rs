//! What waits for the worker: one payload at most, and a few revocation notices, in the order they came.
//!
//! It is memory: notices that still wait when the agent ends are not acted on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use agent_core::agent::OpenedPayload;
use agent_core::revocation::Full;

use crate::memory::Vault;

/// How many notices may wait, at most 8 KiB each.
pub const MAX_WAITING_NOTICES: usize = 16;

/// Something to do.
pub enum Work {
    /// Unpack a payload, run its script.
    Payload(OpenedPayload<Vault>),
    /// Act on a verified revocation notice: its message.
    Notice(String),
}

/// The end that takes work in; it never blocks.
pub struct Inlet {
    work: SyncSender<Work>,
    notices: Arc<AtomicUsize>,
}

/// The end that work comes out of.
pub struct Outlet {
    work: Receiver<Work>,
    notices: Arc<AtomicUsize>,
}

/// An empty queue.
#[must_use]
pub fn queue() -> (Inlet, Outlet) {
    // However many notices wait, there is a place for the one payload that the agent hands over at a time.
    let (inlet, outlet) = mpsc::sync_channel(1 + MAX_WAITING_NOTICES);
    let notices = Arc::<AtomicUsize>::default();
    let inlet = Inlet {
        work: inlet,
        notices: Arc::clone(&notices),
    };
    let outlet = Outlet {
        work: outlet,
        notices,
    };
    (inlet, outlet)
}

impl Inlet {
    /// Takes in an opened payload.
    ///
    /// # Errors
    /// [`Full`]: nobody works any more, or an earlier payload still waits.
    pub fn payload(&self, payload: OpenedPayload<Vault>) -> Result<(), Full> {
        let work = Work::Payload(payload);
        self.work.try_send(work).map_err(|_| Full)
    }

    /// Takes in a notice.
    ///
    /// # Errors
    /// [`Full`]: [`MAX_WAITING_NOTICES`] wait, or nobody works any more.
    pub fn notice(&self, message: &str) -> Result<(), Full> {
        let one_more = |waiting| (waiting < MAX_WAITING_NOTICES).then_some(waiting + 1);
        self.notices
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Full)?;
        let sent = self.work.try_send(Work::Notice(message.to_owned()));
        if sent.is_err() {
            self.notices.fetch_sub(1, Ordering::Relaxed);
        }
        sent.map_err(|_| Full)
    }
}

impl Outlet {
    /// Waits for the next work; `None` when nobody can bring any more.
    #[must_use]
    pub fn next(&self) -> Option<Work> {
        let work = self.work.recv().ok()?;
        if matches!(work, Work::Notice(_)) {
            self.notices.fetch_sub(1, Ordering::Relaxed);
        }
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_bounded_and_in_order() {
        let (inlet, outlet) = queue();
        for round in 0..3 {
            for n in 0..MAX_WAITING_NOTICES {
                assert_eq!(inlet.notice(&n.to_string()), Ok(()), "round {round}");
            }
            assert_eq!(inlet.notice("one more"), Err(Full));
            for n in 0..MAX_WAITING_NOTICES {
                assert!(matches!(outlet.next(), Some(Work::Notice(text)) if text == n.to_string()));
            }
        }
        drop(outlet);
        assert_eq!(inlet.notice("to nobody"), Err(Full));
    }
}
