//! Logs of a boot on their way from the shell into a body, without being held.
//!
//! A log is read once to say how long the body becomes, and once more to send just that. What it has grown by meanwhile isn't
//! sent; if it has become shorter or another one, the body stops short of its length, so that nobody takes it for whole.

use core::fmt::{self, Display};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use embedded_io::{ErrorType, Read, Seek, SeekFrom, Write};
use heapless::string::StringView;

use crate::wire::json::Escaper;
use crate::wire::limits::MAX_LOG_BYTES;
use crate::wire::log::{
    Attached, Extent, Found, LineSurvey, Lines, LogKind, LogWriter, TextWriter,
};

/// The logs that a node has, lent for one request at a time.
pub struct Logs<L: ErrorType> {
    /// IMA's list.
    pub ima: Option<L>,
    /// The firmware's event log.
    pub boot: Option<L>,
    /// Why a log was not offered that is there, for the shell's log.
    pub left_out: Option<LogFault<L::Error>>,
}

impl<L: ErrorType> Logs<L> {
    /// These logs.
    #[must_use]
    pub const fn new(ima: Option<L>, boot: Option<L>) -> Self {
        Self {
            ima,
            boot,
            left_out: None,
        }
    }

    fn of(&mut self, kind: LogKind) -> &mut Option<L> {
        match kind {
            LogKind::Ima => &mut self.ima,
            LogKind::Boot => &mut self.boot,
        }
    }
}

/// Why a log isn't sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFault<E> {
    /// The node doesn't have it.
    Missing(LogKind),
    /// It can't be read.
    Read(LogKind, E),
    /// It is larger than [`MAX_LOG_BYTES`].
    TooLarge(LogKind),
    /// It isn't any more what it was a moment ago, and it hasn't only grown.
    Changed(LogKind),
}

impl<E: Display> Display for LogFault<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, what) = match self {
            Self::Missing(kind) => (kind, "isn't there"),
            Self::TooLarge(kind) => (kind, "is larger than is sent"),
            Self::Changed(kind) => (kind, "has changed while it was sent"),
            Self::Read(kind, error) => {
                return write!(out, "{} can't be read: {error}", name(*kind));
            }
        };
        write!(out, "{} {what}", name(*kind))
    }
}

const fn name(kind: LogKind) -> &'static str {
    match kind {
        LogKind::Ima => "the IMA list",
        LogKind::Boot => "the boot log",
    }
}

/// Reads what is wanted of the logs, and says how much it is.
pub(super) fn survey<L: Read + Seek>(
    attached: &Attached,
    logs: &mut Logs<L>,
    scratch: &mut [u8],
) -> Result<Found, LogFault<L::Error>> {
    let mut found = Found::default();
    if attached.boot() {
        let extent = logs.boot.as_mut().map(|log| survey_bytes(log, scratch));
        found.boot = settle(attached, LogKind::Boot, extent, &mut logs.left_out)?;
    }
    if let Some(lines) = attached.ima() {
        let is_whole_else = matches!(attached, Attached::Results { .. });
        let extent = logs.ima.as_mut().map(|log| {
            let extent = survey_lines(log, lines, scratch)?;
            if is_whole_else && extent.first > extent.total {
                return survey_lines(log, Lines::from(0), scratch);
            }
            Ok(extent)
        });
        found.ima = settle(attached, LogKind::Ima, extent, &mut logs.left_out)?;
    }
    Ok(found)
}

/// A log that was asked for has to be sent; one that can't be isn't offered.
fn settle<E>(
    attached: &Attached,
    kind: LogKind,
    extent: Option<Result<Extent, LogFault<E>>>,
    left_out: &mut Option<LogFault<E>>,
) -> Result<Option<Extent>, LogFault<E>> {
    match (attached, extent) {
        (Attached::Collected { .. }, None) => Err(LogFault::Missing(kind)),
        (Attached::Supported, Some(Err(fault))) => {
            *left_out = Some(fault);
            Ok(None)
        }
        (_, extent) => extent.transpose(),
    }
}

fn survey_lines<L: Read + Seek>(
    log: &mut L,
    lines: Lines,
    scratch: &mut [u8],
) -> Result<Extent, LogFault<L::Error>> {
    let mut survey = LineSurvey::new(lines);
    read_all(LogKind::Ima, log, scratch, |bytes| survey.feed(bytes))?;
    Ok(survey.finish())
}

fn survey_bytes<L: Read + Seek>(
    log: &mut L,
    scratch: &mut [u8],
) -> Result<Extent, LogFault<L::Error>> {
    read_all(LogKind::Boot, log, scratch, |_| ()).map(Extent::of_bytes)
}

