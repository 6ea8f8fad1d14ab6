//! When the verifier is asked for revocations: after an attestation, or once when a payload has landed.

use super::end::End;
use super::step::CaughtUp;
use super::{Mode, Moment, Outbound};

/// Whether and when to ask.
#[derive(Default)]
pub(super) struct News {
    is_due: bool,
    /// Whether the one time of a provisioning has come.
    asked: bool,
    /// Not before this time, in milliseconds: the verifier knows nothing of it.
    from: u64,
}

impl News {
    /// An attestation was judged.
    pub(super) fn judged(&mut self, moment: &Moment<'_>) {
        self.is_due = moment.now >= self.from;
    }

    pub(super) fn take_due(&mut self) -> bool {
        core::mem::take(&mut self.is_due)
    }
}

impl Outbound {
    /// Whether the verifier can be asked: there is a session, and nothing of a release is open.
    pub(super) fn may_catch_up(&self) -> bool {
        self.line.token().is_some() && self.owes_cap.is_none()
    }

    /// Whether a payload has landed, its script has ended, and the verifier is still to be asked. True once.
    pub(super) fn catches_up_at_end(&mut self) -> bool {
        let has_landed = matches!(
            self.end,
            Some(End::Finished | End::Script(_) | End::NotRun(_))
        );
        self.config.mode == Mode::Provision
            && has_landed
            && self.may_catch_up()
            && !core::mem::replace(&mut self.news.asked, true)
    }

    /// The verifier was asked for revocations, with this result. Whatever it is, it changes no end.
    pub fn caught_up(&mut self, moment: &Moment<'_>, result: CaughtUp) {
        match result {
            CaughtUp::Answered { status: 401 } => self.line.close(),
            // Keylime's verifier has no such route.
            CaughtUp::Answered { status: 404 } => {
                self.news.from = moment.now.saturating_add(UNKNOWN_MS);
            }
            _ => {}
        }
    }

    /// How it will end, whatever comes of the revocations that are asked for: for a shell that has no more time for them.
    #[must_use]
    pub const fn settled(&self) -> Option<&End> {
        if self.news.asked {
            self.end.as_ref()
        } else {
            None
        }
    }
}

/// How long a verifier without these routes isn't asked again: it may be replaced by a newer one.
const UNKNOWN_MS: u64 = 60 * 60 * 1000;
