//! Revocation notices: each is verified, and acted on once.

use heapless::HistoryBuf;
use sha2::{Digest, Sha256};

use super::answer::Refusal;
use super::note::Note;
use crate::revocation::{Act, Notice};

/// What has been taken since the agent started.
///
/// A notice is known by its message, not by its signature, of which a notifier can make many. The oldest is forgotten when
/// [`MAX_REMEMBERED`] newer ones have come; all of them carry the notifier's signature, so nobody else can push one out.
#[derive(Default)]
pub(super) struct Notices(HistoryBuf<[u8; 32], MAX_REMEMBERED>);

impl Notices {
    /// Takes a notice: 200 for one that is acted on now or was taken before. With what the log is to say.
    pub(super) fn take(
        &mut self,
        notice: &Notice<'_>,
        act: &impl Act,
    ) -> (Result<(), Refusal>, Note) {
        let message = match notice.verified_by(act) {
            Ok(message) => message,
            Err(error) => return (Err(Refusal::Notice(error)), Note::NoticeRefused),
        };
        let digest: [u8; 32] = Sha256::digest(message).into();
        if self.0.as_slice().contains(&digest) {
            return (Ok(()), Note::NoticeRepeated);
        }
        if act.act(message).is_err() {
            // Not remembered: it is as good as new when its sender tries again.
            return (Err(Refusal::NoticesWait), Note::NoticeTurnedAway);
        }
        self.0.write(digest);
        (Ok(()), Note::NoticeVerified)
    }
}

/// How many notices are remembered, 32 bytes each.
const MAX_REMEMBERED: usize = 64;
