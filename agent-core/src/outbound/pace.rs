//! Pauses: how long to wait before the next try, so that neither a verifier nor a deadline is run into.

use super::end::Why;
use crate::secret::Secret;

/// When a step is taken, and with what random numbers.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Milliseconds of a clock that doesn't go back.
    pub now: u64,
    /// Seconds since 1970; none if the system's clock can't be right, as when it is before the image was made.
    pub wall: Option<u64>,
    /// Any number: what spreads pauses. Not secret.
    pub dice: u32,
    /// The system's random number, drawn for this step alone: what a key is made of.
    pub random: &'a Secret<32>,
}

/// Pauses between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first, in milliseconds; each is twice the one before.
    pub first_ms: u64,
    /// The longest, in milliseconds.
    pub last_ms: u64,
}

/// The longest pause that a verifier may ask for.
pub const MAX_RETRY_AFTER_MS: u64 = 10 * 60 * 1000;

/// The longest pause of a node that waits to be accepted: a person may stand before it.
const MAX_ACCEPTANCE_MS: u64 = 5000;

/// What is waited for.
pub(super) struct Pauses {
    pace: Pace,
    next_ms: u64,
    /// The next one while somebody has still to accept this node: what is answered well meanwhile doesn't shorten it.
    acceptance_ms: u64,
    until: Option<(u64, Why)>,
}

impl Pauses {
    pub(super) const fn new(pace: Pace) -> Self {
        Self {
            pace,
            next_ms: pace.first_ms,
            acceptance_ms: pace.first_ms,
            until: None,
        }
    }

    /// How long still, and why; at the end of a pause nothing.
    pub(super) fn left(&mut self, now: u64) -> Option<(u64, Why)> {
        let (until, why) = self.until?;
        match until.saturating_sub(now) {
            0 => {
                self.until = None;
                None
            }
            left => Some((left, why)),
        }
    }

    /// A try has failed: a pause between half and all of the next length.
    pub(super) fn back_off(&mut self, moment: &Moment<'_>, why: Why) {
        let (next, last) = if why.is_acceptance() {
            let last = self.pace.last_ms.min(MAX_ACCEPTANCE_MS);
            (&mut self.acceptance_ms, last)
        } else {
            (&mut self.next_ms, self.pace.last_ms)
        };
        let pause = *next;
        *next = pause.saturating_mul(2).min(last);
        let half = pause / 2;
        self.wait(moment, half.saturating_add(share(half, moment.dice)), why);
    }

    /// The verifier says when to come again, or doesn't. Never earlier, and up to an eighth later.
    pub(super) fn wait_for(&mut self, moment: &Moment<'_>, seconds: Option<u64>, why: Why) {
        let Some(seconds) = seconds else {
            return self.back_off(moment, why);
        };
        let pause = seconds.saturating_mul(1000).min(MAX_RETRY_AFTER_MS);
        let pause = pause.max(self.pace.first_ms);
        let late = share(pause / 8, moment.dice);
        self.wait(moment, pause.saturating_add(late), why);
    }

    fn wait(&mut self, moment: &Moment<'_>, pause: u64, why: Why) {
        self.until = Some((moment.now.saturating_add(pause), why));
    }

    /// A try has succeeded: the next pause is a short one again.
    pub(super) const fn succeed(&mut self) {
        self.next_ms = self.pace.first_ms;
    }

    /// The node is accepted: all pauses are short ones again.
    pub(super) const fn accepted(&mut self) {
        self.succeed();
        self.acceptance_ms = self.pace.first_ms;
    }

    /// No pause.
    pub(super) fn clear(&mut self) {
        self.until = None;
    }
}

/// A part of a pause that the dice choose.
fn share(pause: u64, dice: u32) -> u64 {
    pause.saturating_mul(u64::from(dice)) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let pace = Pace {
            first_ms: 100,
            last_ms: 1000,
        };
        let random = Secret::zeroed();
        for dice in [0, u32::MAX / 2, u32::MAX] {
            let moment = Moment {
                now: 5,
                dice,
                wall: None,
                random: &random,
            };
            let mut pauses = Pauses::new(pace);
            for whole in [100, 200, 400, 800, 1000, 1000] {
                pauses.back_off(&moment, Why::Unreachable);
                let (left, _) = pauses.left(5).unwrap();
                assert!((whole / 2..=whole).contains(&left), "{left} of {whole}");
            }
            assert!(pauses.left(1005).is_none());
            pauses.succeed();
            pauses.back_off(&moment, Why::Unreachable);
            assert!(pauses.left(5).unwrap().0 <= 100);
        }
    }

    #[test]
    fn waiting_to_be_accepted_is_not_hurried_by_answers() {
        let pace = Pace {
            first_ms: 1000,
            last_ms: 60_000,
        };
        let random = Secret::zeroed();
        let moment = Moment {
            now: 0,
            dice: u32::MAX,
            wall: None,
            random: &random,
        };
        let mut pauses = Pauses::new(pace);
        for whole in [1000, 2000, 4000, 5000, 5000] {
            pauses.back_off(&moment, Why::NotEnrolled);
            let (left, _) = pauses.left(0).unwrap();
            assert!((whole - 1..=whole).contains(&left), "{left} of {whole}");
            pauses.succeed();
        }
        pauses.accepted();
        pauses.back_off(&moment, Why::NoPayload);
        assert!(pauses.left(0).unwrap().0 <= 1000);
    }

    #[test]
    fn retry_after_is_kept_and_bounded() {
        let pace = Pace {
            first_ms: 100,
            last_ms: 1000,
        };
        let random = Secret::zeroed();
        for (seconds, least, most) in [
            (0, 100, 113),
            (3, 3000, 3375),
            (u64::MAX, MAX_RETRY_AFTER_MS, MAX_RETRY_AFTER_MS / 8 * 9),
        ] {
            for dice in [0, u32::MAX] {
                let moment = Moment {
                    now: 0,
                    dice,
                    wall: None,
                    random: &random,
                };
                let mut pauses = Pauses::new(pace);
                pauses.wait_for(&moment, Some(seconds), Why::Busy);
                let (left, _) = pauses.left(0).unwrap();
                assert!((least..=most).contains(&left), "{seconds}: {left}");
            }
        }
    }
}
