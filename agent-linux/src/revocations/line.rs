//! The journal's lines: fields with tabs between them.

use std::fmt;

use agent_core::revocation::{Entry, Kind, LogHead, LogId, Message};
use agent_core::wire::text::{Hex, parse_hex};

use super::record::RecordedEnd;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A payload has landed; all before is void, but what is kept.
    Land { landing: u64, head: Option<LogHead> },
    /// A message is kept that nobody could check yet, with this digest and signature.
    Keep {
        seq: u64,
        digest: [u8; 32],
        signature: Vec<u8>,
    },
    /// It was refused.
    Drop { seq: u64 },
    /// A message was taken, which may have been kept.
    Take { seq: u64, message: Message },
    /// An action of it is about to begin.
    Begin { seq: u64, name: String },
    /// It has ended.
    End {
        seq: u64,
        name: String,
        end: RecordedEnd,
        millis: u64,
    },
    /// All of them have ended.
    Done { seq: u64 },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Land { landing, head } => {
                write!(f, "{LAND}\t{landing}")?;
                head.as_ref().map_or(Ok(()), |head| {
                    write_place(f, &head.log_id, head.number, &head.previous)
                })
            }
            Self::Keep {
                seq,
                digest,
                signature,
            } => write!(f, "{KEEP}\t{seq}\t{}\t{}", Hex(digest), Hex(signature)),
            Self::Drop { seq } => write!(f, "{DROP}\t{seq}"),
            Self::Take { seq, message } => {
                write!(f, "{TAKE}\t{seq}")?;
                match message {
                    Message::Silence => Ok(()),
                    Message::Plain { digest } => write!(f, "\t{}", Hex(digest)),
                    Message::Entry(entry) => {
                        let kind = match entry.kind {
                            Kind::Crl => CRL,
                            Kind::Revocation => REVOCATION,
                        };
                        write!(f, "\t{kind}")?;
                        write_place(f, &entry.log_id, entry.number, &entry.digest)
                    }
                }
            }
            Self::Begin { seq, name } => write!(f, "{BEGIN}\t{seq}\t{name}"),
            Self::End {
                seq,
                name,
                end,
                millis,
            } => {
                write!(f, "{END}\t{seq}\t{name}\t{millis}\t")?;
                match end {
                    RecordedEnd::Exited(code) => write!(f, "{EXIT}\t{code}"),
                    RecordedEnd::Signal(signal) => write!(f, "{SIGNAL}\t{signal}"),
                    RecordedEnd::TimedOut => f.write_str(TIMED_OUT),
                    RecordedEnd::Interrupted => f.write_str(INTERRUPTED),
                    RecordedEnd::NotRun(error) => write!(f, "{ERROR}\t{}", clean(error)),
                }
            }
            Self::Done { seq } => write!(f, "{DONE}\t{seq}"),
        }
    }
}

impl Line {
    /// Reads a line without its end.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut fields = text.split('\t');
        let (word, first) = (fields.next()?, fields.next()?.parse().ok()?);
        let fields = &mut fields;
        let line = match word {
            LAND => Self::Land {
                landing: first,
                head: match fields.next() {
                    None => None,
                    Some(log_id) => {
                        let (log_id, number, previous) = place(log_id, fields)?;
                        Some(LogHead {
                            log_id,
                            number,
                            previous,
                        })
                    }
                },
            },
            KEEP => Self::Keep {
                seq: first,
                digest: digest(fields.next()?)?,
                signature: bytes(fields.next()?)?,
            },
            DROP => Self::Drop { seq: first },
            TAKE => Self::Take {
                seq: first,
                message: match fields.next()? {
                    CRL => entry(Kind::Crl, fields)?,
                    REVOCATION => entry(Kind::Revocation, fields)?,
                    hex => Message::Plain {
                        digest: digest(hex)?,
                    },
                },
            },
            BEGIN => Self::Begin {
                seq: first,
                name: fields.next()?.to_owned(),
            },
            END => Self::End {
                seq: first,
                name: fields.next()?.to_owned(),
                millis: fields.next()?.parse().ok()?,
                end: match fields.next()? {
                    EXIT => RecordedEnd::Exited(fields.next()?.parse().ok()?),
                    SIGNAL => RecordedEnd::Signal(fields.next()?.parse().ok()?),
                    TIMED_OUT => RecordedEnd::TimedOut,
                    INTERRUPTED => RecordedEnd::Interrupted,
                    ERROR => RecordedEnd::NotRun(fields.next()?.to_owned()),
                    _ => return None,
                },
            },
            DONE => Self::Done { seq: first },
            _ => return None,
        };
        fields.next().is_none().then_some(line)
    }
}