/// Reads a log from its start to its present end; how many bytes that is.
fn read_all<L: Read + Seek>(
    kind: LogKind,
    log: &mut L,
    scratch: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<u64, LogFault<L::Error>> {
    let fail = |error| LogFault::Read(kind, error);
    log.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut bytes = 0u64;
    loop {
        let read = log.read(scratch).map_err(fail)?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if bytes > MAX_LOG_BYTES {
            return Err(LogFault::TooLarge(kind));
        }
        each(scratch.get(..read).unwrap_or_default());
    }
}

/// Why a body with logs wasn't sent whole.
pub(super) enum SendFault<E, L> {
    /// The stream's.
    Io(E),
    /// A log's.
    Log(LogFault<L>),
}

/// Sends a body with what was found of the logs in it, `length` bytes in all. The body's buffer becomes the stream's.
pub(super) fn send<C: Write, L: Read + Seek>(
    io: &mut C,
    (attached, found): (&Attached, &Found),
    body: &mut StringView,
    logs: &mut Logs<L>,
    scratch: &mut [u8],
) -> Result<(), SendFault<C::Error, L::Error>> {
    let tail = attached.tail();
    for _ in tail.chars() {
        let _ = body.pop();
    }
    let mut spill = Spill {
        io,
        logs,
        scratch,
        buffer: body,
        fault: None,
    };
    let written = attached
        .write(found, &mut spill)
        .and_then(|()| fmt::Write::write_str(&mut spill, tail))
        .and_then(|()| spill.empty());
    match (written, spill.fault) {
        (Ok(()), None) => io.flush().map_err(SendFault::Io),
        // Nothing else makes a spill fail.
        (_, fault) => Err(fault.unwrap_or(SendFault::Log(LogFault::Changed(LogKind::Ima)))),
    }
}

/// A body on its way, in pieces as large as the buffer.
struct Spill<'a, C: Write, L: Read + Seek> {
    io: &'a mut C,
    logs: &'a mut Logs<L>,
    /// Where a piece of a log lies.
    scratch: &'a mut [u8],
    buffer: &'a mut StringView,
    fault: Option<SendFault<C::Error, L::Error>>,
}

impl<C: Write, L: Read + Seek> Spill<'_, C, L> {
    fn empty(&mut self) -> fmt::Result {
        let sent = self.io.write_all(self.buffer.as_bytes());
        self.buffer.clear();
        self.check(sent)
    }

    fn check(&mut self, sent: Result<(), C::Error>) -> fmt::Result {
        sent.map_err(|error| {
            self.fault = Some(SendFault::Io(error));
            fmt::Error
        })
    }

    fn spoil<T>(&mut self, fault: LogFault<L::Error>) -> Result<T, fmt::Error> {
        self.fault = Some(SendFault::Log(fault));
        Err(fmt::Error)
    }

    fn stream(
        &mut self,
        kind: LogKind,
        extent: &Extent,
        log: &mut L,
        scratch: &mut [u8],
    ) -> fmt::Result {
        if let Err(error) = log.seek(SeekFrom::Start(extent.start)) {
            return self.spoil(LogFault::Read(kind, error));
        }
        let (mut left, mut text) = (extent.bytes, TextWriter::default());
        let mut written = Metered {
            left: extent.written,
            out: self,
        };
        while left > 0 {
            let piece = usize::try_from(left).map_or(scratch.len(), |left| left.min(scratch.len()));
            // Base64 of three bytes each time needs no padding before the end.
            let whole = piece.saturating_sub(piece.checked_rem(3).unwrap_or_default());
            let piece = if whole == 0 { piece } else { whole };
            let bytes = scratch.get_mut(..piece).unwrap_or_default();
            match fill(log, bytes) {
                Ok(true) => {}
                Ok(false) => return written.out.spoil(LogFault::Changed(kind)),
                Err(error) => return written.out.spoil(LogFault::Read(kind, error)),
            }
            let sent = match kind {
                LogKind::Ima => text.feed(bytes, &mut Escaper(&mut written)),
                LogKind::Boot => {
                    let base64 = Base64Display::new(bytes, &STANDARD);
                    fmt::Write::write_fmt(&mut written, format_args!("{base64}"))
                }
            };
            if let Err(error) = sent {
                return match written.out.fault {
                    Some(_) => Err(error),
                    None => written.out.spoil(LogFault::Changed(kind)),
                };
            }
            left = left.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
        }
        match written.left {
            0 => Ok(()),
            _ => written.out.spoil(LogFault::Changed(kind)),
        }
    }
}

impl<C: Write, L: Read + Seek> fmt::Write for Spill<'_, C, L> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.buffer.push_str(text).is_ok() {
            return Ok(());
        }
        self.empty()?;
        if self.buffer.push_str(text).is_ok() {
            return Ok(());
        }
        let sent = self.io.write_all(text.as_bytes());
        self.check(sent)
    }
}

impl<C: Write, L: Read + Seek> LogWriter for Spill<'_, C, L> {
    fn log(&mut self, kind: LogKind, extent: &Extent) -> fmt::Result {
        if extent.bytes == 0 {
            // Seeking in the kernel's list costs as much as reading to there.
            return Ok(());
        }
        let Some(mut log) = self.logs.of(kind).take() else {
            return self.spoil(LogFault::Missing(kind));
        };
        let scratch = core::mem::take(&mut self.scratch);
        let streamed = self.stream(kind, extent, &mut log, scratch);
        self.scratch = scratch;
        *self.logs.of(kind) = Some(log);
        streamed
    }
}

/// Passes on as many bytes as were announced, and no more.
struct Metered<'s, W> {
    left: u64,
    out: &'s mut W,
}

impl<W: fmt::Write> fmt::Write for Metered<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or(fmt::Error)?;
        self.out.write_str(text)
    }
}

/// Fills the bytes; `false` if the log ends before.
fn fill<L: Read>(log: &mut L, mut bytes: &mut [u8]) -> Result<bool, L::Error> {
    while !bytes.is_empty() {
        let read = log.read(bytes)?;
        if read == 0 {
            return Ok(false);
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
    }
    Ok(true)
}
