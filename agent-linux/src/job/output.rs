//! What a job writes: read as fast as it comes, kept only at its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionbio, read};
use zeroize::{Zeroize, Zeroizing};

/// What becomes of a job's output besides the kept end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputPolicy {
    /// Nothing: it may hold secrets.
    Quiet,
    /// Its first 64 KiB go to the log, line by line.
    Log,
}

/// How much of the end is kept.
pub const TAIL_BYTES: usize = 4 * 1024;

/// How much of it goes to the log.
const MAX_LOGGED_BYTES: usize = 64 * 1024;

/// The reading side of a job's output.
pub(super) struct Output {
    pipe: Option<OwnedFd>,
    policy: OutputPolicy,
    name: String,
    tail: Zeroizing<Vec<u8>>,
    line: Zeroizing<Vec<u8>>,
    logged: usize,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd, policy: OutputPolicy, name: String) -> Self {
        let kept = |bytes| Zeroizing::new(Vec::with_capacity(bytes));
        Self {
            pipe: Some(pipe),
            policy,
            name,
            tail: kept(2 * TAIL_BYTES),
            line: kept(MAX_LINE_BYTES),
            logged: 0,
        }
    }

    /// Where to wait for more; `None` once everyone has closed it.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes in what is there; blocks if nothing is. `false` if nothing came.
    pub(super) fn read(&mut self) -> bool {
        let Some(pipe) = &self.pipe else {
            return false;
        };
        let mut chunk = [0; CHUNK_BYTES];
        let got = match read(pipe, &mut chunk) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(count) => {
                self.take_in(chunk.get(..count).unwrap_or_default());
                true
            }
            Err(Errno::INTR) => true,
            Err(_) => false,
        };
        chunk.zeroize();
        got
    }

    /// Takes in what is left after the end, without waiting for more.
    pub(super) fn drain(&mut self) {
        if self
            .pipe
            .as_ref()
            .is_some_and(|pipe| ioctl_fionbio(pipe, true).is_ok())
        {
            for _ in 0..MAX_LEFT_BYTES / CHUNK_BYTES {
                if !self.read() {
                    break;
                }
            }
        }
        self.pipe = None;
        if !self.line.is_empty() {
            self.log_line();
        }
    }

    /// The end of the output.
    pub(super) fn into_tail(mut self) -> Zeroizing<Vec<u8>> {
        self.trim();
        self.tail
    }

    fn take_in(&mut self, bytes: &[u8]) {
        // Pieces so small that the buffer, made with room for one more tail, never moves and leaves a copy.
        for piece in bytes.chunks(TAIL_BYTES) {
            if self.tail.len() + piece.len() > 2 * TAIL_BYTES {
                self.trim();
            }
            self.tail.extend_from_slice(piece);
        }
        if self.policy == OutputPolicy::Log {
            self.log(bytes);
        }
    }

    fn trim(&mut self) {
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.copy_within(surplus.., 0);
        let kept = self.tail.len() - surplus;
        if let Some(rest) = self.tail.get_mut(kept..) {
            rest.zeroize();
        }
        self.tail.truncate(kept);
    }

    fn log(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() == MAX_LINE_BYTES {
                self.log_line();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }

    fn log_line(&mut self) {
        if self.logged < MAX_LOGGED_BYTES {
            log::info!("{}: {}", self.name, String::from_utf8_lossy(&self.line));
            self.logged += self.line.len() + 1;
            if self.logged >= MAX_LOGGED_BYTES {
                let name = &self.name;
                log::warn!(
                    "{name} writes more than {MAX_LOGGED_BYTES} bytes: the rest isn't logged"
                );
            }
        }
        self.line.zeroize();
    }
}

const CHUNK_BYTES: usize = 8 * 1024;
/// A longer line is logged in pieces.
const MAX_LINE_BYTES: usize = 512;
/// What may be left in the pipe after the end: its capacity, at most 1 MiB.
const MAX_LEFT_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut output = Output::new(reader.into(), OutputPolicy::Log, "a".into());
        let capacity = output.line.capacity();
        output.take_in(&vec![b'x'; 1_000_000]);
        output.take_in(&vec![b'\n'; 1_000_000]);
        assert!(
            output.logged <= MAX_LOGGED_BYTES + MAX_LINE_BYTES,
            "{}",
            output.logged
        );
        assert_eq!(output.line.capacity(), capacity, "the buffer moved");
    }

    #[test]
    fn tails() {
        let rows = [
            0,
            1,
            TAIL_BYTES - 1,
            TAIL_BYTES,
            TAIL_BYTES + 1,
            2 * TAIL_BYTES,
            3 * TAIL_BYTES + 7,
            100_000,
        ];
        for total in rows {
            let text: Vec<u8> = (0..total)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            let (reader, _writer) = std::io::pipe().unwrap();
            let mut output = Output::new(reader.into(), OutputPolicy::Quiet, "a".into());
            for piece in text.chunks(5000) {
                output.take_in(piece);
            }
            let capacity = output.tail.capacity();
            let tail = output.into_tail();
            assert_eq!(
                tail.as_slice(),
                &text[total.saturating_sub(TAIL_BYTES)..],
                "{total}"
            );
            assert_eq!(
                (tail.capacity(), capacity),
                (2 * TAIL_BYTES, 2 * TAIL_BYTES),
                "the buffer moved: {total}"
            );
        }
    }
}