type Fields<'f, 't> = &'f mut std::str::Split<'t, char>;

fn entry(kind: Kind, fields: Fields<'_, '_>) -> Option<Message> {
    let (log_id, number, digest) = place(fields.next()?, fields)?;
    Some(Message::Entry(Entry {
        log_id,
        number,
        // It was checked when it was taken.
        previous: [0; 32],
        digest,
        kind,
    }))
}

fn place(log_id: &str, fields: Fields<'_, '_>) -> Option<(LogId, u64, [u8; 32])> {
    Some((
        LogId::parse(log_id)?,
        fields.next()?.parse().ok()?,
        digest(fields.next()?)?,
    ))
}

fn write_place(
    f: &mut fmt::Formatter<'_>,
    log_id: &LogId,
    number: u64,
    digest: &[u8; 32],
) -> fmt::Result {
    write!(f, "\t{log_id}\t{number}\t{}", Hex(digest))
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    parse_hex(hex.as_bytes())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let byte = |pair| parse_hex::<1>(pair).map(|[byte]| byte);
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// A text that fits into a field.
fn clean(text: &str) -> String {
    let letter = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(letter).take(MAX_ERROR_LETTERS).collect()
}

const LAND: &str = "land";
const KEEP: &str = "keep";
const DROP: &str = "drop";
const TAKE: &str = "take";
const BEGIN: &str = "begin";
const END: &str = "end";
const DONE: &str = "done";
const REVOCATION: &str = "revocation";
const CRL: &str = "crl";
const EXIT: &str = "exit";
const SIGNAL: &str = "signal";
const TIMED_OUT: &str = "timed_out";
const INTERRUPTED: &str = "interrupted";
const ERROR: &str = "error";
/// Longer reasons are cut.
const MAX_ERROR_LETTERS: usize = 200;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let log_id = LogId::parse(&format!("{}-{}", "ab".repeat(32), "01".repeat(8))).unwrap();
        let head = LogHead {
            log_id: log_id.clone(),
            number: 7,
            previous: [1; 32],
        };
        let entry = |kind| {
            Message::Entry(Entry {
                log_id: log_id.clone(),
                number: 8,
                previous: [0; 32],
                digest: [2; 32],
                kind,
            })
        };
        let end = |end| Line::End {
            seq: 3,
            name: "a b".into(),
            end,
            millis: 12,
        };
        let take = |message| Line::Take { seq: 3, message };
        let lines = [
            Line::Land {
                landing: 0,
                head: None,
            },
            Line::Land {
                landing: 5,
                head: Some(head),
            },
            Line::Keep {
                seq: 1,
                digest: [3; 32],
                signature: vec![0, 0xFF],
            },
            Line::Drop { seq: 1 },
            take(entry(Kind::Revocation)),
            take(entry(Kind::Crl)),
            take(Message::Plain { digest: [4; 32] }),
            Line::Begin {
                seq: 3,
                name: "../é".into(),
            },
            end(RecordedEnd::Exited(-1)),
            end(RecordedEnd::Signal(9)),
            end(RecordedEnd::TimedOut),
            end(RecordedEnd::Interrupted),
            end(RecordedEnd::NotRun("no such file".into())),
            Line::Done { seq: 3 },
        ];
        for line in lines {
            let text = line.to_string();
            assert_eq!(Line::read(&text), Some(line), "{text}");
            assert_eq!(Line::read(&format!("{text}\tx")), None, "{text}");
            for end in 0..text.rfind('\t').unwrap() {
                // A cut line is none, or not this one.
                let cut = text.get(..end).and_then(Line::read);
                assert!(cut.is_none_or(|cut| cut.to_string() != text), "{text}");
            }
        }
        for text in ["", "land", "land\tx", "done\t-1", "what\t1", "take\t1\tab"] {
            assert_eq!(Line::read(text), None, "{text}");
        }
        let error = end(RecordedEnd::NotRun("a\nb\tc".repeat(100)));
        let read = Line::read(&error.to_string()).unwrap();
        assert!(
            matches!(read, Line::End { end: RecordedEnd::NotRun(text), .. } if text.len() == 200)
        );
    }
}
