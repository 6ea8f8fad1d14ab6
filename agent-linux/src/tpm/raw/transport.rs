//! Bytes to the TPM and back: the kernel's device, or swtpm's socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::tpm::TpmError;
use crate::tpm::error::Cause;
use crate::tpm::name::{Place, TctiName};

/// The largest command and the largest answer.
///
/// Source: TCG PC Client Platform TPM Profile, TPM_PT_MAX_COMMAND_SIZE; the kernel's TPM_BUFSIZE.
pub(super) const MAX_FRAME_BYTES: usize = 4096;

/// A command or an answer.
pub(super) type Frame = [u8; MAX_FRAME_BYTES];

/// Where commands go.
pub(super) enum Transport {
    /// One write is a command, one read its answer. The driver knows how long each command may take.
    Device(File),
    /// swtpm has one seat: each command has a connection of its own, so others come to their turn, and what is left of an
    /// answer that didn't come in time can't be taken for the next one.
    Tcp { host: String, port: u16 },
    /// The same over a socket in the file system.
    Unix(PathBuf),
}

impl Transport {
    /// Opens a device; a socket is opened with each command.
    ///
    /// # Errors
    /// [`TpmError::Open`]; [`TpmError::Name`] if the name leads elsewhere.
    pub(super) fn open(name: &TctiName) -> Result<Self, TpmError> {
        match name.place() {
            Place::Device(path) => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(Self::Device)
                .map_err(|error| TpmError::Open {
                    tcti: name.to_string(),
                    cause: Cause::System(error.kind()),
                }),
            Place::Swtpm { host, port } => Ok(Self::Tcp {
                host: host.clone(),
                port: *port,
            }),
            Place::SwtpmSocket(path) => Ok(Self::Unix(path.clone())),
            Place::Simulator | Place::Broker => {
                Err(name.refused("this build has no tpm2-tss: it knows device and swtpm only"))
            }
        }
    }

    /// Sends a command and returns the length of its answer.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::InvalidData`] if the answer says a length that no answer has.
    pub(super) fn exchange(&mut self, command: &[u8], answer: &mut Frame) -> io::Result<usize> {
        match self {
            Self::Device(file) => {
                file.write_all(command)?;
                file.read(answer)
            }
            Self::Tcp { host, port } => over(connect(host, *port)?, command, answer),
            Self::Unix(path) => over(UnixStream::connect(path)?, command, answer),
        }
    }
}

/// The first address of the host that answers.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in (host, port).to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, CONNECT_WITHIN);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn over(mut stream: impl Stream, command: &[u8], answer: &mut Frame) -> io::Result<usize> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    stream.limit(ANSWER_WITHIN)?;
    stream.write_all(command)?;
    let (head, body) = answer.split_at_mut(HEADER_BYTES);
    fill(&mut stream, head, deadline)?;
    let len = match *head {
        [_, _, a, b, c, d, ..] => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    };
    let body = usize::try_from(len)
        .ok()
        .and_then(|len| body.get_mut(..len.checked_sub(HEADER_BYTES)?))
        .ok_or(io::ErrorKind::InvalidData)?;
    fill(&mut stream, body, deadline)?;
    Ok(HEADER_BYTES.saturating_add(body.len()))
}

/// Fills the buffer; what comes byte by byte isn't waited for longer than the rest.
fn fill(stream: &mut impl Stream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.limit(left)?;
        match stream.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => rest = rest.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

trait Stream: Read + Write {
    /// How long one read or write may take.
    fn limit(&self, limit: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl Stream for UnixStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

/// Tag, length, code.
///
/// Source: TPM 2.0 Library part 1, section 18.
pub(super) const HEADER_BYTES: usize = 10;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// As the kernel waits for a command of unknown duration; making an RSA key takes the longest.
///
/// Source: Linux, TPM2_DURATION_DEFAULT.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::thread;

    use super::*;

    #[test]
    fn answers_are_bounded() {
        let rows: [(&str, &[u8], Result<usize, io::ErrorKind>); 6] = [
            (
                "a header",
                &[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0],
                Ok(HEADER_BYTES),
            ),
            (
                "a body",
                &[0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7, 7],
                Ok(HEADER_BYTES + 2),
            ),
            ("nothing", &[], Err(io::ErrorKind::UnexpectedEof)),
            (
                "less than it says",
                &[0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7],
                Err(io::ErrorKind::UnexpectedEof),
            ),
            (
                "shorter than a header",
                &[0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0],
                Err(io::ErrorKind::InvalidData),
            ),
            (
                "longer than a frame",
                &[0x80, 1, 0, 0, 0x10, 1, 0, 0, 0, 0],
                Err(io::ErrorKind::InvalidData),
            ),
        ];
        for (name, bytes, wanted) in rows {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let tpm = thread::spawn(move || {
                theirs.read_exact(&mut [0; 2]).unwrap();
                theirs.write_all(bytes).unwrap();
            });
            let mut answer = [0; MAX_FRAME_BYTES];
            let len = over(ours, b"ab", &mut answer).map_err(|error| error.kind());
            assert_eq!(len, wanted, "{name}");
            tpm.join().unwrap();
        }
    }

    #[test]
    fn dripping_answers_end() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        let error = fill(&mut ours, &mut [0; 2], deadline).unwrap_err();
        assert!(matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ));
        drop(theirs);
    }
}
