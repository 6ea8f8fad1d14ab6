//! Hands one thing at a time from one thread to another. std's channels do more, and take ten times the code.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A place for one thing.
pub(crate) struct Mailbox<T> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
}

struct Slot<T> {
    thing: Option<T>,
    is_closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let slot = Slot {
            thing: None,
            is_closed: false,
        };
        Self {
            slot: Mutex::new(slot),
            changed: Condvar::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// Puts a thing in, if there is room, and somebody may still take it: whether it was put in.
    pub(crate) fn put(&self, thing: T) -> bool {
        let mut slot = self.lock();
        if slot.is_closed || slot.thing.is_some() {
            return false;
        }
        slot.thing = Some(thing);
        drop(slot);
        self.changed.notify_one();
        true
    }

    /// Waits for a thing, at most this long if that is said; `None` when its time is over, or nothing can come any more.
    pub(crate) fn take(&self, at_most: Option<Duration>) -> Option<T> {
        let mut slot = self.lock();
        let is_waited_for = |slot: &mut Slot<T>| slot.thing.is_none() && !slot.is_closed;
        match at_most {
            Some(at_most) => {
                let waited = self
                    .changed
                    .wait_timeout_while(slot, at_most, is_waited_for);
                slot = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            None => {
                let waited = self.changed.wait_while(slot, is_waited_for);
                slot = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
        slot.thing.take()
    }

    /// Nothing more is put in.
    #[cfg(feature = "pull")]
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_at_a_time() {
        let mailbox = Mailbox::default();
        let at_once = Some(Duration::ZERO);
        assert_eq!(mailbox.take(at_once), None);
        for round in 0..3 {
            assert!(mailbox.put(round));
            assert!(!mailbox.put(7), "there is one");
            assert_eq!(mailbox.take(None), Some(round));
        }
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| mailbox.take(None));
            assert!(mailbox.put(5));
            assert_eq!(taken.join().ok(), Some(Some(5)));
        });
    }

    #[test]
    #[cfg(feature = "pull")]
    fn what_is_closed_gives_what_it_has() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put(1));
        mailbox.close();
        assert!(!mailbox.put(2));
        assert_eq!((mailbox.take(None), mailbox.take(None)), (Some(1), None));
    }
}
