//! Answers on their way out: in one buffer, or with logs that are in none.

use core::fmt::Display;

use embedded_io::Write;
use heapless::string::StringView;

use super::logs::{LogFault, Logs, SendFault, send, survey};
use super::{Served, Shell};
use crate::agent::{Clipped, Note, Refusal, refuse};
use crate::http::Status;
use crate::http::emit::{self, MAX_ANSWER_HEAD_BYTES};
use crate::http::head::After;
use crate::wire::log::{Attached, LogKind};

/// Sends an answer with the logs that the node has, or says that they can't be had.
#[inline(never)]
pub(super) fn write_with_logs<S: Shell, C: Write>(
    io: &mut C,
    shell: &S,
    attached: &Attached,
    after: After,
    answer: &mut StringView,
    scratch: &mut [u8],
) -> Result<Served, C::Error> {
    let note = |fault: &dyn Display| shell.note(&Note::NoLog(Clipped::head(fault)));
    let lent = |kind, wanted: bool| if wanted { shell.log(kind) } else { Ok(None) };
    let ima = lent(LogKind::Ima, attached.ima().is_some());
    let found = match (ima, lent(LogKind::Boot, attached.boot())) {
        (Ok(ima), Ok(boot)) => {
            let mut logs = Logs::new(ima, boot);
            match survey(attached, &mut logs, scratch) {
                Ok(found) => Ok((logs, found)),
                Err(fault) => {
                    note(&fault);
                    Err(match fault {
                        LogFault::TooLarge(_) => Refusal::LogTooLarge,
                        _ => Refusal::NoLog,
                    })
                }
            }
        }
        _ => {
            note(&"it is being read as often as it can be");
            Err(Refusal::NoLog)
        }
    };
    let (mut logs, found) = match found {
        Ok(found) => found,
        Err(refusal) => {
            let status = refuse(refusal, answer);
            write_answer(io, status, after, answer)?;
            return Ok(Served::after(after));
        }
    };
    let more = usize::try_from(attached.length(&found)).unwrap_or(usize::MAX);
    write_head(io, Status::Ok, answer.len().saturating_add(more), after)?;
    match send(io, (attached, &found), answer, &mut logs, scratch) {
        Ok(()) => Ok(Served::after(after)),
        Err(SendFault::Io(error)) => Err(error),
        Err(SendFault::Log(fault)) => {
            // The answer has a length that it can't come to: nobody may take it for whole.
            note(&fault);
            Ok(Served::Gone)
        }
    }
}

pub(super) fn refuse_unread<C: Write>(
    io: &mut C,
    refusal: Refusal,
    answer: &mut StringView,
) -> Result<Served, C::Error> {
    let status = refuse(refusal, answer);
    write_answer(io, status, After::Close, answer)?;
    Ok(Served::CloseUnread)
}

pub(super) fn write_answer<C: Write>(
    io: &mut C,
    status: Status,
    after: After,
    body: &StringView,
) -> Result<(), C::Error> {
    write_head(io, status, body.len(), after)?;
    io.write_all(body.as_bytes())?;
    io.flush()
}

fn write_head<C: Write>(
    io: &mut C,
    status: Status,
    length: usize,
    after: After,
) -> Result<(), C::Error> {
    let mut head = heapless::String::<MAX_ANSWER_HEAD_BYTES>::new();
    // Sized for the longest.
    let _ = emit::answer_head(&mut head, status, length, after);
    io.write_all(head.as_bytes())
}
