//! Answers about revocations, from what the shell knows of its log.

use heapless::string::StringView;

use super::answer;
use crate::http::Status;
use crate::revocation::{Act, Each, Heard, LogId, write_outcomes, write_standing};

/// What the sender of a notice learns: Keylime's answer, or where the log stands.
pub(super) fn answer_heard(heard: &Heard, act: &dyn Act, out: &mut StringView) -> Status {
    let of = match heard {
        Heard::Silence | Heard::Plain(_) => return answer::accept(out),
        Heard::Kept => None,
        Heard::Entry { log_id, .. } => Some(log_id),
    };
    let standing = act.standing(of);
    answer::succeed(out, |results| write_standing(results, &standing))
}

/// What became of the entries of a log, or of the one that is followed.
pub(super) fn answer_outcomes(
    of: Option<&LogId>,
    after: u64,
    act: &dyn Act,
    out: &mut StringView,
) -> Status {
    let standing = act.standing(of);
    answer::succeed(out, |results| {
        write_standing(results, &standing)?;
        let write = |each: &mut Each<'_>| {
            if let Some(log_id) = &standing.log_id {
                act.outcomes(log_id, after, each);
            }
        };
        write_outcomes(results, write).map(drop)
    })
}
